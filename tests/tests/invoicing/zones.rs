//! Months that a change of time zone makes shorter.

use octroi_api::billing::v1::{Account, Invoice};
use octroi_api::licensing::v1::QueryUsageRequest;
use octroi_tests::harness::{Answer as _, BUSINESS, Installation, Price, amount, at};

use crate::late::{believe_complete, hold_back, let_go};
use crate::{customer_in, figures};

/// Month, quantity, days that the price is for, and amount of each line.
fn lines(invoice: &Invoice) -> Vec<(&str, i32, i32, String)> {
    let mut lines = Vec::new();
    for line in &invoice.lines {
        let charged = amount(line.amount.as_ref());
        lines.push((
            line.month.as_str(),
            line.quantity,
            line.price_base_quantity,
            charged,
        ));
    }
    lines
}

/// A month that loses a day to the date line is a whole month: its price is for the days that it had.
#[tokio::test(flavor = "multi_thread")]
async fn a_month_s_price_is_for_the_days_that_it_had() {
    let octroi = Installation::start_at("2026-10-31T08:00:00Z").await;
    let price = Price {
        offer: BUSINESS,
        monthly: 10_99,
        setup: 0,
        policy: "DAILY",
    };
    octroi.price(price, at("2026-01-01T00:00:00Z")).await;
    let acme = customer_in(&octroi, "acme", "FR", "Pacific/Pago_Pago").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-11-15T00:00:00Z").await;
    let moved = Account {
        time_zone: "Pacific/Kiritimati".to_owned(),
        ..Account::default()
    };
    acme.changes(&["time_zone"], moved).await.got();
    let running = acme.preview("2026-11").await;
    assert_eq!(
        lines(&running),
        [("2026-11", 14, 29, "5.31 EUR".to_owned())]
    );
    octroi.advance_to("2026-11-29T08:00:00Z").await;
    octroi.drained().await;
    // Billing hears of a second seat on the last two days only after November was invoiced.
    hold_back(&octroi, 2).await;
    acme.activates("office", 2, "support").await;
    octroi.advance_to("2026-11-30T10:05:00Z").await;
    believe_complete(&octroi).await;
    let november = [("2026-11", 29, 29, "10.99 EUR".to_owned())];
    assert_eq!(lines(&acme.preview("2026-11").await), november);
    let dry = octroi.tries_to_bill("2026-11").await;
    assert_eq!(figures(&dry), [1, 1, 0, 0, 0], "{dry:?}");
    assert_eq!(amount(dry.totals.first()), "13.19 EUR");
    let run = octroi.bills("2026-11").await;
    assert_eq!(run.totals, dry.totals);
    let invoice = acme.invoices().await.remove(0);
    assert_eq!(lines(&invoice), november);
    let query = QueryUsageRequest {
        name: acme.group_name("office"),
        month: "2026-11".to_owned(),
    };
    let told = acme.by.groups().query_usage(query).await.got();
    assert_eq!(
        (told.start_time, told.end_time),
        (invoice.period_start_time, invoice.period_end_time)
    );
    let dates = |dates: Vec<&String>| dates.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        dates(told.offers[0].days.iter().map(|day| &day.date).collect()),
        dates(invoice.lines[0].days.iter().map(|day| &day.date).collect())
    );

    let_go(&octroi).await;
    assert_eq!(
        lines(&acme.preview("2026-12").await),
        [
            ("2026-12", 2, 31, "0.71 EUR".to_owned()),
            ("2026-11", 2, 29, "0.76 EUR".to_owned())
        ]
    );
    octroi.finish().await;
}
