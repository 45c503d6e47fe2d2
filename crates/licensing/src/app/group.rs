//! Reading, changing and ending groups.

use jiff::Timestamp;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::license_deactivated::Cause;
use octroi_api::event::v1::{LicenseGroupChanged, LicenseGroupTerminated};
use octroi_platform::event::to_proto;
use octroi_platform::name::check_etag;
use octroi_platform::{Call, Db, Error as Platform, NewEvent, Page, ToSql, Tx, row_get};
use prost::Message;
use serde_json::{Value, json};

use crate::app::license::deactivated;
use crate::domain::group::{self, Farewell, Group, State};
use crate::domain::{account, order};
use crate::error::Error;
use crate::store;
use crate::store::license::{Seats, close_seats};

/// Groups of licences.
#[derive(Clone)]
pub(crate) struct Groups {
    db: Db,
}

/// Which fields of a group are to change.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// The new name for people.
    pub(crate) display_name: Option<String>,
    /// Whether to renew.
    pub(crate) auto_renew: Option<bool>,
}

impl Groups {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// One group.
    pub(crate) async fn get(&self, call: &Call, account: &str, id: &str) -> Result<Group, Error> {
        see(call, account, id)?;
        store::group::read(&self.db, account, id)
            .await?
            .ok_or_else(|| not_found(account, id))
    }

    /// A page of an account's groups, by id.
    pub(crate) async fn list(
        &self,
        call: &Call,
        account: &str,
        page: &Page,
    ) -> Result<Vec<Group>, Error> {
        call.caller
            .may_see(account, "account", &account::name(account))?;
        Ok(store::group::list(&self.db, account, page).await?)
    }

    /// Changes what the customer may change.
    pub(crate) async fn update<R: Message + Default>(
        &self,
        call: &Call,
        (account, id): (&str, &str),
        etag: &str,
        change: Change,
        reply: fn(&Group) -> R,
    ) -> Result<R, Error> {
        let (tx, before) = match self.lock(call, account, id, etag).await? {
            Ok(locked) => locked,
            Err(answer) => return Ok(answer),
        };
        let after = before
            .clone()
            .update(change.display_name, change.auto_renew, call.now)?;
        keep(tx, &before, &after, reply).await
    }

    /// Ends a group at once, or at the end of its period.
    ///
    /// # Errors
    /// [`Error::OrderInProgress`], [`Error::GroupTerminated`], [`Error::TerminationScheduled`].
    pub(crate) async fn terminate<R: Message + Default>(
        &self,
        call: &Call,
        (account, id): (&str, &str),
        etag: &str,
        (farewell, at_period_end): (Farewell, bool),
        reply: fn(&Group) -> R,
    ) -> Result<R, Error> {
        let (mut tx, before) = match self.lock(call, account, id, etag).await? {
            Ok(locked) => locked,
            Err(answer) => return Ok(answer),
        };
        let unpaid = unpaid(&tx, &before).await?;
        let after = if at_period_end {
            before.clone().schedule_termination(farewell, call.now)?
        } else {
            before.clone().terminate(farewell, call.now)?
        };
        let Some(unpaid) = unpaid else {
            return Err(Error::OrderInProgress {
                group: before.name(),
            });
        };
        if !at_period_end {
            end(&mut tx, &after, &unpaid, call.now).await?;
        }
        keep(tx, &before, &after, reply).await
    }

    /// Takes back an end that has not come yet.
    ///
    /// # Errors
    /// [`Error::NoTerminationScheduled`], [`Error::GroupTerminated`].
    pub(crate) async fn cancel_termination<R: Message + Default>(
        &self,
        call: &Call,
        (account, id): (&str, &str),
        etag: &str,
        reply: fn(&Group) -> R,
    ) -> Result<R, Error> {
        let (tx, before) = match self.lock(call, account, id, etag).await? {
            Ok(locked) => locked,
            Err(answer) => return Ok(answer),
        };
        let after = before.clone().cancel_termination(call.now)?;
        keep(tx, &before, &after, reply).await
    }

    /// Begins a command on a group, or gives the answer that it was given before.
    async fn lock<R: Message + Default>(
        &self,
        call: &Call,
        account: &str,
        id: &str,
        etag: &str,
    ) -> Result<Result<(Tx, Group), R>, Error> {
        see(call, account, id)?;
        let key: [&(dyn ToSql + Sync); 2] = [&account, &id];
        let begun = self
            .db
            .begin(call, account, store::group::LOCK_FREE, &key)
            .await?;
        let (tx, mut rows) = match begun.fresh()? {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(Err(answer)),
        };
        if rows.is_empty() {
            // Somebody holds it, if it is there. After the wait the seats are read again, as the one before left them.
            tx.query(store::group::LOCK, &key).await?;
            rows = tx.query(store::group::READ, &key).await?;
        }
        let row = rows.first().ok_or_else(|| not_found(account, id))?;
        let group = store::group::from_row(row)?;
        check_etag(etag, group.version, &group.name())?;
        Ok(Ok((tx, group)))
    }
}

/// Writes a group's next version with its event and audit row, and answers.
async fn keep<R: Message>(
    mut tx: Tx,
    before: &Group,
    after: &Group,
    reply: fn(&Group) -> R,
) -> Result<R, Error> {
    let now = tx.call().now;
    write(&mut tx, before, after, now);
    let answer = reply(after);
    tx.commit(&answer).await?;
    Ok(answer)
}

/// Queues a group's next version with its event and audit row.
pub(crate) fn write(tx: &mut Tx, before: &Group, after: &Group, at: Timestamp) {
    store::group::update(tx, after);
    tx.emit(changed_event(after, at));
    tx.audit(&after.name(), Some(told(before)), Some(told(after)));
}

/// Orders of the group that await payment, by id, locked; none when one is being paid.
pub(crate) async fn unpaid(tx: &Tx, group: &Group) -> Result<Option<Vec<String>>, Error> {
    let rows = tx
        .query(
            store::order::LOCK_UNPAID_OF_GROUP,
            &[&group.account, &group.id],
        )
        .await?;
    let mut unpaid = Vec::with_capacity(rows.len());
    for row in &rows {
        if row_get::<&str>(row, "state")? == "PAYING" {
            return Ok(None);
        }
        unpaid.push(row_get(row, "order_id")?);
    }
    Ok(Some(unpaid))
}

/// Ends what hangs on a group that has ended: its licences and what their users have, and its unpaid orders.
pub(crate) async fn end(
    tx: &mut Tx,
    group: &Group,
    unpaid: &[String],
    at: Timestamp,
) -> Result<(), Error> {
    let licenses = close(tx, group, Seats::All, Cause::Terminated, at).await?;
    tx.emit(terminated_event(group, licenses, at));
    store::order::cancel_unpaid(tx, &group.account, unpaid);
    for id in unpaid {
        tx.audit(
            &order::name(&group.account, id),
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
    let closed = close_seats(tx, &group.account, &group.id, which, at).await?;
    for seat in &closed.active {
        tx.emit(deactivated(&seat.id, &seat.offer, cause, seat.ended_at));
    }
    Ok(closed.licenses)
}

/// The event that tells what others show of a group.
pub(crate) fn changed_event(group: &Group, at: Timestamp) -> NewEvent {
    let ending = match &group.state {
        State::Live { ending, .. } => ending.as_ref(),
        State::Terminated(termination) => Some(termination),
    };
    NewEvent::new(
        &group.account,
        group.name(),
        at,
        Payload::LicenseGroupChanged(LicenseGroupChanged {
            version: group.version,
            display_name: group.display_name.clone(),
            period_start_time: Some(to_proto(group.period.start)),
            period_end_time: Some(to_proto(group.period.end)),
            auto_renew: group.auto_renew,
            termination_time: ending.map(|termination| to_proto(termination.at)),
        }),
    )
}

fn terminated_event(group: &Group, licenses: i64, at: Timestamp) -> NewEvent {
    let reasons = match &group.state {
        State::Terminated(termination) => termination.reasons.as_slice(),
        State::Live { .. } => &[],
    };
    NewEvent::new(
        &group.account,
        group.name(),
        at,
        Payload::LicenseGroupTerminated(LicenseGroupTerminated {
            display_name: group.display_name.clone(),
            reasons: reasons
                .iter()
                .map(|reason| reason.text().to_owned())
                .collect(),
            licenses: i32::try_from(licenses).unwrap_or(i32::MAX),
        }),
    )
}

/// What an audit row says of a group.
pub(crate) fn told(group: &Group) -> Value {
    let termination = |termination: &group::Termination| {
        json!({
            "reasons": termination.reasons.iter().map(|reason| reason.text()).collect::<Vec<_>>(),
            "effective_time": termination.at.to_string(),
        })
    };
    let (state, ending) = match &group.state {
        State::Live { suspended, ending } => (
            if *suspended { "SUSPENDED" } else { "ACTIVE" },
            ending.as_ref().map(termination),
        ),
        State::Terminated(ended) => ("TERMINATED", Some(termination(ended))),
    };
    json!({
        "state": state,
        "display_name": group.display_name,
        "auto_renew": group.auto_renew,
        "period_end_time": group.period.end.to_string(),
        "termination": ending,
        "next_license_number": group.next_license_number,
    })
}

/// The refusal of a group that is not there.
pub(crate) fn not_found(account: &str, id: &str) -> Error {
    Platform::NotFound {
        kind: "license group",
        name: group::name(account, id),
    }
    .into()
}

fn see(call: &Call, account: &str, id: &str) -> Result<(), Error> {
    let name = group::name(account, id);
    Ok(call.caller.may_see(account, "license group", &name)?)
}
