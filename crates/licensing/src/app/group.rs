//! Reading, changing and ending groups.

use jiff::Timestamp;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::license_deactivated::Cause;
use octroi_api::event::v1::{LicenseGroupChanged, LicenseGroupTerminated};
use octroi_api::licensing::v1 as wire;
use octroi_platform::time::to_proto;
use octroi_platform::{
    AccountId, Aggregate, Call, Db, Error, Held, NewEvent, Page, ToSql, Tx, row_get,
};
use serde_json::{Value, json};

use crate::app::license::deactivated;
use crate::domain::group::{Group, GroupId};
use crate::domain::order::OrderId;
use crate::domain::termination::TerminationRequest;
use crate::refusal;
use crate::store;
use crate::store::license::{Seats, close_seats};

impl Aggregate for Group {
    type Id = GroupId;
    type Wire = wire::LicenseGroup;

    fn id(&self) -> &GroupId {
        &self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn audited(&self) -> Value {
        let termination = self.state.termination().map(|it| {
            json!({
                "reasons": it.reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(),
                "effective_time": it.at.to_string(),
            })
        });
        json!({
            "state": self.state.as_str(),
            "display_name": self.display_name,
            "auto_renew": self.auto_renew,
            "period_end_time": self.period.end.to_string(),
            "termination": termination,
            "next_license_number": self.next_license_number,
        })
    }
}

#[derive(Clone)]
pub(crate) struct Groups {
    pub(crate) db: Db,
}

/// Which fields of a group are to change.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) display_name: Option<String>,
    pub(crate) auto_renew: Option<bool>,
}

impl Groups {
    pub(crate) async fn get(&self, call: &Call, id: &GroupId) -> Result<Group, Error> {
        let group = store::group::read(&self.db, id).await?;
        group.ok_or_else(|| call.not_found(id))
    }

    /// A page of an account's groups, by id.
    pub(crate) async fn list(
        &self,
        call: &Call,
        account: &AccountId,
        page: &Page<String>,
    ) -> Result<Vec<Group>, Error> {
        let (sql, from_row) = (store::group::LIST, store::group::from_row);
        let params: [&(dyn ToSql + Sync); 3] = [account, &page.after, &page.limit];
        self.db.list(call, account, sql, &params, from_row).await
    }

    /// Changes what the customer may change.
    pub(crate) async fn update(
        &self,
        call: &Call,
        id: &GroupId,
        etag: &str,
        change: Change,
    ) -> Result<wire::LicenseGroup, Error> {
        let mut held = self.hold(call, id, etag).await?;
        let before = held.now.clone();
        let after = before.update(change.display_name, change.auto_renew, call.now)?;
        save(&mut held.tx, &after, call.now);
        held.keep(&after).await
    }

    /// Ends a group at once, or at the end of its period.
    pub(crate) async fn terminate(
        &self,
        call: &Call,
        id: &GroupId,
        etag: &str,
        request: TerminationRequest,
        at_period_end: bool,
    ) -> Result<wire::LicenseGroup, Error> {
        let mut held = self.hold(call, id, etag).await?;
        let unpaid = unpaid(&held.tx, id).await?;
        let before = held.now.clone();
        let after = if at_period_end {
            before.schedule_termination(request, call.now)?
        } else {
            before.terminate(request, call.now)?
        };
        let unpaid = unpaid.ok_or_else(|| refusal::order_in_progress(id))?;
        if !at_period_end {
            end(&mut held.tx, &after, &unpaid, call.now).await?;
        }
        save(&mut held.tx, &after, call.now);
        held.keep(&after).await
    }

    pub(crate) async fn cancel_termination(
        &self,
        call: &Call,
        id: &GroupId,
        etag: &str,
    ) -> Result<wire::LicenseGroup, Error> {
        let mut held = self.hold(call, id, etag).await?;
        let after = held.now.clone().cancel_termination(call.now)?;
        save(&mut held.tx, &after, call.now);
        held.keep(&after).await
    }

    /// Locks a group. [`Db::change`] cannot: seats change without a lock on their group, so that what was read before a
    /// wait for the lock is read again.
    async fn hold(&self, call: &Call, id: &GroupId, etag: &str) -> Result<Held<Group>, Error> {
        let key = store::group::key(id);
        let (account, lock) = (id.account.as_str(), store::group::LOCK_FREE);
        let (tx, mut rows) = self.db.begin(call, account, lock, &key).await?;
        if rows.is_empty() {
            tx.query(store::group::LOCK, &key).await?;
            rows = tx.query(store::group::READ, &key).await?;
        }
        Held::new(tx, rows, (id, etag), store::group::from_row)
    }
}

/// Queues a group's next version with its event.
pub(crate) fn save(tx: &mut Tx, after: &Group, at: Timestamp) {
    store::group::update(tx, after);
    tx.emit(changed_event(after, at));
}

/// Orders of the group that await payment, by id, locked; none when one is being paid.
pub(crate) async fn unpaid(tx: &Tx, group: &GroupId) -> Result<Option<Vec<OrderId>>, Error> {
    let key = store::group::key(group);
    let rows = tx.query(store::order::LOCK_UNPAID_OF_GROUP, &key).await?;
    let mut unpaid = Vec::with_capacity(rows.len());
    for row in &rows {
        if row_get::<&str>(row, "state")? == "PAYING" {
            return Ok(None);
        }
        unpaid.push(OrderId {
            account: group.account.clone(),
            id: row_get(row, "order_id")?,
        });
    }
    Ok(Some(unpaid))
}

/// Deletes an ended group's licences, with their users' sessions and devices, and cancels its unpaid orders.
pub(crate) async fn end(
    tx: &mut Tx,
    group: &Group,
    unpaid: &[OrderId],
    at: Timestamp,
) -> Result<(), Error> {
    let licenses = close(tx, group, Seats::All, Cause::Terminated, at).await?;
    tx.emit(terminated_event(group, licenses, at));
    store::order::cancel_unpaid(tx, &group.id, unpaid);
    for id in unpaid {
        tx.audit(
            &id.to_string(),
            Some(json!({"state": "AWAITING_PAYMENT"})),
            Some(json!({"state": "CANCELLED"})),
        );
    }
    Ok(())
}

/// Deletes licences of a group as one; answers how many.
pub(crate) async fn close(
    tx: &mut Tx,
    group: &Group,
    which: Seats,
    cause: Cause,
    at: Timestamp,
) -> Result<i64, Error> {
    let closed = close_seats(tx, &group.id, which, at).await?;
    for seat in &closed.active {
        tx.emit(deactivated(&seat.id, &seat.offer, cause, seat.ended_at));
    }
    Ok(closed.licenses)
}

/// The event that publishes a group's state.
pub(crate) fn changed_event(group: &Group, at: Timestamp) -> NewEvent {
    NewEvent::new(
        group.id.account.as_str(),
        group.id.to_string(),
        at,
        Payload::LicenseGroupChanged(LicenseGroupChanged {
            version: group.version,
            display_name: group.display_name.clone(),
            period_start_time: Some(to_proto(group.period.start)),
            period_end_time: Some(to_proto(group.period.end)),
            auto_renew: group.auto_renew,
            termination_time: group.state.termination().map(|it| to_proto(it.at)),
        }),
    )
}

fn terminated_event(group: &Group, licenses: i64, at: Timestamp) -> NewEvent {
    let termination = group.state.termination();
    let reasons = termination.map_or(&[][..], |it| &it.reasons);
    NewEvent::new(
        group.id.account.as_str(),
        group.id.to_string(),
        at,
        Payload::LicenseGroupTerminated(LicenseGroupTerminated {
            display_name: group.display_name.clone(),
            reasons: reasons
                .iter()
                .map(|reason| reason.as_str().to_owned())
                .collect(),
            licenses: i32::try_from(licenses).unwrap_or(i32::MAX),
        }),
    )
}
