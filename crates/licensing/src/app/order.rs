//! Making, reading and dropping orders. Paying them is in `payment`.

use jiff::Timestamp;
use octroi_api::event::v1::OrderCreated;
use octroi_api::event::v1::event::Payload;
use octroi_platform::name::check_etag;
use octroi_platform::{Call, Db, Error as Platform, NewEvent, Page, ToSql, Violations};
use prost::Message;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::billing::Billing;
use crate::domain::account;
use crate::domain::group::{self, Group, Seats};
use crate::domain::offer;
use crate::domain::order::{self, Order, Wish};
use crate::error::Error;
use crate::store;

/// How many overdue orders one transaction marks.
const BATCH: i64 = 100;

/// Orders until they are paid.
#[derive(Clone)]
pub(crate) struct Orders {
    db: Db,
    billing: Billing,
}

impl Orders {
    pub(crate) fn new(db: Db, billing: Billing) -> Self {
        Self { db, billing }
    }

    /// Checks, quotes and, unless only that is wanted, keeps an order.
    ///
    /// # Errors
    /// As OrderService.CreateOrder's contract says.
    pub(crate) async fn create<R: Message + Default>(
        &self,
        call: &Call,
        mut wish: Wish,
        validate_only: bool,
        reply: fn(&Order) -> Result<R, Error>,
    ) -> Result<R, Error> {
        call.caller
            .may_see(&wish.account, "account", &account::name(&wish.account))?;
        if let Some(answer) = self.db.replay(call, &wish.account).await? {
            return Ok(
                R::decode(answer.as_slice()).map_err(|error| Platform::Internal(error.into()))?
            );
        }
        if wish.id.is_empty() {
            wish.id = format!("o{}", Uuid::now_v7().simple());
        }
        self.check(&wish, call.now).await?;
        let (quote, account) = self.billing.quote(&wish, !validate_only).await?;
        let order = Order::quoted(wish, quote, call.now);
        if validate_only {
            self.check_ids(&order).await?;
            return reply(&order);
        }
        let key: [&(dyn ToSql + Sync); 2] = [&order.account, &order.group];
        let begun = self
            .db
            .begin(call, &order.account, store::group::HOLD, &key)
            .await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(answer),
        };
        let group = rows.first().map(store::group::from_row).transpose()?;
        check_group(&order, group.as_ref(), call.now)?;
        store::account::keep(&mut tx, account);
        store::order::insert(&mut tx, &order);
        let order_name = order.name();
        tx.emit(NewEvent::new(
            &order.account,
            order_name.clone(),
            call.now,
            Payload::OrderCreated(OrderCreated { order: order_name }),
        ));
        tx.audit(&order.name(), None, Some(told(&order)));
        let answer = reply(&order)?;
        match tx.commit(&answer).await {
            Ok(()) => Ok(answer),
            Err(error) => Err(taken(error, &order)),
        }
    }

    /// One order.
    pub(crate) async fn get(&self, call: &Call, account: &str, id: &str) -> Result<Order, Error> {
        let name = order::name(account, id);
        call.caller.may_see(account, "order", &name)?;
        store::order::read(&self.db, account, id)
            .await?
            .ok_or_else(|| not_found(name))
    }

    /// A page of an account's orders, by id.
    pub(crate) async fn list(
        &self,
        call: &Call,
        account: &str,
        page: &Page,
    ) -> Result<Vec<Order>, Error> {
        call.caller
            .may_see(account, "account", &account::name(account))?;
        Ok(store::order::list(&self.db, account, page).await?)
    }

    /// Drops an order that awaits payment.
    ///
    /// # Errors
    /// [`Error::OrderState`], [`Error::OrderExpired`].
    pub(crate) async fn cancel<R: Message + Default>(
        &self,
        call: &Call,
        account: &str,
        id: &str,
        etag: &str,
        reply: fn(&Order) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let name = order::name(account, id);
        call.caller.may_see(account, "order", &name)?;
        let begun = self
            .db
            .begin(call, account, store::order::LOCK_ALONE, &[&account, &id])
            .await?;
        let (mut tx, rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(answer),
        };
        let row = rows.first().ok_or_else(|| not_found(name.clone()))?;
        let before = store::order::from_row(row)?;
        check_etag(etag, before.version, &name)?;
        let after = before.clone().cancel(call.now)?;
        store::order::update(&mut tx, &after);
        tx.audit(&name, Some(told(&before)), Some(told(&after)));
        let answer = reply(&after)?;
        tx.commit(&answer).await?;
        Ok(answer)
    }

    /// Marks orders whose time is over; answers how many. One that cannot be marked holds up no other.
    ///
    /// # Errors
    /// When there was something to do and none of it worked.
    pub(crate) async fn expire(&self, now: Timestamp) -> Result<u64, Error> {
        let error = match self.expire_some(now, 0, BATCH).await {
            Err(error) if !is_everybody_s(&error) => error,
            other => return other,
        };
        let (mut done, mut failed) = (0, 0);
        while failed < BATCH {
            match self.expire_some(now, failed, 1).await {
                Ok(0) => break,
                Ok(marked) => done += marked,
                Err(error) if is_everybody_s(&error) => return Err(error),
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    tracing::error!(
                        error,
                        "an overdue order could not be marked; it is tried again"
                    );
                    failed += 1;
                }
            }
        }
        match done {
            0 => Err(error),
            done => Ok(done),
        }
    }

    /// Marks at most so many, after the first ones, in one transaction.
    async fn expire_some(&self, now: Timestamp, after: i64, most: i64) -> Result<u64, Error> {
        let call = Call::background(now, "licensing/expire-orders");
        let (mut tx, rows) = self
            .db
            .begin_work(&call, store::order::LOCK_OVERDUE, &[&now, &after, &most])
            .await?;
        for row in &rows {
            let before = store::order::from_row(row)?;
            let after = before.clone().expire(now);
            store::order::update(&mut tx, &after);
            tx.audit(&after.name(), Some(told(&before)), Some(told(&after)));
        }
        tx.commit_work().await?;
        Ok(rows.len() as u64)
    }

    /// Refuses the ids that keeping the order would find taken.
    async fn check_ids(&self, order: &Order) -> Result<(), Error> {
        let taken = store::order::taken(&self.db, &order.account, &order.id, &order.group).await?;
        if taken.order {
            return Err(order_taken(order));
        }
        if taken.group && order.new_group.is_some() {
            return Err(group_taken(group::name(&order.account, &order.group)));
        }
        Ok(())
    }

    /// Refuses what nobody should pay for: unknown or archived offers, and more licences than a group may hold.
    async fn check(&self, wish: &Wish, now: Timestamp) -> Result<(), Error> {
        let ids: Vec<&str> = wish.lines.iter().map(|line| line.offer.as_str()).collect();
        let (offers, group) = tokio::try_join!(
            store::offer::read_all(&self.db, &ids),
            store::group::read(&self.db, &wish.account, &wish.group)
        )?;
        let mut unknown = Violations::default();
        for (at, id) in ids.iter().enumerate() {
            if !offers.iter().any(|offer| offer.id == *id) {
                unknown.add(format!("order.lines[{at}].offer"), "names no offer");
            }
        }
        unknown.finish()?;
        let group = match (&wish.new_group, group) {
            (None, Some(group)) => {
                group.check_open(now)?;
                Some(group)
            }
            (None, None) => return Err(no_group(&wish.account, &wish.group)),
            (Some(_), Some(group)) => return Err(group_taken(group.name())),
            (Some(_), None) => None,
        };
        for line in &wish.lines {
            let Some(offer) = offers.iter().find(|offer| offer.id == line.offer) else {
                continue;
            };
            if offer.archived {
                return Err(Error::OfferArchived {
                    offer: offer::name(&offer.id),
                });
            }
            let seats = group
                .as_ref()
                .and_then(|group| group.seats.iter().find(|seats| seats.offer == offer.id));
            match seats {
                Some(seats) => seats.check_room(line.quantity)?,
                None => Seats::none(offer.id.clone(), offer.group_license_limit)
                    .check_room(line.quantity)?,
            }
        }
        Ok(())
    }
}

/// Whether the database is away: no single order's fault.
fn is_everybody_s(error: &Error) -> bool {
    matches!(
        error,
        Error::Platform(Platform::Unavailable(_) | Platform::OutcomeUnknown)
    )
}

/// What an audit row says of an order.
pub(crate) fn told(order: &Order) -> Value {
    let lines: Vec<Value> = order
        .lines
        .iter()
        .map(|line| json!({"offer": offer::name(&line.offer), "quantity": line.quantity, "price": line.price}))
        .collect();
    json!({
        "state": order.state.text(),
        "license_group": group::name(&order.account, &order.group),
        "new_group": order.new_group.is_some(),
        "lines": lines,
        "due_now": format!("{} {}", order.quote.due_now.amount, order.quote.due_now.currency),
        "payment_attempts": order.attempts,
        "decline_reason": order.decline_reason,
    })
}

/// The refusal of an order that is not there.
pub(crate) fn not_found(name: String) -> Error {
    Platform::NotFound {
        kind: "order",
        name,
    }
    .into()
}

/// The group may have changed while billing was quoting.
fn check_group(order: &Order, group: Option<&Group>, now: Timestamp) -> Result<(), Error> {
    match (&order.new_group, group) {
        (None, Some(group)) => group.check_open(now),
        (None, None) => Err(no_group(&order.account, &order.group)),
        (Some(_), Some(group)) => Err(group_taken(group.name())),
        (Some(_), None) => Ok(()),
    }
}

fn no_group(account: &str, group: &str) -> Error {
    Platform::NotFound {
        kind: "license group",
        name: group::name(account, group),
    }
    .into()
}

fn order_taken(order: &Order) -> Error {
    Platform::AlreadyExists {
        kind: "order",
        name: order.name(),
    }
    .into()
}

fn group_taken(name: String) -> Error {
    Platform::AlreadyExists {
        kind: "license group",
        name,
    }
    .into()
}

/// An id that another order has, or holds for its new group.
fn taken(error: Platform, order: &Order) -> Error {
    if error.violates("license_order_pkey") {
        order_taken(order)
    } else if error.violates("license_order_holds_group") {
        group_taken(group::name(&order.account, &order.group))
    } else {
        error.into()
    }
}
