//! A shard is moved to another node while its accounts live.

use std::cell::Cell;

use octroi_api::licensing::v1::{
    ActivateLicenseRequest, CreateOrderRequest, Order, PayOrderRequest,
};
use octroi_tests::harness::{Customer, ENTERPRISE, Installation, Refused, lines, request_id};
use tokio::time::sleep;
use tokio_postgres::types::ToSql;
use tonic::{Response, Status};

/// How many customers work meanwhile: those of the shard first.
const BUSY: usize = 4;
/// The shard of an account, where it is, and another node.
const PLACED: &str = "
    SELECT shardid, nodename, nodeport::int, (
        SELECT array[n.nodename, n.nodeport::text] FROM pg_dist_node n
        WHERE n.shouldhaveshards AND (n.nodename, n.nodeport) <> (p.nodename, p.nodeport) LIMIT 1
    ) FROM pg_dist_shard_placement p
    WHERE shardid = get_shard_id_for_distribution_column('licensing.license', $1::text)";

/// Moves what an account has, with all that lies with it, to another node and back while everybody works. Nothing that was
/// answered is lost, and whoever is refused for it is told when to come again.
pub async fn a_shard_moves_while_they_work(octroi: &Installation, customers: &[Customer]) {
    let mut placed = Vec::new();
    for customer in customers {
        placed.push((shard(octroi, customer).await, customer));
    }
    let home = placed[0].0;
    placed.sort_by_key(|(shard, _)| *shard != home);
    let is_moved = Cell::new(false);
    let moving = async {
        for _ in 0..2 {
            moves(octroi, customers).await;
        }
        is_moved.set(true);
    };
    let [one, two, three, four] = [0, 1, 2, 3].map(|at| works(placed[at].1, &is_moved));
    let (done, ()) = tokio::join!(async { tokio::join!(one, two, three, four) }, moving);
    let done: [usize; BUSY] = done.into();
    for ((_, customer), orders) in placed.iter().zip(done) {
        assert!(orders > 0, "{} did nothing meanwhile", customer.id);
        let kept = customer.group("kept").await;
        let licenses = usize::try_from(kept.offers[0].licenses).unwrap();
        assert_eq!(licenses, 1 + orders, "{kept:?}");
        customer.receives("license-activated", 2 + orders).await;
    }
}

async fn shard(octroi: &Installation, customer: &Customer) -> i64 {
    let placed = octroi.sql.query_one(PLACED, &[&customer.id]).await;
    placed.unwrap().get(0)
}

/// Moves the first customer's shard.
async fn moves(octroi: &Installation, customers: &[Customer]) {
    let id = &customers[0].id;
    let before = octroi.sql.query_one(PLACED, &[id]).await.unwrap();
    let (shard, host, port): (i64, String, i32) = (before.get(0), before.get(1), before.get(2));
    let other: Vec<String> = before.get(3);
    let to: i32 = other[1].parse().unwrap();
    let sql = "SELECT citus_move_shard_placement($1, $2, $3, $4, $5, 'block_writes')";
    let params: [&(dyn ToSql + Sync); 5] = [&shard, &host, &port, &other[0], &to];
    octroi.sql.execute(sql, &params).await.unwrap();
    let after = octroi.sql.query_one(PLACED, &[id]).await.unwrap();
    let now: (String, i32) = (after.get(1), after.get(2));
    assert_eq!(now, (other[0].clone(), to));
}

/// Orders, pays and activates one licence after the other until the shard is moved; tells how many.
async fn works(customer: &Customer, is_moved: &Cell<bool>) -> usize {
    let mut orders = 0;
    while !is_moved.get() {
        let id = format!("moving-{orders}");
        let order = CreateOrderRequest {
            parent: customer.name(),
            order_id: id.clone(),
            order: Some(Order {
                license_group: customer.group_name("kept"),
                lines: lines(&[(ENTERPRISE, 1)]),
                ..Order::default()
            }),
            request_id: request_id(),
            ..CreateOrderRequest::default()
        };
        insists(async || customer.by.orders().create_order(order.clone()).await).await;
        let payment = PayOrderRequest {
            name: customer.order_name(&id),
            request_id: request_id(),
            ..PayOrderRequest::default()
        };
        insists(async || customer.by.orders().pay_order(payment.clone()).await).await;
        orders += 1;
        let number = i32::try_from(1 + orders).unwrap();
        let activation = ActivateLicenseRequest {
            password: String::new(),
            request_id: request_id(),
            ..customer.activation("kept", number, &format!("kept{number}"))
        };
        insists(async || {
            customer
                .by
                .licenses()
                .activate_license(activation.clone())
                .await
        })
        .await;
    }
    orders
}

/// Repeats a call as its refusals say, which all must.
async fn insists<T>(call: impl AsyncFn() -> Result<Response<T>, Status>) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) => {
                let refused = Refused::of(&status);
                assert!(refused.retry.is_some(), "for good: {refused:?}");
                sleep(refused.retry.unwrap_or_default()).await;
            }
        }
    }
}
