//! What a database holds after a fault: that nothing is left under way, and that what is there fits together.

use std::collections::BTreeSet;
use std::time::Duration;

use octroi_tests::harness::{BUSINESS, ServiceName, within};
use tokio_postgres::{Client, Config};
use uuid::Uuid;

/// How long everything under way may take to come to its end. Leases outlive whoever held them by 30 s at most.
const PATIENCE: Duration = Duration::from_secs(90);

/// Prices an activation, so that money moves with each order.
pub async fn price_activations(sql: &Client) {
    sql.execute(
        "INSERT INTO billing.price (id, offer, currency, monthly, setup, usage_policy, valid_from, create_time)
         VALUES ($1, $2, 'EUR', 999, 250, 'PEAK', now() - interval '1 day', now() - interval '1 day')",
        &[&Uuid::new_v4(), &BUSINESS],
    )
    .await
    .unwrap();
}

/// Whatever the dead process was doing, nothing that it leased is held up for longer than half a minute.
pub async fn leases_end_soon(sql: &Client, before: Uuid) {
    let query = format!(
        "SELECT format('%s for %s', what, rest) FROM (
             SELECT 'a payment' AS what, lease_until - clock_timestamp() AS rest
             FROM licensing.payment_attempt WHERE lease < '{before}'
             UNION ALL SELECT 'a settlement', look_time - clock_timestamp()
             FROM billing.settlement WHERE state = 'PROCESSING' AND lease_token < '{before}'
             UNION ALL SELECT 'a fact', lease_until - clock_timestamp()
             FROM licensing.delivery WHERE lease_token < '{before}'
             UNION ALL SELECT 'a fact', lease_until - clock_timestamp()
             FROM billing.delivery WHERE lease_token < '{before}'
             UNION ALL SELECT 'accounts of a bill run', lease_until - clock_timestamp()
             FROM billing.bill_run_range WHERE lease_token < '{before}'
             UNION ALL SELECT 'an e-mail', lease_expires_at - clock_timestamp()
             FROM notification.email WHERE lease_token < '{before}'
         ) held WHERE rest > interval '30 seconds'"
    );
    let held = names(sql, &query).await;
    assert!(held.is_empty(), "{held:?}");
}

/// What dead processes of these services leased before this id was made is free at once, as it is when the time has
/// passed.
pub async fn end_leases(sql: &Client, before: Uuid, services: &[ServiceName]) {
    for service in services {
        let leases = match service {
            ServiceName::Licensing => format!(
                "UPDATE licensing.payment_attempt SET lease_until = clock_timestamp() WHERE lease < '{before}';
                 UPDATE licensing.delivery SET lease_until = clock_timestamp() WHERE lease_token < '{before}'"
            ),
            ServiceName::Billing => format!(
                "UPDATE billing.settlement SET look_time = clock_timestamp()
                 WHERE state = 'PROCESSING' AND (lease_token IS NULL OR lease_token < '{before}');
                 UPDATE billing.bill_run_range SET lease_until = clock_timestamp() WHERE lease_token < '{before}';
                 UPDATE billing.delivery SET lease_until = clock_timestamp() WHERE lease_token < '{before}'"
            ),
            ServiceName::Notification => format!(
                "UPDATE notification.email SET lease_expires_at = now() WHERE lease_token < '{before}'"
            ),
        };
        sql.batch_execute(&leases).await.unwrap();
    }
}

/// Waits until nothing is under way: no payment, no bill run, no fact, no mail.
pub async fn converged(sql: &Client) {
    const UNDER_WAY: &str = "
        SELECT (SELECT count(*) FROM licensing.license_order WHERE state = 'PAYING')
             + (SELECT count(*) FROM billing.settlement WHERE state = 'PROCESSING')
             + (SELECT count(*) FROM billing.bill_run WHERE state = 'RUNNING')
             + (SELECT count(*) FROM licensing.delivery) + (SELECT count(*) FROM billing.delivery)
             + (SELECT count(*) FROM notification.delivery)
             + (SELECT count(*) FROM notification.email WHERE state = 'QUEUED')";
    within(PATIENCE, "everything comes to its end", async || {
        let row = sql.query_one(UNDER_WAY, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// Holds what is stored to its invariants, charges to licences, and facts to their effects.
pub async fn sound(admin: &Config, sql: &Client) {
    told(admin, sql).await;
    charges_and_licences(sql).await;
}

/// [`sound`] where orders cost nothing.
pub async fn told(admin: &Config, sql: &Client) {
    let report = octroi::verify::run(admin).await.unwrap();
    assert!(report.is_clean(), "{report}");
    facts(sql).await;
}

/// No charge without licences, no licences without a charge, and no more than one.
async fn charges_and_licences(sql: &Client) {
    let wrong = names(
        sql,
        "WITH known AS (
             SELECT o.account, o.order_id, o.state,
                    (SELECT sum(quantity) FROM licensing.order_line l
                     WHERE (l.account, l.order_id) = (o.account, o.order_id)) AS ordered,
                    (SELECT count(*) FROM licensing.license l
                     WHERE (l.account, l.order_id) = (o.account, o.order_id)) AS licenses,
                    (SELECT count(*) FROM billing.test_gateway_charge c
                     WHERE c.key LIKE o.account || '/' || o.order_id || '/%' AND c.amount > 0
                       AND c.decline_reason IS NULL) AS charges
             FROM licensing.license_order o)
         SELECT format('%s: %s, %s of %s licences, %s charges', order_id, state, licenses, ordered, charges)
         FROM known
         WHERE (licenses, charges) <> CASE state WHEN 'COMPLETED' THEN (ordered, 1::bigint) ELSE (0::bigint, 0::bigint) END",
    );
    let wrong = wrong.await;
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Each fact reached each service, and had its effect once.
async fn facts(sql: &Client) {
    let wrong = names(
        sql,
        "WITH sent AS (
             SELECT subscriber, 'licensing' AS source, account, aggregate, max(sequence) AS last
             FROM licensing.event, unnest(subscribers) AS s (subscriber)
             GROUP BY subscriber, account, aggregate
             UNION ALL
             SELECT subscriber, 'billing', account, aggregate, max(sequence)
             FROM billing.event, unnest(subscribers) AS s (subscriber)
             GROUP BY subscriber, account, aggregate
         ), applied AS (
             SELECT 'licensing' AS subscriber, source, account, aggregate, sequence FROM licensing.inbox
             UNION ALL SELECT 'billing', source, account, aggregate, sequence FROM billing.inbox
             UNION ALL SELECT 'notification', source, account, aggregate, sequence FROM notification.inbox
         )
         SELECT format('%s told %s %s of %s', source, subscriber, sequence, aggregate)
         FROM sent FULL JOIN applied USING (subscriber, source, account, aggregate)
         WHERE last IS DISTINCT FROM sequence
         UNION ALL
         SELECT format('%s e-mails of %s', count(*), event) FROM notification.email
         GROUP BY account, event, template, recipient HAVING count(*) > 1
         UNION ALL
         SELECT format('interval of %s/%s', account, group_id)
         FROM (SELECT account, group_id, seat, started_at FROM licensing.usage_interval) l
         FULL JOIN (SELECT account, group_id, seat, start_time AS started_at FROM billing.usage_interval) b
             USING (account, group_id, seat, started_at)
         WHERE l IS NULL OR b IS NULL",
    );
    let wrong = wrong.await;
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The rows of a query, each a text.
pub async fn names(sql: &Client, query: &str) -> BTreeSet<String> {
    let rows = sql.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
