//! "The month's consumption is invoiced at its end": bill runs, previews, evidence, numbers, months and zones.

use std::collections::BTreeMap;

use octroi_api::billing::v1::{
    Account, BillRun, CreateAccountRequest, CreateBillRunRequest, GetBillRunRequest,
    GetInvoiceRequest, Invoice, InvoiceLineDay, ListBillRunsRequest, PreviewInvoiceRequest,
    UpdateAccountRequest, UsagePolicy, invoice,
};
use octroi_api::licensing::v1::{
    DayUsage, DeleteLicenseRequest, OfferUsage, QueryUsageRequest, ReleaseLicenseRequest,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, ENTERPRISE, Installation, Options, Price, ServiceName,
    account, amount, at, instant, request_id,
};
use prost_types::FieldMask;
use tonic::Code;

#[tokio::test]
async fn after_the_months_end() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 10), (ENTERPRISE, 5)])
        .await;
    for number in [1, 2, 3, 11] {
        acme.activates("office", number, &format!("user{number}"))
            .await;
    }
    let refused = octroi.asks_to_bill("2026-02", false).await.refused();
    refused.is(Code::FailedPrecondition, "MONTH_NOT_ENDED");
    // In Paris the month has ended, but what licensing recorded in its last minute may be on its way.
    octroi.advance_to("2026-02-28T23:00:05Z").await;
    let refused = octroi.asks_to_bill("2026-02", false).await.refused();
    refused.is(Code::FailedPrecondition, "USAGE_BEHIND");
    octroi.advance_to("2026-02-28T23:05:00Z").await;
    let preview = acme.preview("2026-02").await;
    let dry = octroi.tries_to_bill("2026-02").await;
    assert_eq!((dry.accounts, dry.invoices, dry.failed), (1, 1, 0));
    assert_eq!(acme.invoices().await, []);
    let run = octroi.bills("2026-02").await;
    assert_eq!((run.invoices, &run.totals), (dry.invoices, &dry.totals));

    let invoices = acme.invoices().await;
    let [invoice] = invoices.as_slice() else {
        panic!("one invoice: {invoices:?}");
    };
    let name = invoice.name.clone();
    assert_eq!(
        &acme
            .by
            .invoices()
            .get_invoice(GetInvoiceRequest { name })
            .await
            .got(),
        invoice
    );
    assert_eq!(
        (invoice.state(), invoice.kind()),
        (invoice::State::Open, invoice::Kind::BillRun)
    );
    assert_eq!(
        (invoice.number.as_str(), invoice.month.as_str()),
        ("F-2026-000001", "2026-02")
    );
    assert_eq!(
        (invoice.issue_date.as_str(), invoice.due_date.as_str()),
        ("2026-03-01", "2026-03-31")
    );
    assert_eq!(
        instant(invoice.period_start_time),
        at("2026-01-31T23:00:00Z")
    );
    assert_eq!(instant(invoice.period_end_time), at("2026-02-28T23:00:00Z"));
    assert!(
        invoice.specimen
            && invoice
                .mentions
                .iter()
                .any(|line| line.contains("SPECIMEN"))
    );
    let mentions = invoice.mentions.join("\n");
    for said in [
        "40.00 EUR",
        "Late payment",
        "31 March 2026",
        "No discount for early payment.",
    ] {
        assert!(mentions.contains(said), "{said} in {mentions}");
    }
    assert!(!mentions.contains("escompte"), "{mentions}");
    let [business, enterprise] = invoice.lines.as_slice() else {
        panic!("a line an offer: {invoice:?}");
    };
    assert_eq!((business.offer.as_str(), business.quantity), (BUSINESS, 3));
    assert_eq!(amount(business.amount.as_ref()), "29.97 EUR");
    assert_eq!(
        (enterprise.offer.as_str(), enterprise.quantity),
        (ENTERPRISE, 1)
    );
    assert_eq!(amount(enterprise.amount.as_ref()), "13.99 EUR");
    assert_eq!(business.license_group, acme.group_name("office"));
    assert_eq!(business.usage_policy(), UsagePolicy::Peak);
    assert_eq!(
        (business.days.len(), business.days[0].date.as_str()),
        (27, "2026-02-02")
    );
    assert_eq!(amount(invoice.net.as_ref()), "43.96 EUR");
    assert_eq!(amount(invoice.tax.as_ref()), "8.79 EUR");
    assert_eq!(amount(invoice.total.as_ref()), "52.75 EUR");
    assert_eq!(
        (invoice.taxes.len(), invoice.lines[0].tax_rate_ppm),
        (1, 200_000)
    );
    assert_eq!(run.totals, [invoice.total.clone().unwrap()]);
    assert_eq!(figures(&preview), figures(invoice));
    assert_evidence(&acme, invoice, "2026-02").await;
    let email = acme.receives("invoice-issued", 1).await;
    assert!(
        email.text_body.contains("F-2026-000001"),
        "{}",
        email.text_body
    );
    octroi.finish().await;
}

#[tokio::test]
async fn by_the_three_policies() {
    for (policy, quantity, base, charged) in [
        ("PEAK", 2, 1, "19.98 EUR"),
        ("DISTINCT", 3, 1, "29.97 EUR"),
        ("DAILY", 46, 28, "16.41 EUR"),
    ] {
        let octroi = Installation::start().await;
        let price = Price {
            offer: BUSINESS,
            monthly: 9_99,
            setup: 0,
            policy,
        };
        octroi.price(price, at("2026-01-01T00:00:00Z")).await;
        let acme = octroi.customer("acme").await;
        busy_february(&octroi, &acme).await;
        octroi.advance_to("2026-03-01T08:00:00Z").await;
        octroi.bills("2026-02").await;
        let invoice = acme.invoices().await.remove(0);
        let line = &invoice.lines[0];
        let told = (
            line.quantity,
            line.price_base_quantity,
            amount(line.amount.as_ref()),
        );
        assert_eq!(told, (quantity, base, charged.to_owned()), "{policy}");
        assert_evidence(&acme, &invoice, "2026-02").await;
        let day = |date: &str| {
            let day = line.days.iter().find(|day| day.date == date).unwrap();
            (day.peak, day.end_of_day, day.seats)
        };
        assert_eq!(day("2026-02-05"), (2, 2, 3));
        assert_eq!(day("2026-02-10"), (2, 2, 3));
        assert_eq!(day("2026-02-20"), (2, 1, 2));
        assert_eq!(day("2026-02-28"), (1, 1, 1));
        octroi.finish().await;
    }
}

/// What costs nothing is invoiced, and can be neither late nor early.
#[tokio::test]
async fn for_nothing() {
    let octroi = Installation::start_at("2026-02-27T08:00:00Z").await;
    let price = Price {
        offer: BUSINESS,
        monthly: 0,
        setup: 0,
        policy: "PEAK",
    };
    octroi.price(price, at("2026-01-01T00:00:00Z")).await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let invoice = acme.invoices().await.remove(0);
    assert_eq!(invoice.state(), invoice::State::Paid);
    assert_eq!(amount(invoice.total.as_ref()), "0.00 EUR");
    let mentions = invoice.mentions.join("\n");
    assert!(mentions.contains("Paid."), "{mentions}");
    for owed in ["Late", "late", "indemnity", "discount", "escompte"] {
        assert!(!mentions.contains(owed), "{owed} in {mentions}");
    }
    octroi.finish().await;
}

/// Seat 2 all along; seat 1 with a pause, in which seat 3 took its place.
async fn busy_february(octroi: &Installation, acme: &Customer) {
    let release = |number| ReleaseLicenseRequest {
        name: acme.license_name("office", number),
        ..ReleaseLicenseRequest::default()
    };
    acme.buys("office", &[(BUSINESS, 4)]).await;
    octroi.advance_to("2026-02-03T09:00:00Z").await;
    acme.activates("office", 1, "one").await;
    acme.activates("office", 2, "two").await;
    octroi.advance_to("2026-02-05T09:00:00Z").await;
    acme.by.licenses().release_license(release(1)).await.got();
    octroi.advance_to("2026-02-05T10:00:00Z").await;
    acme.activates("office", 3, "three").await;
    octroi.advance_to("2026-02-10T09:00:00Z").await;
    acme.by.licenses().release_license(release(3)).await.got();
    octroi.advance_to("2026-02-10T12:00:00Z").await;
    acme.activates("office", 1, "four").await;
    octroi.advance_to("2026-02-20T12:00:00Z").await;
    let delete = DeleteLicenseRequest {
        name: acme.license_name("office", 1),
        ..DeleteLicenseRequest::default()
    };
    acme.by.licenses().delete_license(delete).await.got();
}

/// Twice changes nothing; accounts elsewhere are not due yet; numbers have no gap.
#[tokio::test]
async fn once_for_each_account_when_its_month_has_ended() {
    let octroi = Installation::start().await;
    let mut customers = Vec::new();
    for (id, zone) in [
        ("tokyo", "Asia/Tokyo"),
        ("paris", "Europe/Paris"),
        ("york", "America/New_York"),
    ] {
        let by = octroi.operator();
        let request = CreateAccountRequest {
            account_id: id.to_owned(),
            account: Some(Account {
                time_zone: zone.to_owned(),
                ..account(id)
            }),
            ..CreateAccountRequest::default()
        };
        by.accounts().create_account(request).await.got();
        let customer = Customer {
            id: id.to_owned(),
            by,
        };
        customer.pays_with("test-success").await;
        customer.buys("office", &[(BUSINESS, 2)]).await;
        customer.activates("office", 1, "sales").await;
        customers.push(customer);
    }
    octroi.newcomer("idle").await;
    octroi.advance_to("2026-03-01T03:00:00Z").await;
    // In New York it is still February.
    customers[2].activates("office", 2, "night").await;
    // In Tokyo and Paris it is not.
    customers[0].activates("office", 2, "night").await;
    customers[1].activates("office", 2, "night").await;
    octroi.advance_to("2026-03-01T03:02:00Z").await;
    let first = octroi.bills("2026-02").await;
    assert_eq!(
        (first.accounts, first.invoices, first.skipped, first.not_due),
        (4, 2, 1, 1)
    );
    octroi.advance_to("2026-03-01T06:00:00Z").await;
    let second = octroi.bills("2026-02").await;
    assert_eq!((second.invoices, second.skipped, second.not_due), (1, 3, 0));
    let third = octroi.bills("2026-02").await;
    assert_eq!((third.invoices, third.skipped, third.not_due), (0, 4, 0));
    let mut numbers = Vec::new();
    for (customer, quantity) in customers.iter().zip([1, 1, 2]) {
        let invoices = customer.invoices().await;
        assert_eq!(invoices.len(), 1, "{}", customer.id);
        assert_eq!(invoices[0].lines[0].quantity, quantity, "{}", customer.id);
        numbers.push(invoices[0].number.clone());
    }
    numbers.sort();
    assert_eq!(numbers, ["F-2026-000001", "F-2026-000002", "F-2026-000003"]);

    let by = octroi.operator();
    let listed = by
        .bill_runs()
        .list_bill_runs(ListBillRunsRequest::default())
        .await
        .got()
        .bill_runs;
    let names: Vec<_> = listed.iter().map(|run| &run.name).collect();
    assert_eq!(
        names,
        [&third.name, &second.name, &first.name],
        "newest first"
    );
    let missing = GetBillRunRequest {
        name: "billRuns/none".to_owned(),
    };
    by.bill_runs()
        .get_bill_run(missing)
        .await
        .refused()
        .is(Code::NotFound, "NOT_FOUND");
    let bad = CreateBillRunRequest {
        bill_run_id: "No".to_owned(),
        bill_run: Some(BillRun {
            month: "2026-2".to_owned(),
            ..BillRun::default()
        }),
        ..CreateBillRunRequest::default()
    };
    by.bill_runs()
        .create_bill_run(bad)
        .await
        .refused()
        .names(&["bill_run_id", "bill_run.month"]);
    let again = CreateBillRunRequest {
        bill_run_id: first.name.trim_start_matches("billRuns/").to_owned(),
        bill_run: Some(BillRun {
            month: "2026-02".to_owned(),
            ..BillRun::default()
        }),
        request_id: request_id(),
    };
    let taken = by.bill_runs().create_bill_run(again).await.refused();
    taken.is(Code::AlreadyExists, "ALREADY_EXISTS");
    octroi.finish().await;
}

/// An account that cannot be invoiced is parked, the others go on, and a later run tries it again.
#[tokio::test]
async fn whoever_cannot_be_invoiced_waits() {
    let octroi = Installation::with(Options {
        watched: true,
        ..Options::default()
    })
    .await;
    let watched = octroi.watched(ServiceName::Billing);
    let failed = "octroi_bill_run_accounts{outcome=\"failed\"}";
    let mut customers = Vec::new();
    for id in ["acme", "moved", "zenith"] {
        let customer = octroi.customer(id).await;
        customer.buys("office", &[(BUSINESS, 1)]).await;
        customer.activates("office", 1, "sales").await;
        customers.push(customer);
    }
    let moved = UpdateAccountRequest {
        account: Some(Account {
            name: customers[1].name(),
            address: Some(octroi_api::billing::v1::PostalAddress {
                country_code: "DE".to_owned(),
                ..account("moved").address.unwrap()
            }),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["address".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    octroi
        .operator()
        .accounts()
        .update_account(moved)
        .await
        .got();
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    let run = octroi.bills("2026-02").await;
    assert_eq!((run.invoices, run.failed), (2, 1));
    assert_eq!(watched.shows(failed).await, Some(1.0));
    assert_eq!(run.failures[0].account, "accounts/moved");
    assert_eq!(run.failures[0].reason, "TAX_RATE_MISSING");
    let preview = PreviewInvoiceRequest {
        parent: customers[1].name(),
        month: "2026-02".to_owned(),
    };
    let refused = octroi
        .operator()
        .invoices()
        .preview_invoice(preview)
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "TAX_RATE_MISSING");
    octroi
        .sql
        .execute(
            "INSERT INTO billing.tax_rate (id, country, category, rate_ppm, valid_from, create_time)
             VALUES (gen_random_uuid(), 'DE', 'S', 190000, '2021-01-01', now())",
            &[],
        )
        .await
        .unwrap();
    let run = octroi.bills("2026-02").await;
    assert_eq!((run.invoices, run.skipped, run.failed), (1, 2, 0));
    assert_eq!(watched.shows(failed).await, Some(0.0), "it is mended");
    let invoice = customers[1].invoices().await.remove(0);
    assert_eq!(amount(invoice.tax.as_ref()), "1.90 EUR");
    assert_eq!(invoice.number, "F-2026-000003");
    octroi.finish().await;
}

/// A month uses the price in force at its first instant, the first one the price that was quoted; what is issued stays.
#[tokio::test]
async fn at_the_prices_of_its_time() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    let price = |monthly| Price {
        offer: BUSINESS,
        monthly,
        setup: 0,
        policy: "PEAK",
    };
    octroi.price(price(12_00), at("2026-02-15T00:00:00Z")).await;
    octroi.price(price(15_00), at("2026-03-15T00:00:00Z")).await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let february = acme.invoices().await.remove(0);
    assert_eq!(amount(february.net.as_ref()), "9.99 EUR", "as quoted");
    let rename = UpdateAccountRequest {
        account: Some(Account {
            name: acme.name(),
            legal_name: "Acme Holding".to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["legal_name".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    acme.by.accounts().update_account(rename).await.got();
    octroi.advance_to("2026-04-01T08:00:00Z").await;
    octroi.bills("2026-03").await;
    let invoices = acme.invoices().await;
    assert_eq!(invoices[0], february, "an issued invoice never changes");
    assert_eq!(
        amount(invoices[1].net.as_ref()),
        "12.00 EUR",
        "in force on 1 March"
    );
    let buyers: Vec<_> = invoices
        .iter()
        .map(|it| it.buyer.clone().unwrap().legal_name)
        .collect();
    assert_eq!(buyers, ["acme", "Acme Holding"]);
    let frozen = octroi
        .sql
        .execute(
            "UPDATE billing.invoice SET total = total + 1, net = net + 1",
            &[],
        )
        .await;
    assert!(frozen.is_err(), "the database refuses changes");
    octroi.finish().await;
}

/// A month starts exactly where the one before ended; a new zone governs from the next end.
#[tokio::test]
async fn in_the_accounts_zone() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-02-10T08:00:00Z").await;
    let moved = UpdateAccountRequest {
        account: Some(Account {
            name: acme.name(),
            time_zone: "America/New_York".to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["time_zone".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    acme.by.accounts().update_account(moved).await.got();
    octroi.advance_to("2026-03-01T04:00:00Z").await;
    // Still February, now that New York's clocks count.
    acme.activates("office", 2, "night").await;
    octroi.advance_to("2026-04-01T12:00:00Z").await;
    octroi.bills("2026-02").await;
    octroi.bills("2026-03").await;
    let invoices = acme.invoices().await;
    let spans: Vec<_> = invoices
        .iter()
        .map(|it| (instant(it.period_start_time), instant(it.period_end_time)))
        .collect();
    assert_eq!(
        spans,
        [
            (at("2026-01-31T23:00:00Z"), at("2026-03-01T05:00:00Z")),
            (at("2026-03-01T05:00:00Z"), at("2026-04-01T04:00:00Z")),
        ]
    );
    for (invoice, month) in invoices.iter().zip(["2026-02", "2026-03"]) {
        assert_eq!(invoice.lines[0].quantity, 2, "{month}");
        assert_evidence(&acme, invoice, month).await;
    }
    octroi.finish().await;
}

/// Without the seller's legal details nothing is invoiced.
#[tokio::test]
async fn by_a_seller_that_may() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    let siren = "UPDATE billing.seller SET siren = '' RETURNING (SELECT siren FROM billing.seller)";
    let row = octroi.sql.query_one(siren, &[]).await.unwrap();
    let siren: String = row.get(0);
    let refused = octroi.asks_to_bill("2026-02", false).await.refused();
    refused.is(Code::FailedPrecondition, "SELLER_INCOMPLETE");
    octroi
        .sql
        .execute("UPDATE billing.seller SET siren = $1", &[&siren])
        .await
        .unwrap();
    assert_eq!(octroi.bills("2026-02").await.invoices, 1);
    octroi.finish().await;
}

#[tokio::test]
async fn usage_can_be_asked_for() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    busy_february(&octroi, &acme).await;
    let usage = usage(&acme, "2026-02").await;
    let offer = &usage[BUSINESS];
    assert_eq!((offer.peak, offer.distinct), (2, 3));
    assert_eq!(offer.seat_days, 18 + 3 + 11 + 6, "until today");
    let bad = QueryUsageRequest {
        name: acme.name(),
        month: "2026-13".to_owned(),
    };
    acme.by
        .groups()
        .query_usage(bad)
        .await
        .refused()
        .names(&["name", "month"]);
    let missing = QueryUsageRequest {
        name: acme.group_name("none"),
        month: "2026-02".to_owned(),
    };
    let refused = acme.by.groups().query_usage(missing).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");
    octroi.finish().await;
}

/// What an invoice and its preview must agree in.
fn figures(invoice: &Invoice) -> impl PartialEq + std::fmt::Debug {
    (
        invoice.lines.clone(),
        invoice.taxes.clone(),
        (
            invoice.net.clone(),
            invoice.tax.clone(),
            invoice.total.clone(),
        ),
    )
}

/// QueryUsage shows the same days as the invoice, and the quantity that its policy charges.
pub async fn assert_evidence(customer: &Customer, invoice: &Invoice, month: &str) {
    let usage = usage(customer, month).await;
    for line in &invoice.lines {
        let offer = &usage[&line.offer];
        let days: Vec<_> = offer.days.iter().map(same_day).collect();
        assert_eq!(days, line.days, "{month}");
        let quantity = match line.usage_policy() {
            UsagePolicy::Peak => offer.peak,
            UsagePolicy::Distinct => offer.distinct,
            UsagePolicy::Daily => offer.seat_days,
            UsagePolicy::Unspecified => panic!("a line without a policy: {line:?}"),
        };
        assert_eq!(quantity, line.quantity, "{month}");
    }
}

fn same_day(day: &DayUsage) -> InvoiceLineDay {
    InvoiceLineDay {
        date: day.date.clone(),
        peak: day.peak,
        end_of_day: day.end_of_day,
        seats: day.seats,
    }
}

async fn usage(customer: &Customer, month: &str) -> BTreeMap<String, OfferUsage> {
    let request = QueryUsageRequest {
        name: customer.group_name("office"),
        month: month.to_owned(),
    };
    let usage = customer.by.groups().query_usage(request).await.got();
    let offers = usage.offers.into_iter();
    offers.map(|offer| (offer.offer.clone(), offer)).collect()
}
