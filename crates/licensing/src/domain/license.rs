//! Licences: one seat each, with a user or without.

use std::fmt::{self, Display};

use jiff::Timestamp;
use octroi_platform::error::Error;
use octroi_platform::name::Name;
use octroi_platform::text::{is_blank, is_unseen};

use crate::domain::device::{Counters, Limits};
use crate::domain::group::GroupId;
use crate::domain::offer::OfferId;
use crate::refusal::{self, Refusal};

const PERIOD_ENDED: Error = Error::Conflict("the group's period has just ended");

const MIN_LOGIN: usize = 3;
const MAX_LOGIN: usize = 64;
const MAX_NAME: usize = 64;

/// Which licence: "accounts/acme/licenseGroups/office/licenses/1".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LicenseId {
    pub(crate) group: GroupId,
    /// Seat number: 1 and up, never used again.
    pub(crate) number: i32,
}

impl Name for LicenseId {
    const KIND: &'static str = "license";
    const COLLECTIONS: &'static [&'static str] = &["accounts", "licenseGroups", "licenses"];

    /// None where the number is not written as Octroi writes it.
    fn of(ids: &[&str]) -> Option<Self> {
        let [group @ .., given] = ids else {
            return None;
        };
        let number: i32 = given.parse().ok()?;
        (number > 0 && number.to_string() == *given).then_some(Self {
            group: GroupId::of(group)?,
            number,
        })
    }

    fn account(&self) -> Option<&str> {
        self.group.account()
    }
}

impl Display for LicenseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/licenses/{}", self.group, self.number)
    }
}

/// A seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct License {
    pub(crate) id: LicenseId,
    pub(crate) offer: OfferId,
    pub(crate) offer_display_name: String,
    pub(crate) state: State,
    /// Whether it is deleted when its group renews.
    pub(crate) delete_at_renewal: bool,
    /// Its active devices.
    pub(crate) devices: Counters,
    /// How many it may have, from its offer.
    pub(crate) limits: Limits,
    /// When it was bought.
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Unassigned,
    /// With a user; it counts as usage.
    Active(Assignment),
    Deleted {
        at: Timestamp,
    },
}

impl State {
    /// Its name in the database and on the wire.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Unassigned => "UNASSIGNED",
            Self::Active(_) => "ACTIVE",
            Self::Deleted { .. } => "DELETED",
        }
    }
}

/// The use of a licence by somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) user: User,
    pub(crate) activation_email: ActivationEmail,
    /// Whether the password was mailed and so must be changed first of all.
    pub(crate) password_change_required: bool,
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
    /// As e-mails show it.
    pub(crate) fn display_name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name)
    }
}

/// Checks one part of a user's name; the error is the rule that it breaks.
pub(crate) fn user_name(part: &str) -> Result<String, &'static str> {
    let length = part.chars().count();
    if !(1..=MAX_NAME).contains(&length) || is_blank(part) || part.chars().any(is_unseen) {
        return Err(
            "must have 1 to 64 characters, not all of them spaces, and no control or format character",
        );
    }
    Ok(part.to_owned())
}

/// What a licence's group allows at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupStatus {
    /// Users may sign in and be added.
    Open,
    /// Users may not sign in or be added until it is resumed.
    Suspended,
    /// Its period has ended and it renews, but background work has not renewed it yet.
    Renewing {
        suspended: bool,
    },
    Terminated,
}

/// The columns of a group from which its [`GroupStatus`] follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) suspended: bool,
    pub(crate) terminated: bool,
    /// Whether it goes on after its period: it is to renew, and no termination is scheduled.
    pub(crate) renews: bool,
    pub(crate) period_end: Timestamp,
}

impl GroupStatus {
    /// An end that is due counts from its instant on, even before background work gets to it: an order being paid can
    /// delay that for hours.
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
    /// When a change asked for at `now` takes effect: never before an earlier change, for whose lock the call may have
    /// waited.
    pub(crate) fn effective(&self, now: Timestamp) -> Timestamp {
        now.max(self.updated_at)
    }

    /// Whether it may be changed. Once its group's period is over, the renewal or the end comes first, as of that instant:
    /// a mark set now would be taken for one set before, and usage that ends now would reach into the next period.
    ///
    /// # Errors
    /// GROUP_TERMINATED, or a conflict until the group is renewed. A deleted licence passes: its own refusal is more precise.
    pub(crate) fn check_current(&self, group: GroupStatus) -> Result<(), Error> {
        match (&self.state, group) {
            (State::Deleted { .. }, _) | (_, GroupStatus::Open | GroupStatus::Suspended) => Ok(()),
            (_, GroupStatus::Terminated) => Err(refusal::group_terminated(&self.id.group).into()),
            (_, GroupStatus::Renewing { .. }) => Err(PERIOD_ENDED),
        }
    }

    /// Whether its group lets a user in.
    ///
    /// # Errors
    /// GROUP_SUSPENDED, GROUP_TERMINATED, or a conflict when it is deleted with the period that has just ended.
    pub(crate) fn check_open(&self, group: GroupStatus) -> Result<(), Error> {
        match group {
            GroupStatus::Open => Ok(()),
            GroupStatus::Renewing { suspended: false } if !self.delete_at_renewal => Ok(()),
            GroupStatus::Renewing { suspended: false } => Err(PERIOD_ENDED),
            GroupStatus::Suspended | GroupStatus::Renewing { suspended: true } => {
                Err(refusal::group_suspended(&self.id.group).into())
            }
            GroupStatus::Terminated => Err(refusal::group_terminated(&self.id.group).into()),
        }
    }

    /// # Errors
    /// LICENSE_UNASSIGNED or LICENSE_DELETED.
    pub(crate) fn assignment(&self) -> Result<&Assignment, Refusal> {
        match &self.state {
            State::Active(assignment) => Ok(assignment),
            State::Unassigned => Err(refusal::license_unassigned(&self.id)),
            State::Deleted { .. } => Err(refusal::license_deleted(&self.id)),
        }
    }

    /// # Errors
    /// LICENSE_ASSIGNED or LICENSE_DELETED.
    pub(crate) fn check_free(&self) -> Result<(), Refusal> {
        match self.state {
            State::Unassigned => Ok(()),
            State::Active(_) => Err(refusal::license_assigned(&self.id)),
            State::Deleted { .. } => Err(refusal::license_deleted(&self.id)),
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

    /// The user's password is replaced; a mailed one must be changed at the first sign-in.
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
        Ok(self.without_user(State::Unassigned, at))
    }

    ///
    /// # Errors
    /// LICENSE_DELETED.
    pub(crate) fn delete(&self, at: Timestamp) -> Result<Self, Refusal> {
        match self.state {
            State::Deleted { .. } => Err(refusal::license_deleted(&self.id)),
            State::Unassigned | State::Active(_) => {
                Ok(self.without_user(State::Deleted { at }, at))
            }
        }
    }

    /// Changes what may be changed in place.
    ///
    /// # Errors
    /// LICENSE_DELETED; LICENSE_UNASSIGNED when a name is given and there is no user.
    pub(crate) fn update(&self, changes: Changes, at: Timestamp) -> Result<Self, Refusal> {
        let state = match (&self.state, changes.first_name, changes.last_name) {
            (State::Deleted { .. }, _, _) => return Err(refusal::license_deleted(&self.id)),
            (state, None, None) => state.clone(),
            (State::Unassigned, _, _) => return Err(refusal::license_unassigned(&self.id)),
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

    pub(crate) fn with_devices(&self, devices: Counters, at: Timestamp) -> Self {
        Self {
            devices,
            ..self.next(self.state.clone(), at)
        }
    }

    fn without_user(&self, state: State, at: Timestamp) -> Self {
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
    pub(crate) first_name: Option<String>,
    pub(crate) last_name: Option<String>,
    pub(crate) delete_at_renewal: Option<bool>,
}

/// A user's login, complete: "desk@office.acme.octroi.example".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActivationEmail(String);

impl ActivationEmail {
    /// Completes a login with the group's default domain. A full address must be under that domain. The error is the rule
    /// that it breaks.
    pub(crate) fn complete(
        given: &str,
        group: &GroupId,
        activation_domain: &str,
    ) -> Result<Self, String> {
        let GroupId { account, id } = group;
        let domain = format!("{id}.{}.{activation_domain}", account.as_str());
        let login = match given.split_once('@') {
            None => given,
            Some((login, under)) if under.eq_ignore_ascii_case(&domain) => login,
            Some(_) => return Err(format!("must be a login, or an address under {domain}")),
        };
        check_login(login)?;
        Ok(Self(format!("{login}@{domain}")))
    }

    /// From the database.
    pub(crate) fn stored(address: String) -> Self {
        Self(address)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn login(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }

    /// The address in lower case, by which it is unique.
    pub(crate) fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// The account that an address names, existing or not: "acme" in "desk@office.acme.octroi.example".
pub(crate) fn account_in(address: &str) -> &str {
    let domain = address.split_once('@').map_or("", |(_, domain)| domain);
    domain.split('.').nth(1).unwrap_or_default()
}

/// Checks the part before the "@"; the error is the rule that it breaks.
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
