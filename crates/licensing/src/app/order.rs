//! Creating, reading, cancelling and expiring orders. Paying them is in `payment`.

use jiff::Timestamp;
use octroi_api::event::v1::OrderCreated;
use octroi_api::event::v1::event::Payload;
use octroi_api::licensing::v1 as wire;
use octroi_platform::{
    AccountId, Aggregate, Call, Db, Error, Name as _, NewEvent, Page, ToSql, Violations, one_by_one,
};
use serde_json::{Value, json};

use crate::billing::Billing;
use crate::domain::group::{Group, GroupId, Seats};
use crate::domain::order::{Order, OrderDraft, OrderId};
use crate::refusal;
use crate::store;

impl Aggregate for Order {
    type Id = OrderId;
    type Wire = wire::Order;

    fn id(&self) -> &OrderId {
        &self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn audited(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "offer": line.offer.to_string(),
                "quantity": line.quantity,
                "price": line.price,
            })
        });
        let due_now = &self.quote.due_now;
        json!({
            "state": self.state.as_str(),
            "license_group": self.group.to_string(),
            "new_group": self.new_group.is_some(),
            "lines": lines.collect::<Vec<_>>(),
            "due_now": format!("{} {}", due_now.amount, due_now.currency),
            "payment_attempts": self.attempts,
            "decline_reason": self.decline_reason,
        })
    }
}

const BATCH: i64 = 100;

#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) db: Db,
    pub(crate) billing: Billing,
}

impl Orders {
    /// Checks and quotes an order, and stores it unless it is only to be validated.
    pub(crate) async fn create(
        &self,
        call: &Call,
        draft: OrderDraft,
        validate_only: bool,
    ) -> Result<wire::Order, Error> {
        let account = draft.id.account.clone();
        self.db.replay(call, account.as_str()).await?;
        self.check(call, &draft).await?;
        let (quote, snapshot) = self.billing.quote(call, &draft, !validate_only).await?;
        let order = Order::quoted(draft, quote, call.now);
        if validate_only {
            self.check_ids(&order).await?;
            return Ok((&order).into());
        }
        let key = store::group::key(&order.group);
        let lock = store::group::HOLD;
        let (mut tx, rows) = self.db.begin(call, account.as_str(), lock, &key).await?;
        let group = rows.first().map(store::group::from_row).transpose()?;
        check_group(
            call,
            &order.group,
            order.new_group.is_some(),
            group.as_ref(),
        )?;
        store::account::save(&mut tx, snapshot);
        store::order::insert(&mut tx, &order);
        let name = order.id.to_string();
        tx.emit(NewEvent::new(
            account.as_str(),
            name.clone(),
            call.now,
            Payload::OrderCreated(OrderCreated { order: name }),
        ));
        let kept = tx.keep(None, &order).await;
        kept.map_err(|error| taken(error, &order))
    }

    pub(crate) async fn get(&self, call: &Call, id: &OrderId) -> Result<Order, Error> {
        let order = store::order::read(&self.db, id).await?;
        order.ok_or_else(|| call.not_found(id))
    }

    /// A page of an account's orders, by id.
    pub(crate) async fn list(
        &self,
        call: &Call,
        account: &AccountId,
        page: &Page<String>,
    ) -> Result<Vec<Order>, Error> {
        let (sql, from_row) = (store::order::LIST, store::order::from_row);
        let params: [&(dyn ToSql + Sync); 3] = [account, &page.after, &page.limit];
        self.db.list(call, account, sql, &params, from_row).await
    }

    /// Cancels an order that awaits payment.
    pub(crate) async fn cancel(
        &self,
        call: &Call,
        id: &OrderId,
        etag: &str,
    ) -> Result<wire::Order, Error> {
        let key = store::order::key(id);
        let lock = (store::order::LOCK_ALONE, &key[..]);
        self.db
            .change(call, (id, etag), lock, store::order::from_row, |held| {
                let after = held.now.clone().cancel(call.now)?;
                store::order::update(&mut held.tx, &after);
                Ok(after)
            })
            .await
    }

    /// Expires orders that were not paid in time; answers how many.
    pub(crate) async fn expire(&self, now: Timestamp) -> Result<u64, Error> {
        one_by_one(
            |after| store::order::overdue(&self.db, now, after, BATCH),
            |overdue| self.expire_one(now, overdue.order),
        )
        .await
    }

    /// Whether this one was still to be expired; it may have been paid meanwhile, or somebody holds it.
    async fn expire_one(&self, now: Timestamp, id: OrderId) -> Result<bool, Error> {
        let call = Call::background(now, "licensing/expire-orders");
        let (lock, key) = (store::order::LOCK_FREE, store::order::key(&id));
        let (mut tx, rows) = self.db.begin_work(&call, lock, &key).await?;
        let Some(row) = rows.first() else {
            tx.rollback().await;
            return Ok(false);
        };
        let before = store::order::from_row(row)?;
        let after = before.clone().expire(now);
        store::order::update(&mut tx, &after);
        tx.audit(
            &id.to_string(),
            Some(before.audited()),
            Some(after.audited()),
        );
        tx.commit_work().await?;
        Ok(true)
    }

    /// Refuses ids that are taken, as storing the order would.
    async fn check_ids(&self, order: &Order) -> Result<(), Error> {
        let taken = store::order::taken(&self.db, order).await?;
        if taken.order {
            return Err(order.id.already_exists());
        }
        if taken.group && order.new_group.is_some() {
            return Err(order.group.already_exists());
        }
        Ok(())
    }

    /// Refuses orders that could not be completed: unknown or archived offers, more licences than a group may hold.
    async fn check(&self, call: &Call, draft: &OrderDraft) -> Result<(), Error> {
        let ids: Vec<_> = draft.lines.iter().map(|line| &line.offer).collect();
        let (offers, group) = tokio::try_join!(
            store::offer::read_all(&self.db, &ids),
            store::group::read(&self.db, &draft.group)
        )?;
        let mut unknown = Violations::default();
        for (at, id) in ids.iter().enumerate() {
            if !offers.iter().any(|offer| offer.id == **id) {
                unknown.add(format!("order.lines[{at}].offer"), "names no offer");
            }
        }
        unknown.finish()?;
        check_group(
            call,
            &draft.group,
            draft.new_group.is_some(),
            group.as_ref(),
        )?;
        for line in &draft.lines {
            let Some(offer) = offers.iter().find(|offer| offer.id == line.offer) else {
                continue;
            };
            if offer.archived {
                return Err(refusal::offer_archived(&offer.id).into());
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

/// Checks that an order's group is open, or, where it is to be created, does not exist.
fn check_group(call: &Call, id: &GroupId, new: bool, group: Option<&Group>) -> Result<(), Error> {
    match group {
        Some(_) if new => Err(id.already_exists()),
        Some(group) => group.check_open(call.now),
        None if new => Ok(()),
        None => Err(call.not_found(id)),
    }
}

/// ALREADY_EXISTS where another order has the id, or reserves it for its new group.
fn taken(error: Error, order: &Order) -> Error {
    if error.violates("license_order_pkey") {
        order.id.already_exists()
    } else if error.violates("license_order_holds_group") {
        order.group.already_exists()
    } else {
        error
    }
}
