//! More clients than seats: whoever pays first gets them, whichever instance of licensing is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use octroi_api::licensing::v1::{ListOrdersRequest, Order, order};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Customer, Installation, Price, Refused, at,
};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tonic::Code;

use crate::rounds;

/// How many pay at the same time.
const CLIENTS: usize = 64;
/// What a group of the offer holds.
const LIMIT: usize = 300;
/// How many rounds run side by side, each on an account of its own.
const LANES: usize = 2;

/// Every seat is paid for, so that a seat too many would be money taken.
const PRICE: Price = Price {
    offer: BUSINESS,
    monthly: 9_99,
    setup: 1_00,
    policy: "PEAK",
};

/// `OCTROI_RACE_ROUNDS` says how many rounds; the full proof takes 200.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_seats_go_to_as_many_as_there_are() {
    let mut octroi = Installation::start().await;
    octroi.price(PRICE, at("2026-01-01T00:00:00Z")).await;
    let second = octroi.second_licensing().await;
    let instances = [octroi.operator(), second];
    let rounds = rounds("OCTROI_RACE_ROUNDS", 12);
    let begun = std::time::Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let mut customers = Vec::new();
        for number in (lane..rounds).step_by(LANES) {
            let left = 1 + number * 7 % (CLIENTS / 2);
            customers.push((octroi.customer(&format!("round-{number}")).await, left));
        }
        let instances = instances.clone();
        lanes.spawn(async move {
            for (customer, left) in customers {
                round(&customer, &instances, left).await;
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    println!("{rounds} rounds in {:?}", begun.elapsed());
    octroi.finish().await;
}

/// All clients have an order for one seat each of a group with `left` seats, and pay it at the same time.
async fn round(customer: &Customer, instances: &[Caller; 2], left: usize) {
    let taken = i32::try_from(LIMIT - left).unwrap();
    customer.buys("office", &[(BUSINESS, taken)]).await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let by = instances[number % instances.len()].clone();
            let id = customer.id.clone();
            (format!("o{number}"), Customer { id, by })
        })
        .collect();
    let mut asked = JoinSet::new();
    for (order, client) in clients.clone() {
        asked.spawn(async move {
            let asked = client.asks_for_more(&order, "office", &[(BUSINESS, 1)]);
            asked.await.got()
        });
    }
    asked.join_all().await;

    let start = Arc::new(Barrier::new(CLIENTS));
    let mut paid = JoinSet::new();
    for (order, client) in clients {
        let start = Arc::clone(&start);
        paid.spawn(async move {
            start.wait().await;
            let answer = client.pays(&order).await;
            (order, answer)
        });
    }
    let mut winners = Vec::new();
    for (order, answer) in paid.join_all().await {
        match answer {
            Ok(answer) => {
                assert_eq!(answer.into_inner().state(), order::State::Completed);
                winners.push(order);
            }
            Err(status) => {
                let refused = Refused::of(&status);
                refused.is(Code::FailedPrecondition, "LICENSE_LIMIT_REACHED");
            }
        }
    }
    assert_eq!(winners.len(), left, "{}: {winners:?}", customer.id);
    judge(customer, &winners).await;
}

/// Exactly full, and who did not win may still pay, should a seat become free.
async fn judge(customer: &Customer, winners: &[String]) {
    let group = customer.group("office").await;
    let [seats] = group.offers.as_slice() else {
        panic!("one offer: {group:?}");
    };
    let full = i32::try_from(LIMIT).unwrap();
    assert_eq!((seats.licenses, seats.reserved), (full, 0), "{group:?}");
    let orders: BTreeMap<String, Order> = orders(customer).await;
    assert_eq!(orders.len(), CLIENTS);
    for (id, order) in orders {
        let (state, attempts) = if winners.contains(&id) {
            (order::State::Completed, 1)
        } else {
            (order::State::AwaitingPayment, 0)
        };
        assert_eq!((order.state(), order.payment_attempts), (state, attempts));
        assert_eq!(order.payment.is_empty(), attempts == 0, "{order:?}");
    }
    // One for what was there before.
    assert_eq!(customer.invoices().await.len(), winners.len() + 1);
}

/// The clients' orders by their ids.
async fn orders(customer: &Customer) -> BTreeMap<String, Order> {
    let request = ListOrdersRequest {
        parent: customer.name(),
        page_size: 1000,
        ..ListOrdersRequest::default()
    };
    let listed = customer.by.orders().list_orders(request).await.got().orders;
    listed
        .into_iter()
        .filter_map(|order| {
            let id = order.name.rsplit('/').next()?.to_owned();
            (id != "office").then_some((id, order))
        })
        .collect()
}
