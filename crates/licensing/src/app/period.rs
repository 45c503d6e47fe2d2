//! The ends of groups' periods: groups renew or terminate with effect from that instant, even if it is processed later.

use jiff::Timestamp;
use octroi_api::event::v1::license_deactivated::Cause;
use octroi_platform::{Call, Db, Error, one_by_one};

use crate::app::group::{close, end, save, unpaid};
use crate::domain::group::PeriodEnd;
use crate::store;
use crate::store::group::Due;
use crate::store::license::Seats;

const BATCH: i64 = 100;

#[derive(Clone)]
pub(crate) struct Periods {
    pub(crate) db: Db,
}

impl Periods {
    /// Renews or ends the groups whose period ended by `now`, the earliest first; answers how many. Groups that fail,
    /// however many, do not hold up the others: each is tried once.
    ///
    /// # Errors
    /// When every group that was due failed.
    pub(crate) async fn work(&self, now: Timestamp) -> Result<u64, Error> {
        one_by_one(
            |after| store::group::due(&self.db, now, after, BATCH),
            |due| self.work_off(due),
        )
        .await
    }

    /// The earliest period end not processed yet: events before it are final.
    pub(crate) async fn earliest(&self) -> Result<Option<Timestamp>, Error> {
        store::group::earliest_period_end(&self.db).await
    }

    /// Whether this one had something to do; another instance may have been first.
    async fn work_off(&self, due: Due) -> Result<bool, Error> {
        let call = Call::background(due.at, "licensing/end-periods");
        let key = store::group::key(&due.group);
        let (mut tx, rows) = self.db.begin_work(&call, store::group::LOCK, &key).await?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let before = store::group::from_row(row)?;
        if before.period.end != due.at {
            return Ok(false);
        }
        let accounts = tx.query(store::account::READ, &key[..1]).await?;
        let account = accounts
            .first()
            .map(store::account::from_row)
            .transpose()?
            .ok_or_else(|| Error::Internal(anyhow::anyhow!("a group without its account")))?;
        let after = match before.clone().at_period_end(&account.calendar()?, due.at) {
            None => return Ok(false),
            Some(PeriodEnd::Renewed(after)) => {
                close(
                    &mut tx,
                    &before,
                    Seats::DeletedAtRenewal,
                    Cause::Deleted,
                    due.at,
                )
                .await?;
                after
            }
            Some(PeriodEnd::Ended(after)) => {
                // An order being paid blocks the end until its outcome is known.
                let Some(unpaid) = unpaid(&tx, &before.id).await? else {
                    return Ok(false);
                };
                end(&mut tx, &after, &unpaid, due.at).await?;
                after
            }
        };
        save(&mut tx, &after, due.at);
        tx.keep(Some(&before), &after).await?;
        Ok(true)
    }
}
