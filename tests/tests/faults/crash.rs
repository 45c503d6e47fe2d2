//! The all-in-one killed while people order and activate: after each restart everything comes to an end by itself, and
//! nobody has paid for nothing or got something for nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use octroi_api::billing::v1::CreateAccountRequest;
use octroi_tests::harness::{Answer as _, BUSINESS, account, within};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::all_in_one::AllInOne;
use crate::chance::Chance;
use crate::rounds;
use crate::shopper::{Shopper, is_loss};

/// The rounds of the full proof.
const FULL: usize = 30;
/// Who buys, two for an account.
const SHOPPERS: usize = 6;
/// The kill comes within so many milliseconds of the first call.
const KILL_WITHIN: u64 = 1500;
/// How long everything under way may take to come to its end. Leases outlive whoever held them by 30 s at most.
const PATIENCE: Duration = Duration::from_secs(90);

/// `OCTROI_CRASH_ROUNDS` says how many rounds (the full proof takes [`FULL`]), `OCTROI_CRASH_SEED` which ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment() {
    let rounds = rounds("OCTROI_CRASH_ROUNDS", 12);
    let seed = std::env::var("OCTROI_CRASH_SEED").map_or(20_260_202, |seed| seed.parse().unwrap());
    println!("OCTROI_CRASH_SEED={seed}");
    let mut chance = Chance::new(seed);
    let mut octroi = AllInOne::start();
    let mut shoppers = open(&octroi).await;
    for round in 1..=rounds {
        let begun = Instant::now();
        let database = round % 2 == 0;
        shoppers = shop_until_killed(&mut octroi, shoppers, &mut chance, database).await;
        let before = Uuid::now_v7();
        octroi.restart();
        let restarted = begun.elapsed();
        let sql = octroi.sql().await;
        leases_end_soon(&sql, before).await;
        // The full proof waits, the last time, until the leases of the dead have ended by themselves.
        if round < rounds || rounds < FULL {
            end_leases(&sql, before).await;
        }
        converged(&sql).await;
        judge(&octroi, &sql, &shoppers).await;
        println!(
            "round {round}: database killed {database}, serving after {restarted:?}, judged after {:?}",
            begun.elapsed()
        );
    }
    let operator = octroi.operator();
    for shopper in &mut shoppers {
        shopper.finishes(&operator).await;
    }
    let sql = octroi.sql().await;
    converged(&sql).await;
    judge(&octroi, &sql, &shoppers).await;
    drop(sql);
    let completed: usize = shoppers.iter().map(|shopper| shopper.completed.len()).sum();
    let active: usize = shoppers.iter().map(|shopper| shopper.active.len()).sum();
    println!("{completed} orders were said to be completed, {active} licences to be active");
    assert!(completed >= rounds, "too little was going on");
    tokio::task::spawn_blocking(move || octroi.stop())
        .await
        .unwrap();
}

/// Prices an activation, so that money moves, and opens the accounts.
async fn open(octroi: &AllInOne) -> Vec<Shopper> {
    let sql = octroi.sql().await;
    sql.execute(
        "INSERT INTO billing.price (id, offer, currency, monthly, setup, usage_policy, valid_from, create_time)
         VALUES ($1, $2, 'EUR', 999, 250, 'PEAK', now() - interval '1 day', now() - interval '1 day')",
        &[&Uuid::new_v4(), &BUSINESS],
    )
    .await
    .unwrap();
    let operator = octroi.operator();
    let mut shoppers = Vec::new();
    for number in 0..SHOPPERS {
        let id = format!("acme-{}", number / 2);
        if number % 2 == 0 {
            let request = CreateAccountRequest {
                account_id: id.clone(),
                account: Some(account(&id)),
                ..CreateAccountRequest::default()
            };
            operator.accounts().create_account(request).await.got();
        }
        shoppers.push(Shopper::new(&id, &format!("s{number}")));
    }
    shoppers
}

/// Everybody buys until the process is gone.
async fn shop_until_killed(
    octroi: &mut AllInOne,
    shoppers: Vec<Shopper>,
    chance: &mut Chance,
    database: bool,
) -> Vec<Shopper> {
    let mut shopping = JoinSet::new();
    for mut shopper in shoppers {
        let operator = octroi.operator();
        let mut chance = chance.split();
        shopping.spawn(async move {
            let status = shopper.shops(operator, &mut chance).await;
            (shopper, status, Instant::now())
        });
    }
    let moment = Duration::from_micros(chance.below(KILL_WITHIN * 1000));
    tokio::time::sleep(moment).await;
    let killing = Instant::now();
    octroi.kill(database);
    let mut shoppers = Vec::new();
    for (shopper, status, stopped) in shopping.join_all().await {
        assert!(
            stopped >= killing && is_loss(&status),
            "an answer that a kill does not explain: {status:?}"
        );
        shoppers.push(shopper);
    }
    shoppers
}

/// Whatever the dead process was doing, nothing that it leased is held up for longer than half a minute.
async fn leases_end_soon(sql: &Client, before: Uuid) {
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
             UNION ALL SELECT 'an e-mail', lease_expires_at - clock_timestamp()
             FROM notification.email WHERE lease_token < '{before}'
         ) held WHERE rest > interval '30 seconds'"
    );
    let held = names(sql, &query).await;
    assert!(held.is_empty(), "{held:?}");
}

/// What the dead process leased before this id was made is free at once, as it is when the time has passed.
async fn end_leases(sql: &Client, before: Uuid) {
    let leases = format!(
        "UPDATE licensing.payment_attempt SET lease_until = clock_timestamp() WHERE lease < '{before}';
         UPDATE billing.settlement SET look_time = clock_timestamp()
         WHERE state = 'PROCESSING' AND (lease_token IS NULL OR lease_token < '{before}');
         UPDATE licensing.delivery SET lease_until = clock_timestamp() WHERE lease_token < '{before}';
         UPDATE billing.delivery SET lease_until = clock_timestamp() WHERE lease_token < '{before}';
         UPDATE notification.email SET lease_expires_at = now() WHERE lease_token < '{before}'"
    );
    sql.batch_execute(&leases).await.unwrap();
}

/// Waits until nothing is under way: no payment, no fact, no mail.
async fn converged(sql: &Client) {
    const UNDER_WAY: &str = "
        SELECT (SELECT count(*) FROM licensing.license_order WHERE state = 'PAYING')
             + (SELECT count(*) FROM billing.settlement WHERE state = 'PROCESSING')
             + (SELECT count(*) FROM licensing.delivery) + (SELECT count(*) FROM billing.delivery)
             + (SELECT count(*) FROM notification.delivery)
             + (SELECT count(*) FROM notification.email WHERE state = 'QUEUED')";
    within(PATIENCE, "everything comes to its end", async || {
        let row = sql.query_one(UNDER_WAY, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// Holds what is stored to its invariants and to what was answered.
async fn judge(octroi: &AllInOne, sql: &Client, shoppers: &[Shopper]) {
    let report = octroi::verify::run(&octroi.admin()).await.unwrap();
    assert!(report.is_clean(), "{report}");
    charges_and_licences(sql).await;
    facts(sql).await;
    let completed = names(
        sql,
        "SELECT format('accounts/%s/orders/%s', account, order_id)
         FROM licensing.license_order WHERE state = 'COMPLETED'",
    );
    let completed = completed.await;
    let active = names(
        sql,
        "SELECT format('accounts/%s/licenseGroups/%s/licenses/%s', account, group_id, number)
         FROM licensing.license WHERE state = 'ACTIVE'",
    );
    let active = active.await;
    for shopper in shoppers {
        for (answered, stored) in [(&shopper.completed, &completed), (&shopper.active, &active)] {
            let lost: Vec<_> = answered.difference(stored).collect();
            assert!(lost.is_empty(), "answered and lost: {lost:?}");
        }
    }
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
             FROM licensing.event, unnest(ARRAY['billing', 'notification']) AS s (subscriber)
             GROUP BY subscriber, account, aggregate
             UNION ALL
             SELECT subscriber, 'billing', account, aggregate, max(sequence)
             FROM billing.event, unnest(ARRAY['licensing', 'notification']) AS s (subscriber)
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
         GROUP BY account, event, template HAVING count(*) > 1
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

async fn names(sql: &Client, query: &str) -> BTreeSet<String> {
    let rows = sql.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
