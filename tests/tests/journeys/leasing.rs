//! Who asks about a payment holds its lease until the answer is written; who has lost it writes nothing.

use octroi_api::billing::v1::settle_order_response::Outcome;
use octroi_api::billing::v1::{SettleOrderRequest, SettleOrderResponse};
use octroi_api::licensing::v1::order;
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, Options, ServiceName, eventually, method,
    new_group,
};
use tokio_postgres::{Client, NoTls};
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::paying::setup_fee;

/// Whoever else has a lease here: nobody.
const ANOTHER: Uuid = Uuid::from_u128(7);

/// A gateway that takes its time: the lease is renewed meanwhile, and the answer is not written once it is lost.
#[tokio::test]
async fn a_settlement_is_held_until_it_is_written() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 3)])
        .await
        .got();
    let gateway = hold(&octroi, GATEWAY).await;
    let asked = tokio::spawn(settles(&octroi, &acme, "o1", None).await);
    let lease = async || {
        let lease = "SELECT lease_token, look_time::text FROM billing.settlement
                     WHERE lease_token IS NOT NULL AND state = 'PROCESSING'";
        let row = octroi.sql.query_opt(lease, &[]).await.unwrap()?;
        Some((row.get::<_, Uuid>(0), row.get::<_, String>(1)))
    };
    let (token, until) = eventually("the attempt is leased", lease).await;
    eventually("the lease is renewed", async || {
        let (now, later) = lease().await?;
        (now == token && later > until).then_some(())
    })
    .await;
    let lost = "UPDATE billing.settlement
                SET lease_token = $1, look_time = clock_timestamp() + interval '1 hour'";
    octroi.sql.execute(lost, &[&ANOTHER]).await.unwrap();
    gateway.batch_execute("ROLLBACK").await.unwrap();
    let answer = asked.await.unwrap().got();
    assert_eq!(answer.outcome(), Outcome::Processing);
    let processing = acme.pays("o1").await.refused();
    processing.is(Code::Unavailable, "PAYMENT_PROCESSING");
    assert_eq!(lease().await.map(|(token, _)| token), Some(ANOTHER));

    let lapsed = "UPDATE billing.settlement SET look_time = clock_timestamp()";
    octroi.sql.execute(lapsed, &[]).await.unwrap();
    completes(&acme, "o1").await;
    octroi.finish().await;
}

/// Each undecided payment is leased when its turn comes, so that no lease runs while others are asked about.
#[tokio::test]
async fn settlements_are_leased_one_by_one() {
    // Of eight connections the four workers would have three.
    let octroi = Installation::with(Options {
        pool_size: 16,
        ..Options::default()
    })
    .await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    let undecided = "
        CREATE FUNCTION billing.undecided() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.visible_at := 1000000; RETURN NEW; END $$;
        CREATE TRIGGER undecided BEFORE INSERT ON billing.test_gateway_charge
            FOR EACH ROW EXECUTE FUNCTION billing.undecided()";
    octroi.sql.batch_execute(undecided).await.unwrap();
    let orders = ["o1", "o2", "o3", "o4", "o5", "o6"];
    for order in orders {
        acme.asks_for(order, new_group(order), &[(BUSINESS, 3)])
            .await
            .got();
        let settling = settles(&octroi, &acme, order, Some("test-processing")).await;
        assert_eq!(settling.await.got().outcome(), Outcome::Processing);
    }
    let gateway = hold(&octroi, GATEWAY).await;
    let due =
        "UPDATE billing.settlement SET look_time = clock_timestamp() WHERE lease_token IS NULL";
    octroi.sql.execute(due, &[]).await.unwrap();
    let leases =
        "SELECT count(*), count(lease_token), count(DISTINCT lease_token) FROM billing.settlement";
    eventually("each worker holds one", async || {
        let row = octroi.sql.query_one(leases, &[]).await.unwrap();
        let [all, leased, leases] = [0, 1, 2].map(|at| row.get::<_, i64>(at));
        assert!(leased <= 4, "{leased} attempts are leased at once");
        ((all, leased, leases) == (6, 4, 4)).then_some(())
    })
    .await;
    gateway.batch_execute("ROLLBACK").await.unwrap();
    let decided = "UPDATE billing.test_gateway_charge SET visible_at = 0";
    octroi.sql.execute(decided, &[]).await.unwrap();
    for order in orders {
        // The attempt that billing has is the order's first.
        let _ = acme.pays(order).await;
        completes(&acme, order).await;
    }
    octroi.finish().await;
}

/// An order whose lease is lost while billing answers is concluded by who has it, and by nobody else.
#[tokio::test]
async fn an_order_is_concluded_under_its_lease() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    acme.asks_for("o1", new_group("office"), &[(BUSINESS, 3)])
        .await
        .got();
    let account = "SELECT FROM billing.account WHERE account = 'acme' FOR UPDATE";
    let billing = hold(&octroi, account).await;
    let customer = acme.clone();
    let paying = tokio::spawn(async move { customer.pays("o1").await });
    eventually("billing is asked", async || {
        let asked = "SELECT FROM pg_stat_activity
                     WHERE query LIKE '-- lock_account_to_settle%' AND wait_event_type = 'Lock'
                       AND datname = current_database()";
        octroi.sql.query_opt(asked, &[]).await.unwrap()
    })
    .await;
    let lost = "UPDATE licensing.payment_attempt
                SET lease = $1, lease_until = clock_timestamp() + interval '1 hour'";
    octroi.sql.execute(lost, &[&ANOTHER]).await.unwrap();
    billing.batch_execute("ROLLBACK").await.unwrap();
    let refused = paying.await.unwrap().refused();
    refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
    let paying = acme.order("o1").await;
    assert_eq!(paying.state(), order::State::Paying);

    let lapsed = "UPDATE licensing.payment_attempt SET lease_until = clock_timestamp()
                  WHERE lease = $1 AND outcome IS NULL";
    assert_eq!(octroi.sql.execute(lapsed, &[&ANOTHER]).await.unwrap(), 1);
    completes(&acme, "o1").await;
    octroi.finish().await;
}

/// What holds the gateway up: it keeps its charges in this table.
const GATEWAY: &str = "LOCK TABLE billing.test_gateway_charge IN EXCLUSIVE MODE";

/// A session whose open transaction has run this statement.
async fn hold(octroi: &Installation, statement: &str) -> Client {
    let admin = &octroi.plan().databases.admin;
    let (client, connection) = admin.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute(statement).await.unwrap();
    client
}

/// Settles the first attempt of an order as licensing would.
async fn settles(
    octroi: &Installation,
    customer: &Customer,
    order: &str,
    token: Option<&str>,
) -> impl Future<Output = Result<Response<SettleOrderResponse>, Status>> + use<> {
    let request = SettleOrderRequest {
        order: customer.order_name(order),
        attempt: 1,
        quote: customer.order(order).await.quote,
        new_payment_method: token.map(method),
    };
    let licensing = octroi.service(ServiceName::Licensing);
    async move { licensing.settlement().settle_order(request).await }
}

async fn completes(customer: &Customer, order: &str) {
    eventually("the order completes", async || {
        let order = customer.order(order).await;
        (order.state() == order::State::Completed).then_some(())
    })
    .await;
}
