//! Reading the usage of groups.

use octroi_calendar::{Month, Span};
use octroi_platform::{Call, Db, Error};

use crate::domain::group::GroupId;
use crate::domain::usage::{OfferUsage, around, usage};
use crate::store;

#[derive(Clone)]
pub(crate) struct Usages {
    pub(crate) db: Db,
}

impl Usages {
    /// A billing month of a group: its bounds and its usage by offer.
    pub(crate) async fn query(
        &self,
        call: &Call,
        id: &GroupId,
        month: Month,
    ) -> Result<(Span, Vec<OfferUsage>), Error> {
        // The calendar is known only once the row is read, so a little more than the month is read with it.
        let window = around(month);
        let (account, intervals) = store::usage::read(&self.db, id, window.start, window.end)
            .await?
            .ok_or_else(|| call.not_found(id))?;
        let zones = account.calendar()?;
        let offers = usage(&intervals, month, &zones, call.now);
        Ok((zones.month(month), offers))
    }
}
