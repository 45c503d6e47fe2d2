//! "What is due now": a quote is frozen when it is made, whatever changes before it is paid.

use octroi_api::billing::v1::{
    Account, QuoteOrderRequest, QuotedLine, SettleOrderRequest, settle_order_response,
};
use octroi_api::licensing::v1::{CreateOrderRequest, Order, order};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Installation, ServiceName, amount, eventually, lines, new_group,
};
use tonic::Code;

use crate::paying::setup_fee;

/// A customer who moves is invoiced at the new address, at the tax that was quoted.
#[tokio::test]
async fn whoever_moves_pays_what_was_quoted() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    // Nothing is due, and no tax rate is known for where the customer moves.
    acme.asks_for("free", new_group("free"), &[(BUSINESS, 1)])
        .await
        .got();
    setup_fee(&octroi, 1_00).await;
    let asked = acme.asks_for("o1", new_group("office"), &[(BUSINESS, 2)]);
    let quote = asked.await.got().quote.unwrap();
    assert_eq!(
        (&*quote.tax_category, quote.tax_rate_ppm),
        ("S", 200_000),
        "France's"
    );
    acme.moves_to("DE").await;
    for order in ["free", "o1"] {
        let paid = acme.pays(order).await.got();
        assert_eq!(paid.state(), order::State::Completed, "{order}");
    }
    let invoices = acme.invoices().await;
    let [invoice] = invoices.as_slice() else {
        panic!("one invoice: {invoices:?}");
    };
    let buyer = invoice.buyer.clone().unwrap();
    assert_eq!(buyer.address.unwrap().country_code, "DE");
    assert_eq!(amount(invoice.total.as_ref()), "2.40 EUR");
    assert_eq!(
        (&*invoice.taxes[0].category, invoice.taxes[0].rate_ppm),
        ("S", 200_000)
    );
    // The next order is quoted where the customer is now.
    let refused = acme
        .asks_for("o2", new_group("berlin"), &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "TAX_RATE_MISSING");
    octroi.finish().await;
}

/// A tax that changes between quote and payment counts for later quotes.
#[tokio::test]
async fn a_new_tax_does_not_change_what_was_quoted() {
    let octroi = Installation::start().await;
    octroi.tax_rate("FR", "S", 250_000, "2026-02-03").await;
    octroi.tax_rate("BE", "AE", 0, "2020-01-01").await;
    setup_fee(&octroi, 1_00).await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    // An hour into the seller's next day.
    octroi.advance_to("2026-02-03T00:00:00Z").await;
    acme.pays("o1").await.got();
    acme.buys("branch", &[(BUSINESS, 1)]).await;
    acme.moves_to("BE").await;
    acme.asks_for("o3", new_group("brussels"), &[(BUSINESS, 1)])
        .await
        .got();
    acme.moves_to("FR").await;
    acme.pays("o3").await.got();
    let invoices = acme.invoices().await;
    let taxes: Vec<_> = invoices
        .iter()
        .map(|invoice| {
            let tax = &invoice.taxes[0];
            let total = amount(invoice.total.as_ref());
            (&*tax.category, tax.rate_ppm, total)
        })
        .collect();
    assert_eq!(
        taxes,
        [
            ("S", 200_000, "1.20 EUR".to_owned()),
            ("S", 250_000, "1.25 EUR".to_owned()),
            ("AE", 0, "1.00 EUR".to_owned()),
        ]
    );
    let reverse = |mentions: &[String]| mentions.iter().any(|line| line == "Reverse charge.");
    let said: Vec<_> = invoices.iter().map(|it| reverse(&it.mentions)).collect();
    assert_eq!(said, [false, false, true]);
    octroi.finish().await;
}

/// Currency and seller are fixed when the first order is made, not when it is paid; neither trying nor a refusal does.
#[tokio::test]
async fn the_first_order_fixes_currency_and_seller() {
    let octroi = Installation::start().await;
    octroi.another_seller("other").await;
    let acme = octroi.customer("acme").await;
    let asked = CreateOrderRequest {
        parent: acme.name(),
        order_id: "tried".to_owned(),
        order: Some(Order {
            new_group: Some(new_group("office")),
            lines: lines(&[(BUSINESS, 1)]),
            ..Order::default()
        }),
        validate_only: true,
        ..CreateOrderRequest::default()
    };
    acme.by.orders().create_order(asked).await.got();
    let in_currency = |currency: &str| Account {
        currency_code: currency.to_owned(),
        ..Account::default()
    };
    let of_seller = |seller: &str| Account {
        seller: seller.to_owned(),
        ..Account::default()
    };
    let dollars = acme.changes(&["currency_code"], in_currency("USD")).await;
    assert_eq!(dollars.got().currency_code, "USD");
    let refused = acme
        .asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "PRICE_MISSING");
    acme.changes(&["currency_code"], in_currency("EUR"))
        .await
        .got();
    let moved = acme.changes(&["seller"], of_seller("sellers/other")).await;
    assert_eq!(moved.got().seller, "sellers/other");

    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    let both = Account {
        seller: "sellers/specimen".to_owned(),
        ..in_currency("USD")
    };
    let refused = acme
        .changes(&["currency_code", "seller"], both)
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "ACCOUNT_FIXED");
    assert_eq!(refused.metadata["account"], "accounts/acme");
    assert_eq!(refused.metadata["fields"], "currency_code, seller");
    acme.pays("o1").await.got();
    octroi.finish().await;
}

/// An order that fails after its quote fixes nothing; one that is kept does, however late billing hears of it.
#[tokio::test]
async fn only_an_order_that_is_kept_fixes_currency_and_seller() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let in_currency = |currency: &str| Account {
        currency_code: currency.to_owned(),
        ..Account::default()
    };
    let fail = "
        CREATE FUNCTION licensing.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON licensing.license_order
            FOR EACH ROW EXECUTE FUNCTION licensing.fail()";
    octroi.sql.batch_execute(fail).await.unwrap();
    let failed = acme
        .asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .refused();
    failed.is(Code::Internal, "INTERNAL");
    // It may still be under way as far as billing knows, until licensing has told everything until then.
    let at_once = acme
        .changes(&["currency_code"], in_currency("USD"))
        .await
        .refused();
    at_once.is(Code::FailedPrecondition, "ACCOUNT_FIXED");
    assert!(at_once.retry.is_some(), "{at_once:?}");
    assert!(!at_once.message.contains("first order"), "{at_once:?}");
    octroi.advance_to("2026-02-02T08:05:00Z").await;
    eventually("nothing can be under way", async || {
        acme.changes(&["currency_code"], in_currency("USD"))
            .await
            .ok()
    })
    .await;
    acme.changes(&["currency_code"], in_currency("EUR"))
        .await
        .got();

    // The news of the next one are held up.
    let hold = "
        DROP FUNCTION licensing.fail() CASCADE;
        CREATE FUNCTION licensing.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.parked := NEW.subscriber = 'billing'; RETURN NEW;
        END $$;
        CREATE TRIGGER hold BEFORE INSERT ON licensing.delivery FOR EACH ROW EXECUTE FUNCTION licensing.hold()";
    octroi.sql.batch_execute(hold).await.unwrap();
    acme.asks_for("o2", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    octroi.advance_to("2026-02-02T08:15:00Z").await;
    let dollars = async || {
        let refused = acme.changes(&["currency_code"], in_currency("USD")).await;
        let refused = refused.refused();
        refused.is(Code::FailedPrecondition, "ACCOUNT_FIXED");
        refused.retry
    };
    assert!(dollars().await.is_some());
    let let_go = "
        DROP FUNCTION licensing.hold() CASCADE;
        UPDATE licensing.delivery SET parked = false, due_at = now()";
    octroi.sql.batch_execute(let_go).await.unwrap();
    octroi.drained().await;
    // Paid or not, and after its time.
    octroi.advance_to("2026-02-03T09:00:00Z").await;
    assert_eq!(acme.order("o2").await.state(), order::State::Expired);
    assert_eq!(dollars().await, None);
    octroi.finish().await;
}

/// What billing is given back must be what it quoted.
#[tokio::test]
async fn a_quote_holds_as_it_was_made() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 1_00).await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 1)])
        .await
        .got();
    let billing = octroi.service(ServiceName::Licensing).settlement();
    let asked = QuoteOrderRequest {
        account: "accounts/acme".to_owned(),
        lines: vec![QuotedLine {
            offer: BUSINESS.to_owned(),
            quantity: 1,
        }],
        order: "accounts/other/orders/o1".to_owned(),
        ..QuoteOrderRequest::default()
    };
    let refused = billing.clone().quote_order(asked.clone()).await.refused();
    refused.names(&["order"]);
    let asked = QuoteOrderRequest {
        order: "accounts/acme/orders/o1".to_owned(),
        ..asked
    };
    let quote = billing.clone().quote_order(asked).await.got().quote;
    let settle = |attempt: i32, category: &str| {
        let mut quote = quote.clone().unwrap();
        quote.tax_category = category.to_owned();
        SettleOrderRequest {
            order: "accounts/acme/orders/o1".to_owned(),
            attempt,
            quote: Some(quote),
            new_payment_method: None,
        }
    };
    let declined = billing.clone().settle_order(settle(1, "AE")).await.got();
    assert_eq!(declined.decline_reason, "quote_mismatch");
    let refused = billing.clone().settle_order(settle(2, "X")).await.refused();
    refused.names(&["quote.tax_category"]);
    // A release that did not know the category keeps a quote without it.
    let settled = billing.clone().settle_order(settle(2, "")).await.got();
    assert_eq!(settled.outcome(), settle_order_response::Outcome::Succeeded);
    let declined = acme.pays("o1").await.refused();
    assert_eq!(declined.metadata["decline_reason"], "quote_mismatch");
    acme.pays("o1").await.got();
    octroi.finish().await;
}
