//! Calls on a Citus cluster, where OCTROI_CITUS_URL names the administrator's way to an empty database on one.

use octroi_tests::harness::{Answer as _, BUSINESS, CHOSEN, Customer, ENTERPRISE, Installation};

/// How many accounts live the guide's life.
const ACCOUNTS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_life_on_a_cluster() {
    let Ok(url) = std::env::var("OCTROI_CITUS_URL") else {
        println!("OCTROI_CITUS_URL is not set: Citus was not tried");
        return;
    };
    let octroi = Installation::distributed(&url).await;
    for number in 0..ACCOUNTS {
        lives(&octroi.customer(&format!("acme-{number}")).await).await;
    }
    octroi.abandon().await;
}

async fn lives(customer: &Customer) {
    customer.buys("office", &[(BUSINESS, 3)]).await;
    customer
        .buys_more("more", "office", &[(ENTERPRISE, 2)])
        .await;
    let license = customer.activates("office", 1, "sales").await;
    customer
        .signs_in(&license.activation_email, CHOSEN)
        .await
        .got();
    let group = customer.group("office").await;
    assert_eq!(group.offers.len(), 2, "{group:?}");
    assert_eq!(customer.license("office", 1).await, license);
}
