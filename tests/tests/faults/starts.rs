//! The all-in-one killed while it starts: the next start succeeds without a hand, and finds everything again.

use std::time::Instant;

use octroi_tests::harness::{BUSINESS, Customer};

use crate::all_in_one::AllInOne;
use crate::chance::Chance;
use crate::rounds;
use crate::stored::{converged, price_activations, sound};

/// How often a start is killed before one is left alone.
const KILLS: usize = 2;

/// `OCTROI_START_ROUNDS` says how many installations are made, `OCTROI_START_SEED` when their starts are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_starts() {
    let rounds = rounds("OCTROI_START_ROUNDS", 1);
    let mut chance = Chance::from_environment("OCTROI_START_SEED");
    // How long the starts take here.
    let mut octroi = AllInOne::install();
    let [first, later] = [(); 2].map(|()| {
        let begun = Instant::now();
        octroi.restart();
        let took = begun.elapsed().as_millis();
        octroi.kill(true);
        u64::try_from(took).unwrap()
    });
    for round in 1..=rounds {
        let mut octroi = AllInOne::install();
        let mut moments = Vec::new();
        for (takes, orders) in [(first, 1), (later, 2)] {
            for _ in 0..KILLS {
                octroi.launch();
                let begun = Instant::now();
                chance.pause(takes).await;
                let children = chance.below(2) == 0;
                moments.push((begun.elapsed(), children));
                octroi.kill_starting(children);
            }
            octroi.restart();
            if orders == 1 {
                price_activations(&octroi.sql().await).await;
                Customer::paying(octroi.operator(), "acme").await;
            }
            sells(&octroi, orders).await;
            octroi.kill(chance.below(2) == 0);
        }
        octroi.restart();
        sells(&octroi, 3).await;
        tokio::task::spawn_blocking(move || octroi.stop())
            .await
            .unwrap();
        println!("round {round}: of {first} and {later} ms, killed after {moments:?}");
    }
}

/// The customer buys and activates for the `count`th time, everything is done, and what was bought before is there.
async fn sells(octroi: &AllInOne, count: usize) {
    let acme = octroi.customer("acme");
    let group = format!("office-{count}");
    acme.buys(&group, &[(BUSINESS, 1)]).await;
    acme.activates(&group, 1, "sales").await;
    let sql = octroi.sql().await;
    converged(&sql).await;
    acme.receives("license-activated", count).await;
    sound(&octroi.admin(), &sql).await;
}
