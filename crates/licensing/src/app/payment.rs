//! Paying orders. Three steps, each guarded on state: the order is PAYING and its seats are reserved; billing settles
//! the attempt; the licences exist, or the seats are given back. No transaction is open while billing is asked. A crash
//! after the first step leaves an attempt without an outcome, which background work asks billing about until there is
//! one; the same attempt is one charge, however often it is asked about.
//!
//! The attempt's row is also the record of the request id: it names the request that started it and is written with
//! what it did, so nothing else need be remembered, and it is kept for ever. A decline is an outcome like any other: it
//! answers the request that began the attempt, whatever other requests came to since. A refusal before the first step
//! wrote nothing and is not recorded.

use std::sync::Arc;
use std::time::Duration;

use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{OrderCompleted, OrderedLine};
use octroi_api::licensing::v1::ErrorReason;
use octroi_api::r#type::v1::Money;
use octroi_platform::{Aggregate as _, Call, Clock, Db, Error, NewEvent, ToSql, Tx, while_leased};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_postgres::Row;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::app::group::changed_event;
use crate::billing::{Billing, SETTLE_DEADLINE, Settlement};
use crate::domain::account::Account;
use crate::domain::group::Group;
use crate::domain::offer::Offer;
use crate::domain::order::{Order, OrderId, Receipt, State};
use crate::domain::payment::{Attempt, Method, Outcome, Request};
use crate::refusal;
use crate::store;

/// How long an attempt is leased to the task that asks billing about it: the call's deadline and time to write the answer.
const LEASE: Duration = SETTLE_DEADLINE.saturating_mul(3);
/// How often the lease is renewed while the answer, or a lock to write it, takes its time.
const RENEW_EVERY: Duration = SETTLE_DEADLINE;
/// How many attempts background work asks about at once, and how many it looks for in one round.
const AT_ONCE: usize = 16;
const DUE: i64 = 100;
/// How long a copy of a request waits for the first one's outcome.
const WAIT: Duration = Duration::from_secs(8);
const FIRST_LOOK: Duration = Duration::from_millis(25);
const LONGEST_LOOK: Duration = Duration::from_millis(200);

const METHOD: &str = "octroi.licensing.v1.OrderService/PayOrder";

#[derive(Clone)]
pub(crate) struct Payments {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) billing: Billing,
    /// Notified when an attempt of this process ends.
    pub(crate) settled: Arc<Notify>,
}

/// What the first step found or did.
enum Started {
    /// This request began the attempt and holds its lease.
    Begun(Order, Attempt, Uuid),
    /// The same request began this attempt, which has no outcome yet.
    UnderWay(i32),
    /// The same request has paid the order before.
    Done(Order),
}

/// What the steps read under the order's lock.
struct Locked {
    order: Order,
    /// The attempt that the same request began before.
    attempt: Option<Attempt>,
    /// None until the order that creates it completes.
    group: Option<Group>,
}

impl Payments {
    pub(crate) async fn pay(
        &self,
        call: &Call,
        id: &OrderId,
        method: Option<Method>,
    ) -> Result<Order, Error> {
        match self.start(call, id, method).await? {
            Started::Begun(order, attempt, lease) => {
                self.settle(call, &order, &attempt, lease).await
            }
            Started::UnderWay(number) => self.wait(call, id, number).await,
            Started::Done(order) => Ok(order),
        }
    }

    /// Asks billing again about attempts that have no outcome, each leased when its turn comes; answers how many it took
    /// up.
    pub(crate) async fn work(&self) -> Result<u64, Error> {
        let mut taken = 0;
        let mut asked = JoinSet::new();
        let mut due = store::payment::due(&self.db, DUE).await?.into_iter();
        let mut failed = None;
        loop {
            while failed.is_none() && asked.len() < AT_ONCE {
                let Some(key) = due.next() else { break };
                let lease = Uuid::now_v7();
                match store::payment::claim(&self.db, &key, lease, LEASE).await {
                    Ok(Some(attempt)) => {
                        taken += 1;
                        let payments = self.clone();
                        let repeat = async move { payments.repeat(&attempt, lease).await };
                        asked.spawn(repeat.in_current_span());
                    }
                    Ok(None) => {}
                    Err(error) => failed = Some(error),
                }
            }
            // Attempts that were begun are finished even when no more can be claimed.
            match asked.join_next().await {
                None => return failed.map_or(Ok(taken), Err),
                Some(outcome) => log(outcome),
            }
        }
    }

    async fn repeat(&self, attempt: &Attempt, lease: Uuid) -> Result<Order, Error> {
        let call = Call::background(self.clock.now(), METHOD);
        let order = store::order::read(&self.db, &attempt.order).await?;
        let order = order.ok_or_else(|| call.not_found(&attempt.order))?;
        self.settle(&call, &order, attempt, lease).await
    }

    /// Step one: AWAITING_PAYMENT becomes PAYING, the seats are reserved, the attempt is counted.
    async fn start(
        &self,
        call: &Call,
        id: &OrderId,
        method: Option<Method>,
    ) -> Result<Started, Error> {
        let request = call.key(id.account.as_str()).map(|key| Request {
            id: key.request_id,
            fingerprint: key.fingerprint,
        });
        let (mut tx, locked) = self.lock(call, id).await?;
        let before = locked.order;
        if let Some(own) = &locked.attempt {
            return match &own.outcome {
                _ if own.request != request => Err(Error::RequestIdReused),
                Some(outcome) => answer(before, outcome).map(Started::Done),
                None if own.tries == 0 => Ok(Started::UnderWay(own.number)),
                None => Err(processing(&before)),
            };
        }
        if before.state == State::Paying {
            return Err(processing(&before));
        }
        let after = before.clone().pay(call.now)?;
        if let Some(group) = &locked.group {
            group.check_open(call.now)?;
        }
        let room = store::payment::reserve(&tx, &after).await?;
        if let Some(line) = after.lines.iter().find(|line| !room.contains(&line.offer)) {
            let limit = store::payment::limit(&tx, &after, &line.offer).await?;
            tx.rollback().await;
            return Err(refusal::license_limit_reached(&line.offer, limit).into());
        }
        let attempt = Attempt {
            order: id.clone(),
            number: after.attempts,
            request,
            method,
            tries: 0,
            overdue: false,
            outcome: None,
        };
        let lease = Uuid::now_v7();
        store::order::update(&mut tx, &after);
        store::payment::insert(&mut tx, &attempt, lease, LEASE);
        match tx.keep(Some(&before), &after).await {
            Ok(_) => Ok(Started::Begun(after, attempt, lease)),
            // The request id has just begun an attempt of another order.
            Err(error) if error.violates("payment_attempt_request") => Err(Error::RequestIdReused),
            Err(error) => Err(error),
        }
    }

    /// Steps two and three, while the attempt's lease is renewed.
    async fn settle(
        &self,
        call: &Call,
        order: &Order,
        attempt: &Attempt,
        lease: Uuid,
    ) -> Result<Order, Error> {
        let renew = || store::payment::renew(&self.db, attempt, lease, LEASE);
        while_leased(RENEW_EVERY, renew, self.ask(call, order, attempt, lease)).await
    }

    /// Step two, and step three when the answer is definite.
    async fn ask(
        &self,
        call: &Call,
        order: &Order,
        attempt: &Attempt,
        lease: Uuid,
    ) -> Result<Order, Error> {
        if let Settlement::Definite(outcome, receipt) = self.billing.settle(order, attempt).await {
            // What billing's answer brings takes effect now, not when the call arrived.
            let mut call = call.clone();
            call.now = self.clock.now();
            let concluded = self.conclude(&call, order, &outcome, receipt, lease).await;
            self.settled.notify_waiters();
            match concluded {
                // Nothing is lost: the attempt still has no outcome, and background work goes on with it.
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, order = %order.id, "a payment is concluded later");
                }
                concluded => return concluded,
            }
        }
        if attempt.overdue {
            tracing::error!(
                order = %order.id,
                attempt = attempt.number,
                tries = attempt.tries,
                "an order has been paying for more than 15 minutes; billing is still asked about it; somebody should look"
            );
        }
        store::payment::postpone(&self.db, attempt, lease, attempt.pause()).await?;
        self.settled.notify_waiters();
        Err(processing(order))
    }

    /// Step three: the licences exist and the order is COMPLETED, or the seats are given back.
    async fn conclude(
        &self,
        call: &Call,
        asked: &Order,
        outcome: &Outcome,
        receipt: Receipt,
        lease: Uuid,
    ) -> Result<Order, Error> {
        let (mut tx, locked) = self.lock(call, &asked.id).await?;
        let before = locked.order;
        if before.state != State::Paying || before.attempts != asked.attempts {
            // Another task concluded it, with the same outcome.
            tx.rollback().await;
            return answer(before, outcome);
        }
        let after = match outcome {
            Outcome::Succeeded => {
                let after = before.clone().complete(receipt, call.now)?;
                complete(&mut tx, &after, locked.group).await?;
                after
            }
            Outcome::Declined(reason) => {
                store::payment::release(&mut tx, &before);
                before.clone().decline(reason.clone())?
            }
        };
        store::order::update(&mut tx, &after);
        store::payment::settle(&mut tx, &after, outcome, lease);
        tx.keep(Some(&before), &after).await?;
        answer(after, outcome)
    }

    /// Waits for the outcome of an attempt that the same request began.
    async fn wait(&self, call: &Call, id: &OrderId, number: i32) -> Result<Order, Error> {
        let end = Instant::now() + WAIT;
        let mut pause = FIRST_LOOK;
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let attempt = store::payment::read(&self.db, id, number).await?;
            let attempt = attempt.ok_or_else(|| call.not_found(id))?;
            if let Some(outcome) = attempt.outcome {
                let order = store::order::read(&self.db, id).await?;
                return answer(order.ok_or_else(|| call.not_found(id))?, &outcome);
            }
            if attempt.tries > 0 || Instant::now() >= end {
                return Err(refusal::payment_processing(id).into());
            }
            tokio::select! {
                () = settled => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Locks an order and its group, and reads both, and what the call's request id stands for.
    async fn lock(&self, call: &Call, id: &OrderId) -> Result<(Tx, Locked), Error> {
        let key = store::order::key(id);
        let request_id = call.request_id();
        let request: [&(dyn ToSql + Sync); 2] = [&id.account, &request_id];
        let (tx, _) = self.db.begin_work(call, store::order::LOCK, &key).await?;
        // Read after the wait for the locks, so that what others did before is seen.
        let (orders, attempts, groups) = tokio::try_join!(
            tx.query(store::order::READ, &key),
            tx.query(store::payment::READ_OF_REQUEST, &request),
            tx.query(store::group::READ_OF_ORDER, &key)
        )?;
        let attempt = one(&attempts, store::payment::from_row)?;
        let order = match (one(&orders, store::order::from_row)?, &attempt) {
            (Some(order), _) => order,
            (None, Some(_)) => return Err(Error::RequestIdReused),
            (None, None) => return Err(call.not_found(id)),
        };
        let group = one(&groups, store::group::from_row)?;
        Ok((
            tx,
            Locked {
                order,
                attempt,
                group,
            },
        ))
    }
}

/// Creates the licences of a paid order, and its new group.
async fn complete(tx: &mut Tx, order: &Order, group: Option<Group>) -> Result<(), Error> {
    let now = tx.call().now;
    let key = store::order::key(&order.id);
    let (offers, accounts) = tokio::try_join!(
        tx.query(store::offer::READ_OF_ORDER, &key),
        tx.query(store::account::READ, &key[..1])
    )?;
    let offers: Vec<Offer> = offers
        .iter()
        .map(store::offer::from_row)
        .collect::<Result<_, _>>()?;
    let account: Account = one(&accounts, store::account::from_row)?
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("an order without its account")))?;
    store::payment::take(tx, order);
    let (first, after) = match (&group, &order.new_group) {
        (Some(before), _) => {
            let after = before.clone().receive(order, now);
            store::group::update(tx, &after);
            (before.next_license_number, after)
        }
        (None, Some(new)) => {
            let created = Group::create(order, new, &account.calendar()?, now);
            store::group::insert(tx, &created);
            (1, created)
        }
        (None, None) => {
            return Err(Error::Internal(anyhow::anyhow!(
                "an order without its group"
            )));
        }
    };
    store::payment::create_licenses(tx, order, first);
    tx.emit(completed_event(order, &after, &offers, now));
    tx.emit(changed_event(&after, now));
    tx.audit(
        &after.id.to_string(),
        group.as_ref().map(Group::audited),
        Some(after.audited()),
    );
    Ok(())
}

fn completed_event(
    order: &Order,
    group: &Group,
    offers: &[Offer],
    now: jiff::Timestamp,
) -> NewEvent {
    let lines = order.lines.iter().map(|line| OrderedLine {
        offer: line.offer.to_string(),
        offer_display_name: offers
            .iter()
            .find(|offer| offer.id == line.offer)
            .map(|offer| offer.display_name.clone())
            .unwrap_or_default(),
        quantity: line.quantity,
        price: line.price.clone(),
    });
    NewEvent::new(
        order.id.account.as_str(),
        order.id.to_string(),
        now,
        Payload::OrderCompleted(OrderCompleted {
            order: order.id.to_string(),
            license_group: group.id.to_string(),
            group_display_name: group.display_name.clone(),
            new_group: order.new_group.is_some(),
            lines: lines.collect(),
            due_now: Some(Money {
                currency_code: order.quote.due_now.currency.clone(),
                amount: order.quote.due_now.amount.clone(),
            }),
        }),
    )
}

/// The answer for an attempt's outcome.
fn answer(order: Order, outcome: &Outcome) -> Result<Order, Error> {
    match outcome {
        Outcome::Succeeded => Ok(order),
        Outcome::Declined(reason) => Err(refusal::payment_declined(&order.id, reason).into()),
    }
}

/// The refusals that are ordinary outcomes of an attempt.
const OUTCOMES: [ErrorReason; 3] = [
    ErrorReason::PaymentProcessing,
    ErrorReason::PaymentDeclined,
    ErrorReason::PaymentMethodMissing,
];

fn log(ended: Result<Result<Order, Error>, JoinError>) {
    match ended {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if OUTCOMES.iter().any(|it| error.is(it.as_str_name())) => {}
        Ok(Err(error)) => {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "an attempt to pay could not be concluded; it is tried again"
            );
        }
        Err(error) => tracing::error!(%error, "an attempt to pay broke off"),
    }
}

fn processing(order: &Order) -> Error {
    refusal::payment_processing(&order.id).into()
}

fn one<T>(rows: &[Row], read: fn(&Row) -> Result<T, Error>) -> Result<Option<T>, Error> {
    rows.first().map(read).transpose()
}
