//! Licences: one seat each, with a user or without.

use std::fmt;

use jiff::Timestamp;
use octroi_platform::text::is_unseen;

use crate::domain::device::{Counters, Limits};

const MIN_LOGIN: usize = 3;
const MAX_LOGIN: usize = 64;
const MAX_NAME: usize = 64;

/// Which licence: a seat number in a group of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LicenseId {
    /// Account id.
    pub(crate) account: String,
    /// Group id.
    pub(crate) group: String,
    /// Seat number: 1 and up, never used again.
    pub(crate) number: i32,
}

impl LicenseId {
    /// Resource name of the group.
    pub(crate) fn group_name(&self) -> String {
        format!("accounts/{}/licenseGroups/{}", self.account, self.group)
    }
}

impl fmt::Display for LicenseId {
    /// The resource name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            account,
            group,
            number,
        } = self;
        write!(
            f,
            "accounts/{account}/licenseGroups/{group}/licenses/{number}"
        )
    }
}

/// One seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct License {
    /// Which.
    pub(crate) id: LicenseId,
    /// Id of its offer.
    pub(crate) offer: String,
    /// Display name of its offer.
    pub(crate) offer_display_name: String,
    /// Where it is in its life.
    pub(crate) state: State,
    /// Whether it goes when its group renews.
    pub(crate) delete_at_renewal: bool,
    /// Its active devices.
    pub(crate) devices: Counters,
    /// How many it may have, from its offer.
    pub(crate) limits: Limits,
    /// When it was bought.
    pub(crate) created_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
    /// Rises by one with every change.
    pub(crate) version: i64,
}

/// Where a licence is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Without a user.
    Unassigned,
    /// With a user; it counts as usage.
    Active(Assignment),
    /// Gone.
    Deleted {
        /// Since when.
        at: Timestamp,
    },
}

impl State {
    /// The name in the database and on the wire.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unassigned => "UNASSIGNED",
            Self::Active(_) => "ACTIVE",
            Self::Deleted { .. } => "DELETED",
        }
    }
}

/// Who has a licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The user.
    pub(crate) user: User,
    /// The login, complete.
    pub(crate) activation_email: ActivationEmail,
    /// Whether the password was mailed and so must be changed first of all.
    pub(crate) password_change_required: bool,
    /// Since when.
    pub(crate) activated_at: Timestamp,
}

/// A user's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// First name, 1 to 64 characters.
    pub(crate) first_name: String,
    /// Last name, 1 to 64 characters.
    pub(crate) last_name: String,
}

impl User {
    /// First and last name, as mails show them.
    pub(crate) fn display_name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name)
    }
}

/// Holds one part of a user's name to its rule.
///
/// # Errors
/// The rule.
pub(crate) fn user_name(part: &str) -> Result<String, &'static str> {
    let length = part.chars().count();
    if !(1..=MAX_NAME).contains(&length) || part.trim().is_empty() || part.chars().any(is_unseen) {
        return Err(
            "must have 1 to 64 characters, not all of them spaces, and no control or format character",
        );
    }
    Ok(part.to_owned())
}

/// Why a licence does not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has a user already.
    Assigned,
    /// It has no user.
    Unassigned,
    /// It is gone.
    Deleted,
    /// Its group lets nobody in until it is resumed.
    GroupSuspended,
    /// Its group has ended.
    GroupTerminated,
    /// What the end of its group's period brings comes first; the background work that brings it is never far.
    PeriodEnded,
}

/// How a licence's group stands towards what is asked of the licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It lets users in.
    Open,
    /// Not until it is resumed.
    Suspended,
    /// Its period has ended and it renews, but what this brings has not been done yet.
    Renewing {
        /// Whether it is suspended besides.
        suspended: bool,
    },
    /// Never again.
    Terminated,
}

/// What a group says of itself where one of its licences is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupState {
    /// Whether it is suspended.
    pub(crate) suspended: bool,
    /// Whether it has ended.
    pub(crate) terminated: bool,
    /// Whether it goes on after its period: it is to renew, and no termination is scheduled.
    pub(crate) renews: bool,
    /// End of its period.
    pub(crate) period_end: Timestamp,
}

impl Standing {
    /// The standing at an instant. An end that is due counts, whether its work has been done yet or not: an order being
    /// paid can delay that for hours.
    pub(crate) fn at(now: Timestamp, group: GroupState) -> Self {
        let over = group.period_end <= now;
        if group.terminated || (over && !group.renews) {
            Self::Terminated
        } else if over {
            Self::Renewing {
                suspended: group.suspended,
            }
        } else if group.suspended {
            Self::Suspended
        } else {
            Self::Open
        }
    }
}

impl License {
    /// When a change asked for at `now` takes effect: a call that waited for another's lock does not undo the order
    /// in which they happened.
    pub(crate) fn effective(&self, now: Timestamp) -> Timestamp {
        now.max(self.updated_at)
    }

    /// Whether it may be changed. Once its group's period is over, what that brings comes first, as of that instant: a
    /// mark set now would be taken for one set before, and usage that ends now would reach into the time after.
    ///
    /// # Errors
    /// [`Refusal::GroupTerminated`] or [`Refusal::PeriodEnded`]; none for a deleted licence, to which nothing happens
    /// any more and whose own refusal says more.
    pub(crate) fn check_current(&self, standing: Standing) -> Result<(), Refusal> {
        match (&self.state, standing) {
            (State::Deleted { .. }, _) | (_, Standing::Open | Standing::Suspended) => Ok(()),
            (_, Standing::Terminated) => Err(Refusal::GroupTerminated),
            (_, Standing::Renewing { .. }) => Err(Refusal::PeriodEnded),
        }
    }

    /// Whether its group lets a user in.
    ///
    /// # Errors
    /// [`Refusal::GroupSuspended`], [`Refusal::GroupTerminated`], or [`Refusal::PeriodEnded`] when it goes with the
    /// period that has just ended.
    pub(crate) fn check_open(&self, standing: Standing) -> Result<(), Refusal> {
        match standing {
            Standing::Open => Ok(()),
            Standing::Renewing { suspended: false } if !self.delete_at_renewal => Ok(()),
            Standing::Renewing { suspended: false } => Err(Refusal::PeriodEnded),
            Standing::Suspended | Standing::Renewing { suspended: true } => {
                Err(Refusal::GroupSuspended)
            }
            Standing::Terminated => Err(Refusal::GroupTerminated),
        }
    }

    /// The user's part, while there is one.
    ///
    /// # Errors
    /// [`Refusal::Unassigned`] or [`Refusal::Deleted`].
    pub(crate) fn assignment(&self) -> Result<&Assignment, Refusal> {
        match &self.state {
            State::Active(assignment) => Ok(assignment),
            State::Unassigned => Err(Refusal::Unassigned),
            State::Deleted { .. } => Err(Refusal::Deleted),
        }
    }

    /// Whether it can be given a user.
    ///
    /// # Errors
    /// [`Refusal::Assigned`] or [`Refusal::Deleted`].
    pub(crate) fn check_free(&self) -> Result<(), Refusal> {
        match self.state {
            State::Unassigned => Ok(()),
            State::Active(_) => Err(Refusal::Assigned),
            State::Deleted { .. } => Err(Refusal::Deleted),
        }
    }

    /// Gives it a user, whose password was mailed.
    ///
    /// # Errors
    /// As [`License::check_free`].
    pub(crate) fn activate(
        &self,
        user: User,
        activation_email: ActivationEmail,
        at: Timestamp,
    ) -> Result<Self, Refusal> {
        self.check_free()?;
        let state = State::Active(Assignment {
            user,
            activation_email,
            password_change_required: true,
            activated_at: at,
        });
        Ok(self.next(state, at))
    }

    /// Notes that the user's password is another now; a mailed one must be changed.
    ///
    /// # Errors
    /// As [`License::assignment`].
    pub(crate) fn with_password(&self, mailed: bool, at: Timestamp) -> Result<Self, Refusal> {
        let assignment = Assignment {
            password_change_required: mailed,
            ..self.assignment()?.clone()
        };
        Ok(self.next(State::Active(assignment), at))
    }

    /// Takes the user away.
    ///
    /// # Errors
    /// As [`License::assignment`].
    pub(crate) fn release(&self, at: Timestamp) -> Result<Self, Refusal> {
        self.assignment()?;
        Ok(self.emptied(State::Unassigned, at))
    }

    /// Ends it for good.
    ///
    /// # Errors
    /// [`Refusal::Deleted`].
    pub(crate) fn delete(&self, at: Timestamp) -> Result<Self, Refusal> {
        match self.state {
            State::Deleted { .. } => Err(Refusal::Deleted),
            State::Unassigned | State::Active(_) => Ok(self.emptied(State::Deleted { at }, at)),
        }
    }

    /// Changes what may be changed in place.
    ///
    /// # Errors
    /// [`Refusal::Deleted`]; [`Refusal::Unassigned`] when a name is given and there is no user.
    pub(crate) fn update(&self, changes: Changes, at: Timestamp) -> Result<Self, Refusal> {
        let state = match (&self.state, changes.first_name, changes.last_name) {
            (State::Deleted { .. }, _, _) => return Err(Refusal::Deleted),
            (state, None, None) => state.clone(),
            (State::Unassigned, _, _) => return Err(Refusal::Unassigned),
            (State::Active(old), first_name, last_name) => {
                let mut assignment = old.clone();
                let user = &mut assignment.user;
                user.first_name = first_name.unwrap_or_else(|| old.user.first_name.clone());
                user.last_name = last_name.unwrap_or_else(|| old.user.last_name.clone());
                State::Active(assignment)
            }
        };
        let mut next = self.next(state, at);
        next.delete_at_renewal = changes.delete_at_renewal.unwrap_or(self.delete_at_renewal);
        Ok(next)
    }

    /// Has other devices.
    pub(crate) fn with_devices(&self, devices: Counters, at: Timestamp) -> Self {
        Self {
            devices,
            ..self.next(self.state.clone(), at)
        }
    }

    fn emptied(&self, state: State, at: Timestamp) -> Self {
        Self {
            devices: Counters::default(),
            ..self.next(state, at)
        }
    }

    fn next(&self, state: State, at: Timestamp) -> Self {
        Self {
            state,
            updated_at: at,
            version: self.version + 1,
            ..self.clone()
        }
    }
}

/// What UpdateLicense changes; none leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// First name.
    pub(crate) first_name: Option<String>,
    /// Last name.
    pub(crate) last_name: Option<String>,
    /// Whether it goes when its group renews.
    pub(crate) delete_at_renewal: Option<bool>,
}

/// A user's login, complete: "desk@office.acme.octroi.example".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActivationEmail(String);

impl ActivationEmail {
    /// Completes a login with the group's default domain, or holds a full address to it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn complete(
        given: &str,
        id: &LicenseId,
        activation_domain: &str,
    ) -> Result<Self, String> {
        let domain = format!("{}.{}.{activation_domain}", id.group, id.account);
        let login = match given.split_once('@') {
            None => given,
            Some((login, under)) if under.eq_ignore_ascii_case(&domain) => login,
            Some(_) => return Err(format!("must be a login, or an address under {domain}")),
        };
        check_login(login)?;
        Ok(Self(format!("{login}@{domain}")))
    }

    /// As the database keeps it.
    pub(crate) fn stored(address: String) -> Self {
        Self(address)
    }

    /// The whole address.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the "@".
    pub(crate) fn login(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }

    /// What makes it unique: the address in lower case.
    pub(crate) fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// The account that an address names, whether it is a login or not: "acme" in "desk@office.acme.octroi.example".
pub(crate) fn account_in(address: &str) -> &str {
    let domain = address.split_once('@').map_or("", |(_, domain)| domain);
    domain.split('.').nth(1).unwrap_or_default()
}

/// Holds what stands before the "@" to its rule.
///
/// # Errors
/// The rule.
pub(crate) fn check_login(login: &str) -> Result<(), &'static str> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (MIN_LOGIN..=MAX_LOGIN).contains(&login.len())
        && login.bytes().all(known)
        && !login.starts_with('.')
        && !login.ends_with('.')
        && !login.contains("..")
    {
        Ok(())
    } else {
        Err(
            "must be a login of 3 to 64 of a-z, 0-9, \".\", \"_\" and \"-\", without a \".\" at an end or two \
             together",
        )
    }
}

#[cfg(test)]
mod tests;
