//! Usage that billing hears of after the month was invoiced.

use octroi_api::billing::v1::Invoice;
use octroi_api::licensing::v1::ReleaseLicenseRequest;
use octroi_tests::harness::{Answer as _, BUSINESS, Installation};

use crate::figures;

/// From now on, what licensing records of the office's licence is held back on its way to billing.
pub(crate) async fn hold_back(octroi: &Installation, license: i32) {
    let hold = format!(
        "CREATE FUNCTION licensing.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.subscriber = 'billing' AND NEW.aggregate LIKE '%/licenses/{license}' THEN
                 NEW.due_at := 'infinity'; NEW.attempts := 8;
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER hold BEFORE INSERT ON licensing.delivery
             FOR EACH ROW EXECUTE FUNCTION licensing.hold()"
    );
    octroi.sql.batch_execute(&hold).await.unwrap();
}

/// Makes billing believe that it has heard everything until now.
pub(crate) async fn believe_complete(octroi: &Installation) {
    octroi
        .sql
        .execute(
            "UPDATE billing.intake_progress SET complete_through = $1",
            &[&octroi.now().await],
        )
        .await
        .unwrap();
}

/// What was held back arrives.
pub(crate) async fn let_go(octroi: &Installation) {
    octroi
        .sql
        .batch_execute(
            "DROP TRIGGER hold ON licensing.delivery;
             UPDATE licensing.delivery SET attempts = 0, due_at = clock_timestamp()",
        )
        .await
        .unwrap();
    octroi.drained().await;
}

/// How many closed months are still to be put right.
async fn marks(octroi: &Installation) -> i64 {
    let count = "SELECT count(*) FROM billing.late_usage";
    octroi.sql.query_one(count, &[]).await.unwrap().get(0)
}

/// The month and the quantity of each line.
fn lines(invoice: &Invoice) -> Vec<(String, i32)> {
    let lines = invoice.lines.iter();
    lines.map(|it| (it.month.clone(), it.quantity)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_told_late_is_charged_on_the_next_invoice() {
    let octroi = Installation::start_at("2026-02-27T08:00:00Z").await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.drained().await;
    // The second seat's event is held back on its way, and billing is made to believe that it has heard everything.
    hold_back(&octroi, 2).await;
    acme.activates("office", 2, "support").await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    let refused = octroi.asks_to_bill("2026-02", false).await.refused();
    refused.is(tonic::Code::FailedPrecondition, "USAGE_BEHIND");
    believe_complete(&octroi).await;
    let run = octroi.bills("2026-02").await;
    assert_eq!(figures(&run), [1, 1, 0, 0, 0], "{run:?}");
    let_go(&octroi).await;
    // A second run leaves the closed month alone.
    let again = octroi.bills("2026-02").await;
    assert_eq!(figures(&again), [1, 0, 1, 0, 0], "{again:?}");

    octroi.advance_to("2026-04-01T08:00:00Z").await;
    // The closed month is shown whole, as it is known by now; what is left of it goes to the next one.
    let whole = acme.preview("2026-02").await;
    assert_eq!(lines(&whole), [("2026-02".to_owned(), 2)]);
    let expected = acme.preview("2026-03").await;
    octroi.bills("2026-03").await;
    let invoices = acme.invoices().await;
    assert_eq!(lines(&invoices[0]), [("2026-02".to_owned(), 1)]);
    assert_eq!(
        lines(&invoices[1]),
        [("2026-03".to_owned(), 2), ("2026-02".to_owned(), 1)]
    );
    assert_eq!(invoices[1].lines, expected.lines);
    assert_eq!(marks(&octroi).await, 0);
    octroi.advance_to("2026-05-01T08:00:00Z").await;
    octroi.bills("2026-04").await;
    assert_eq!(
        lines(&acme.invoices().await[2]),
        [("2026-04".to_owned(), 2)]
    );
    octroi.finish().await;
}

/// News that means less usage than was charged makes no negative line: the month waits for a credit note.
#[tokio::test(flavor = "multi_thread")]
async fn news_of_less_usage_takes_nothing_back() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.drained().await;
    octroi.advance_to("2026-02-10T08:00:00Z").await;
    hold_back(&octroi, 1).await;
    let release = ReleaseLicenseRequest {
        name: acme.license_name("office", 1),
        ..ReleaseLicenseRequest::default()
    };
    acme.by.licenses().release_license(release).await.got();
    octroi.advance_to("2026-02-12T08:00:00Z").await;
    acme.activates("office", 2, "support").await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    believe_complete(&octroi).await;
    octroi.bills("2026-02").await;
    assert_eq!(
        lines(&acme.invoices().await[0]),
        [("2026-02".to_owned(), 2)],
        "as far as was known"
    );
    let_go(&octroi).await;
    assert_eq!(marks(&octroi).await, 1);
    octroi.advance_to("2026-04-01T08:00:00Z").await;
    octroi.bills("2026-03").await;
    assert_eq!(
        lines(&acme.invoices().await[1]),
        [("2026-03".to_owned(), 1)]
    );
    assert_eq!(marks(&octroi).await, 1, "the mark stays");
    octroi.finish().await;
}

/// A month that was closed without an invoice is charged on the next one when its usage comes to be known.
#[tokio::test(flavor = "multi_thread")]
async fn a_month_without_an_invoice_is_charged_later() {
    let octroi = Installation::start_at("2026-02-27T08:00:00Z").await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    octroi.drained().await;
    hold_back(&octroi, 1).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    believe_complete(&octroi).await;
    let run = octroi.bills("2026-02").await;
    assert_eq!(figures(&run), [1, 0, 1, 0, 0], "{run:?}");
    assert_eq!(acme.invoices().await, []);
    let_go(&octroi).await;
    assert_eq!(marks(&octroi).await, 1);
    octroi.advance_to("2026-04-01T08:00:00Z").await;
    octroi.bills("2026-03").await;
    assert_eq!(
        lines(&acme.invoices().await[0]),
        [("2026-03".to_owned(), 1), ("2026-02".to_owned(), 1)]
    );
    assert_eq!(marks(&octroi).await, 0);
    octroi.finish().await;
}
