//! A dead letter holds up the bill of its own account, and nobody else's.

use octroi_api::billing::v1::BillRun;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{Event, ListEventsRequest, OrderCreated};
use octroi_platform::{Call, Clock, Db, NewEvent};
use octroi_tests::harness::{Answer as _, BUSINESS, Installation, ServiceName, eventually};
use tonic::Code;

use crate::log::{first_of, open_to, rewrite};
use crate::subscribers::broken;

/// More accounts with dead letters than a delivery names.
const TOO_MANY: i64 = 1_001;
/// What belongs to no account.
const OFFER: &str = "offers/apps-for-business";
const HOLDS: &str = "UPDATE licensing.delivery SET holds = $1";

/// Accounts, invoices, skipped and failed.
fn figures(run: &BillRun) -> [i32; 4] {
    [run.accounts, run.invoices, run.skipped, run.failed]
}

/// Through when billing believes licensing's facts to be complete, in microseconds, and but for which accounts.
async fn told(octroi: &Installation) -> (i64, Vec<String>) {
    let told = "SELECT (extract(epoch FROM complete_through) * 1000000)::bigint, held_accounts
                FROM billing.intake_progress WHERE source = 'licensing'";
    let row = octroi.sql.query_one(told, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Waits until a delivery to billing is a dead letter: its second refusal counts as the last one.
async fn dead(octroi: &Installation) {
    let hurry = "UPDATE licensing.delivery SET refusals = 11, due_at = clock_timestamp()
                 WHERE subscriber = 'billing' AND NOT parked AND due_at > clock_timestamp()";
    eventually("it is a dead letter", async || {
        octroi.sql.execute(hurry, &[]).await.unwrap();
        let open = open_to(octroi, "billing").await;
        open.iter().any(|open| open.parked).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_is_not_billed_until_it_is_replayed() {
    let mut octroi = Installation::start_at("2026-02-27T08:00:00Z").await;
    let acme = octroi.customer("acme").await;
    let zeta = octroi.customer("zeta").await;
    for customer in [&acme, &zeta] {
        customer.buys("office", &[(BUSINESS, 2)]).await;
    }
    octroi.drained().await;
    octroi.stop(ServiceName::Billing).await;
    acme.activates("office", 1, "first").await;
    let held = acme.license_name("office", 1);
    let body = first_of(&octroi.sql, &held).await;
    rewrite(&octroi.sql, &held, &broken(&body)).await;
    octroi.restart(ServiceName::Billing).await;
    dead(&octroi).await;
    zeta.activates("office", 1, "first").await;
    // Another licence of the same account: told, and billed with the rest.
    acme.activates("office", 2, "second").await;

    octroi.advance_to("2026-03-01T08:00:00Z").await;
    for dry in [true, false] {
        let run = match dry {
            true => octroi.tries_to_bill("2026-02").await,
            false => octroi.bills("2026-02").await,
        };
        assert_eq!(figures(&run), [2, 1, 0, 1], "{run:?}");
        let [failure] = run.failures.try_into().unwrap();
        assert_eq!(
            (failure.account.as_str(), failure.reason.as_str()),
            ("accounts/acme", "USAGE_BEHIND")
        );
        assert!(failure.message.contains("octroi replay"), "{failure:?}");
    }
    assert_eq!(zeta.invoices().await.len(), 1);
    assert_eq!(acme.invoices().await.len(), 0);

    rewrite(&octroi.sql, &held, &body).await;
    let admin = &octroi.plan().databases.admin;
    octroi::replay::run(admin).await.unwrap();
    octroi.drained().await;
    eventually("billing is told that nothing is held", async || {
        told(&octroi).await.1.is_empty().then_some(())
    })
    .await;
    let run = octroi.bills("2026-02").await;
    assert_eq!(figures(&run), [2, 1, 1, 0], "{run:?}");
    let [invoice] = acme.invoices().await.try_into().unwrap();
    assert_eq!(invoice.lines.len(), 1);
    assert_eq!(invoice.lines[0].quantity, 2);
    octroi.finish().await;
}

/// Replayed but not taken yet it still holds its account: what billing was told of before stays true.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_held_until_its_dead_letter_is_taken() {
    let octroi = Installation::start().await;
    dead_letters(&octroi, 1).await;
    octroi.advance_to("2026-02-02T10:00:00Z").await;
    let before = eventually("the account is held", async || {
        let told = told(&octroi).await;
        (told.1 == ["a1"]).then_some(told)
    })
    .await;
    // Not dead any more, and not due for long.
    let again = "UPDATE licensing.delivery SET parked = false, attempts = 8, due_at = 'infinity'";
    octroi.sql.execute(again, &[]).await.unwrap();
    octroi.advance_to("2026-02-02T12:00:00Z").await;
    assert_eq!(told(&octroi).await, before);
    let taken = "DELETE FROM licensing.delivery";
    octroi.sql.execute(taken, &[]).await.unwrap();
    eventually("nothing is held", async || {
        let told = told(&octroi).await;
        (told.1.is_empty() && told.0 > before.0).then_some(())
    })
    .await;
    octroi.abandon().await;
}

/// Too many accounts to name: the instant itself stays before their dead letters, until they are fewer.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_hold_up_everyone() {
    let octroi = Installation::start_at("2026-02-27T08:00:00Z").await;
    let first = dead_letters(&octroi, TOO_MANY).await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    eventually("the instant stands before the first", async || {
        (told(&octroi).await == (first - 1, Vec::new())).then_some(())
    })
    .await;
    let refused = octroi.asks_to_bill("2026-02", false).await.refused();
    refused.is(Code::FailedPrecondition, "USAGE_BEHIND");
    let one = "DELETE FROM licensing.delivery WHERE account = 'a1'";
    octroi.sql.execute(one, &[]).await.unwrap();
    let named = eventually("the instant goes on", async || {
        let (complete, held) = told(&octroi).await;
        (complete > first).then_some(held)
    })
    .await;
    assert_eq!(i64::try_from(named.len()).unwrap(), TOO_MANY - 1);
    let run = octroi.bills("2026-02").await;
    assert_eq!(figures(&run), [0, 0, 0, 0], "{run:?}");
    octroi.abandon().await;
}

/// A dead letter to billing of each of so many accounts; when they took effect, in microseconds.
async fn dead_letters(octroi: &Installation, accounts: i64) -> i64 {
    let insert = "
        WITH event AS (
            INSERT INTO licensing.event
                (account, id, type, aggregate, sequence, effective_at, recorded_at, body, subscribers)
            SELECT 'a' || n, gen_random_uuid(), 'x', format('accounts/a%s/x', n), 1, $2, $2, '', '{billing}'
            FROM generate_series(1, $1::bigint) AS n RETURNING *
        )
        INSERT INTO licensing.delivery (account, subscriber, aggregate, sequence, event_id, effective_at, parked)
        SELECT account, 'billing', aggregate, sequence, id, effective_at, true FROM event";
    let now = octroi.now().await;
    octroi
        .sql
        .execute(insert, &[&accounts, &now])
        .await
        .unwrap();
    now.as_microsecond()
}

/// An event of no account is kept and found by its own resource, delivered like any other, and holds back nobody's bill
/// when it is dead, unless its type says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_no_account_holds_up_nobody() {
    let octroi = Installation::start_at("2026-02-27T08:00:00Z").await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "first").await;
    // No type of today is without an account, so one of them is told of an offer.
    let order = acme.order_name("office");
    emit(&octroi, &order).await;
    octroi.drained().await;
    let inbox = "SELECT account, sequence FROM billing.inbox WHERE aggregate = $1";
    let row = octroi.sql.query_one(inbox, &[&OFFER]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (OFFER, 1_i64));

    emit(&octroi, "no order").await;
    dead(&octroi).await;
    let [first, second] = listed(&octroi).await.try_into().unwrap();
    for (at, event) in (1..).zip([&first, &second]) {
        assert_eq!((event.account.as_str(), event.sequence), ("", at));
        assert_eq!(event.aggregate, OFFER);
    }
    // It is nothing of acme's, and nobody else's business.
    let kinds = acme.events(ServiceName::Licensing).await;
    assert!(kinds.iter().all(|event| event.account == acme.name()));
    let mut bound = octroi.bound_to("acme").events(ServiceName::Licensing);
    let refused = bound.list_events(of_the_offer()).await.refused();
    refused.is(Code::NotFound, "NOT_FOUND");

    // As if its type said so, and then as it does.
    octroi.sql.execute(HOLDS, &[&true]).await.unwrap();
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    let refused = octroi.asks_to_bill("2026-02", false).await.refused();
    refused.is(Code::FailedPrecondition, "USAGE_BEHIND");
    octroi.sql.execute(HOLDS, &[&false]).await.unwrap();
    let run = octroi.bills("2026-02").await;
    assert_eq!(figures(&run), [1, 1, 0, 0], "{run:?}");

    let delivered = "UPDATE licensing.event SET body = (
                         SELECT body FROM licensing.event WHERE aggregate = $1 AND sequence = 1)
                     WHERE aggregate = $1 AND sequence = 2";
    octroi.sql.execute(delivered, &[&OFFER]).await.unwrap();
    let admin = &octroi.plan().databases.admin;
    let again = octroi::replay::run(admin).await.unwrap();
    assert!(
        matches!(again.as_slice(), [one] if one.contains(OFFER)),
        "{again:?}"
    );
    octroi.drained().await;
    octroi.finish().await;
}

/// Licensing records that an order was kept, of the offer instead of the account.
async fn emit(octroi: &Installation, order: &str) {
    let config = &octroi.plan().databases.licensing;
    let db = Db::new(config, "licensing", 1, Clock::system()).unwrap();
    let now = octroi.now().await;
    let call = Call::background(now, "octroi.licensing.v1.OfferService/GetOffer");
    let (mut tx, _) = db.begin_work(&call, "SELECT", &[]).await.unwrap();
    let payload = Payload::OrderCreated(OrderCreated {
        order: order.to_owned(),
    });
    tx.emit(NewEvent::new("", OFFER.to_owned(), now, payload));
    tx.commit_work().await.unwrap();
}

fn of_the_offer() -> ListEventsRequest {
    ListEventsRequest {
        parent: OFFER.to_owned(),
        ..ListEventsRequest::default()
    }
}

async fn listed(octroi: &Installation) -> Vec<Event> {
    let mut events = octroi.operator().events(ServiceName::Licensing);
    events.list_events(of_the_offer()).await.got().events
}
