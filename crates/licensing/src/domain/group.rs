//! Groups of licences, which a customer orders, renews and terminates.

use jiff::Timestamp;
use jiff::civil::Date;
use octroi_calendar::Zones;
use octroi_platform::error::Error;
use octroi_platform::name::{Kind, Owned};

use crate::domain::offer::OfferId;
use crate::domain::order::{NewGroup, Order};
use crate::domain::period::{Period, RenewalPeriod, anniversary, midnight};
use crate::domain::termination::{Termination, TerminationRequest};
use crate::refusal::{self, Refusal};

/// Which group: "accounts/acme/licenseGroups/office".
pub(crate) type GroupId = Owned<GroupKind>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GroupKind {}

impl Kind for GroupKind {
    type Id = String;
    const KIND: &'static str = "license group";
    const COLLECTION: &'static str = "licenseGroups";
}

/// A set of licences with one renewal period and one life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) display_name: String,
    pub(crate) state: State,
    pub(crate) billing_mode: BillingMode,
    pub(crate) renewal_period: RenewalPeriod,
    /// Whether it renews at the end of its period.
    pub(crate) auto_renew: bool,
    /// The local date on which its first order completed.
    pub(crate) first_date: Date,
    /// The current period; of a terminated group the last one.
    pub(crate) period: Period,
    /// Its licences by offer, ordered by offer id.
    pub(crate) seats: Vec<Seats>,
    pub(crate) next_license_number: i32,
    /// When its first order completed.
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// In use.
    Live {
        /// While suspended, users can neither sign in nor be activated.
        suspended: bool,
        /// The termination that is scheduled for the end of the period.
        ending: Option<Termination>,
    },
    /// Ended for good.
    Terminated(Termination),
}

impl State {
    /// Its name in the database and, without prefix, on the wire.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Live {
                suspended: false, ..
            } => "ACTIVE",
            Self::Live {
                suspended: true, ..
            } => "SUSPENDED",
            Self::Terminated(_) => "TERMINATED",
        }
    }

    /// Its termination, whether it has taken effect or is scheduled.
    pub(crate) fn termination(&self) -> Option<&Termination> {
        match self {
            Self::Live { ending, .. } => ending.as_ref(),
            Self::Terminated(termination) => Some(termination),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BillingMode {
    /// Each month's consumption after its end.
    Postpaid,
    /// Each period in advance.
    Prepaid,
}

impl BillingMode {
    /// Its name in the database and, without prefix, on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Postpaid => "POSTPAID",
            Self::Prepaid => "PREPAID",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Postpaid, Self::Prepaid]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

/// A group's licences of one offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seats {
    pub(crate) offer: OfferId,
    /// Licences that are not deleted.
    pub(crate) used: i32,
    /// Of these, how many have a user.
    pub(crate) active: i32,
    /// Seats held by orders being paid.
    pub(crate) reserved: i32,
    /// The most that the group may hold; none means without limit.
    pub(crate) cap: Option<i32>,
}

impl Seats {
    /// Of an offer of which the group has no licences yet.
    pub(crate) fn none(offer: OfferId, cap: Option<i32>) -> Self {
        Self {
            offer,
            used: 0,
            active: 0,
            reserved: 0,
            cap,
        }
    }

    /// Whether `more` licences would fit.
    ///
    /// # Errors
    /// LICENSE_LIMIT_REACHED.
    pub(crate) fn check_room(&self, more: i32) -> Result<(), Refusal> {
        let held = i64::from(self.used) + i64::from(self.reserved) + i64::from(more);
        match self.cap {
            Some(limit) if held > i64::from(limit) => {
                Err(refusal::license_limit_reached(&self.offer, limit))
            }
            _ => Ok(()),
        }
    }
}

/// The effect of a period's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeriodEnd {
    /// The next period begins; licences marked for deletion are deleted.
    Renewed(Group),
    /// The group ended.
    Ended(Group),
}

impl Group {
    /// The group that an order creates when it completes.
    pub(crate) fn create(order: &Order, new: &NewGroup, zones: &Zones, now: Timestamp) -> Self {
        let first_date = zones.date_at(now);
        Self {
            id: order.group.clone(),
            display_name: new.display_name.clone(),
            state: State::Live {
                suspended: false,
                ending: None,
            },
            billing_mode: BillingMode::Postpaid,
            renewal_period: new.renewal_period,
            auto_renew: new.auto_renew,
            first_date,
            period: Period {
                number: 0,
                start: midnight(zones, first_date),
                end: anniversary(zones, first_date, new.renewal_period, 1),
            },
            seats: Vec::new(),
            next_license_number: after(1, order),
            created_at: now,
            updated_at: now,
            version: 1,
        }
    }

    /// Adds the licences of a completed order, even if the group was suspended since.
    pub(crate) fn receive(self, order: &Order, now: Timestamp) -> Self {
        Self {
            next_license_number: after(self.next_license_number, order),
            ..self
        }
        .changed(now)
    }

    /// Whether licences may be ordered into it and activated.
    ///
    /// # Errors
    /// GROUP_TERMINATED, also when only an order being paid delays the end; GROUP_SUSPENDED, or a conflict while its
    /// period's end is being processed.
    pub(crate) fn check_open(&self, now: Timestamp) -> Result<(), Error> {
        match &self.state {
            State::Terminated(_) => Err(refusal::group_terminated(&self.id).into()),
            State::Live {
                suspended: true, ..
            } => Err(refusal::group_suspended(&self.id).into()),
            State::Live { .. } => self.check_current(now),
        }
    }

    /// Changes what its customer may change.
    ///
    /// # Errors
    /// GROUP_TERMINATED, also when only an order being paid delays the end, or a conflict while its period's end is
    /// being processed.
    pub(crate) fn update(
        self,
        display_name: Option<String>,
        auto_renew: Option<bool>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        self.live()?;
        self.check_current(now)?;
        Ok(Self {
            display_name: display_name.unwrap_or_else(|| self.display_name.clone()),
            auto_renew: auto_renew.unwrap_or(self.auto_renew),
            ..self
        }
        .changed(now))
    }

    /// Ends it at once, whether or not an end is scheduled.
    ///
    /// # Errors
    /// As [`Group::update`].
    pub(crate) fn terminate(
        self,
        request: TerminationRequest,
        now: Timestamp,
    ) -> Result<Self, Error> {
        self.live()?;
        self.check_current(now)?;
        Ok(self.ended(request.at(now, now), now))
    }

    /// Ends it at the end of its period.
    ///
    /// # Errors
    /// As [`Group::update`], and TERMINATION_SCHEDULED.
    pub(crate) fn schedule_termination(
        self,
        request: TerminationRequest,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (suspended, ending) = self.live()?;
        self.check_current(now)?;
        if ending.is_some() {
            return Err(refusal::termination_scheduled(&self.id).into());
        }
        let state = State::Live {
            suspended,
            ending: Some(request.at(self.period.end, now)),
        };
        Ok(Self { state, ..self }.changed(now))
    }

    ///
    /// # Errors
    /// As [`Group::update`], and NO_TERMINATION_SCHEDULED.
    pub(crate) fn cancel_termination(self, now: Timestamp) -> Result<Self, Error> {
        let (suspended, ending) = self.live()?;
        self.check_current(now)?;
        if ending.is_none() {
            return Err(refusal::no_termination_scheduled(&self.id).into());
        }
        let state = State::Live {
            suspended,
            ending: None,
        };
        Ok(Self { state, ..self }.changed(now))
    }

    /// Renewal or termination, with effect from the period's end; none before it.
    pub(crate) fn at_period_end(self, zones: &Zones, now: Timestamp) -> Option<PeriodEnd> {
        let State::Live { ending, .. } = &self.state else {
            return None;
        };
        let due = self.period.end;
        if now < due {
            return None;
        }
        let unasked = || Termination {
            reasons: Vec::new(),
            future_use: String::new(),
            comment: String::new(),
            at: due,
            requested_at: None,
        };
        let termination = match ending {
            Some(termination) => Some(termination.clone()),
            None if !self.auto_renew => Some(unasked()),
            None => None,
        };
        if let Some(termination) = termination {
            return Some(PeriodEnd::Ended(self.ended(termination, due)));
        }
        let number = self.period.number + 1;
        let period = Period {
            number,
            start: due,
            end: anniversary(
                zones,
                self.first_date,
                self.renewal_period,
                i64::from(number) + 1,
            ),
        };
        Some(PeriodEnd::Renewed(Self { period, ..self }.changed(due)))
    }

    fn live(&self) -> Result<(bool, &Option<Termination>), Error> {
        match &self.state {
            State::Live { suspended, ending } => Ok((*suspended, ending)),
            State::Terminated(_) => Err(refusal::group_terminated(&self.id).into()),
        }
    }

    /// Once its period is over it must be renewed or ended first, which background work soon does. Only an order being
    /// paid may delay the end of a group that does not renew, and does not make it last longer.
    fn check_current(&self, now: Timestamp) -> Result<(), Error> {
        if now < self.period.end {
            Ok(())
        } else if self.renews() {
            Err(Error::Conflict("the group's period has just ended"))
        } else {
            Err(refusal::group_terminated(&self.id).into())
        }
    }

    fn renews(&self) -> bool {
        self.auto_renew && matches!(self.state, State::Live { ending: None, .. })
    }

    fn ended(self, termination: Termination, now: Timestamp) -> Self {
        let seats = self.seats.iter().map(|seats| Seats {
            used: 0,
            active: 0,
            ..seats.clone()
        });
        Self {
            seats: seats.collect(),
            state: State::Terminated(termination),
            ..self
        }
        .changed(now)
    }

    fn changed(self, now: Timestamp) -> Self {
        Self {
            updated_at: now.max(self.updated_at),
            version: self.version + 1,
            ..self
        }
    }
}

/// Number of the licence after those of an order that begin with `first`.
fn after(first: i32, order: &Order) -> i32 {
    let next = i64::from(first).saturating_add(order.quantity());
    i32::try_from(next).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
