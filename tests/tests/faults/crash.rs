//! The all-in-one killed while people order and activate: after each restart everything comes to an end by itself, and
//! nobody has paid for nothing or got something for nothing.

use std::time::Instant;

use octroi_tests::harness::ServiceName;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::all_in_one::AllInOne;
use crate::chance::Chance;
use crate::rounds;
use crate::shopper::{Shopper, is_loss, kept, open_accounts};
use crate::stored::{converged, end_leases, leases_end_soon, price_activations, sound};

/// The rounds of the full proof.
const FULL: usize = 30;
/// The kill comes within so many milliseconds of the first call.
const KILL_WITHIN: u64 = 1500;

/// `OCTROI_CRASH_ROUNDS` says how many rounds (the full proof takes [`FULL`]), `OCTROI_CRASH_SEED` which ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment() {
    let rounds = rounds("OCTROI_CRASH_ROUNDS", 12);
    let mut chance = Chance::from_environment("OCTROI_CRASH_SEED");
    let mut octroi = AllInOne::start();
    price_activations(&octroi.sql().await).await;
    let mut shoppers = open_accounts(&octroi.operator()).await;
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
            end_leases(&sql, before, &ServiceName::ALL).await;
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
    chance.pause(KILL_WITHIN).await;
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

/// Holds what is stored to its invariants and to what was answered.
async fn judge(octroi: &AllInOne, sql: &Client, shoppers: &[Shopper]) {
    sound(&octroi.admin(), sql).await;
    kept(sql, shoppers).await;
}
