//! The errors of every service, and their statuses on the wire.

use std::time::Duration;

use octroi_api::r#type::v1::ErrorReason;
use tokio_postgres::error::SqlState;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::refusal::{Refusal, Violations, plain};

/// SQLSTATE that `expect_rows` raises.
const UNEXPECTED_ROWS: &str = "OC001";
/// SQLSTATE that `expect_young` raises.
const TOO_OLD: &str = "OC003";
/// Two writers that did not hold their aggregate's lock meet here.
const EVENT_SEQUENCE: &str = "event_account_aggregate_sequence_key";

tokio::task_local! {
    /// The id of the call being served, which the answer to an internal error names.
    pub static CALL_ID: Uuid;
}

/// Why a call does not do what it asks for. What only one service refuses is a [`Refusal`] of that service's own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service's own refusal.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Not a failure: the same request was answered before. This is its encoded answer, which
    /// [`answer`](crate::request::answer) gives again.
    #[error("the same request was answered before")]
    Replayed(Vec<u8>),
    /// Bad fields, every one of them.
    #[error("{0}")]
    Invalid(Violations),
    /// The resource does not exist, or the caller may not know that it does.
    #[error("{name} was not found")]
    NotFound {
        /// Kind of resource, such as "account".
        kind: &'static str,
        /// Its resource name, as asked for.
        name: String,
        /// When to retry, if the service may not have received the event of its creation.
        retry_after: Option<Duration>,
    },
    /// The id is taken.
    #[error("{name} exists already; ids are never reused")]
    AlreadyExists {
        /// Kind of resource.
        kind: &'static str,
        /// Its resource name.
        name: String,
    },
    /// The row changed since the given etag was read.
    #[error("{name} has changed since the given etag was read")]
    EtagMismatch {
        /// Kind of resource.
        kind: &'static str,
        /// Its resource name.
        name: String,
    },
    /// The same request id came with another body.
    #[error("this request_id came before with another body")]
    RequestIdReused,
    /// Another change won; nothing was done.
    #[error("another change won: {0}")]
    Conflict(&'static str),
    /// The connection broke during a COMMIT.
    #[error("the outcome is not known; repeat the call with the same request_id")]
    OutcomeUnknown,
    /// No caller, or one that cannot be believed.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token lacks a scope.
    #[error("the token lacks the scope {0}")]
    ScopeMissing(String),
    /// The database or a peer cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// Too much is being done at once; nothing was begun.
    #[error("{0}")]
    Overloaded(&'static str),
    /// Too many calls wait, most of them the caller's; nothing was begun.
    #[error("too many calls wait; try again, with fewer at once")]
    TooManyCalls,
    /// A statement or a transaction ran into its time limit.
    #[error("it took too long, and nothing was done; try again")]
    TookTooLong,
    /// A stored value that cannot be.
    #[error("{table}.{column} of {id} holds a value that cannot be")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Key of the row.
        id: String,
    },
    /// The database refused. Its own message is not shown, as it may quote the row.
    #[error("the database refused: {}", said(.0))]
    Database(tokio_postgres::Error),
    /// Anything else that is our own fault.
    #[error("internal")]
    Internal(#[source] anyhow::Error),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            return if error.is_closed() {
                Self::Unavailable("the database connection broke; try again".to_owned())
            } else {
                Self::Database(error)
            };
        };
        if state.code() == UNEXPECTED_ROWS {
            return Self::Conflict("a row changed in between");
        }
        if state.code() == TOO_OLD {
            return Self::TookTooLong;
        }
        if violates(&error, EVENT_SEQUENCE) {
            return Self::Conflict("another change to the same resource came first");
        }
        match *state {
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE => Self::Conflict("a row was locked"),
            SqlState::QUERY_CANCELED => Self::TookTooLong,
            _ if passes(state.code()) => {
                tracing::warn!(error = said(&error), "the database cannot go on now");
                Self::Unavailable("the database cannot go on now; try again".to_owned())
            }
            _ => Self::Database(error),
        }
    }
}

/// Whether a constraint refused. Of what a node of a cluster refused only the message comes through, and the constraint in it
/// has the number of a shard.
fn violates(error: &tokio_postgres::Error, constraint: &str) -> bool {
    let Some(db) = error.as_db_error() else {
        return false;
    };
    let of_shard = |(at, name): (usize, &str)| {
        let rest = db.message().get(at + name.len()..);
        let rest = rest.and_then(|rest| rest.strip_prefix('_'));
        rest.is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()))
    };
    db.constraint() == Some(constraint) || db.message().match_indices(constraint).any(of_shard)
}

/// Whether a fault lies in the server's state and not in the statement: connections, room, operators, the system
/// around it; a standby; a transaction that was left waiting.
fn passes(state: &str) -> bool {
    matches!(state.get(..2), Some("08" | "53" | "57" | "58"))
        || matches!(state, "25006" | "25P03" | "25P04")
}

/// What may be logged of a database's error: no values, which its detail has.
fn said(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return error.to_string();
    };
    let named =
        |what, name: Option<&str>| name.map_or(String::new(), |name| format!(", {what} {name}"));
    format!(
        "{} {}{}{}",
        db.code().code(),
        db.message(),
        named("table", db.table()),
        named("constraint", db.constraint())
    )
}

impl Error {
    /// A bad field.
    pub fn invalid(field: &str, rule: &str) -> Self {
        let mut violations = Violations::default();
        violations.add(field, rule);
        Self::Invalid(violations)
    }

    /// Whether the database refused because of this constraint (unique, check or foreign key).
    pub fn violates(&self, constraint: &str) -> bool {
        matches!(self, Self::Database(error) if violates(error, constraint))
    }

    /// The reason of a service's own refusal; none for what any service may meet.
    pub fn refused(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason()),
            _ => None,
        }
    }

    /// Whether it is the service's own refusal of this reason, as the service's enum names it.
    pub fn is(&self, reason: &str) -> bool {
        self.refused() == Some(plain(reason))
    }

    /// Whether the database is away, which is the fault of nothing that was asked of it.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OutcomeUnknown)
    }

    /// Whether a repetition may succeed without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Conflict(_)
                | Self::OutcomeUnknown
                | Self::Unavailable(_)
                | Self::Overloaded(_)
                | Self::TooManyCalls
                | Self::TookTooLong
        )
    }
}

impl Violations {
    /// Ends the collection.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a field was bad.
    pub fn finish(self) -> Result<(), Error> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(Error::Invalid(self)),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        use ErrorReason as R;
        let message = error.to_string();
        let refusal = |code, reason: R| Refusal::shared(code, reason, message.clone());
        match error {
            Error::Invalid(violations) => refusal(Code::InvalidArgument, R::InvalidFields)
                .bad_request(violations)
                .status(),
            Error::NotFound {
                kind,
                name,
                retry_after,
            } => {
                let refusal = refusal(Code::NotFound, R::NotFound).resource(kind, name);
                match retry_after {
                    Some(delay) => refusal.retry_after(delay).status(),
                    None => refusal.status(),
                }
            }
            Error::AlreadyExists { kind, name } => refusal(Code::AlreadyExists, R::AlreadyExists)
                .resource(kind, name)
                .status(),
            Error::EtagMismatch { kind, name } => refusal(Code::Aborted, R::EtagMismatch)
                .resource(kind, name)
                .status(),
            Error::RequestIdReused => {
                let mut violations = Violations::default();
                violations.add("request_id", "came before with another body");
                refusal(Code::InvalidArgument, R::RequestIdReused)
                    .bad_request(violations)
                    .status()
            }
            Error::Conflict(_) => refusal(Code::Aborted, R::Conflict)
                .retry_after(Duration::from_millis(50))
                .status(),
            Error::OutcomeUnknown | Error::Unavailable(_) | Error::TookTooLong => {
                refusal(Code::Unavailable, R::Unavailable)
                    .retry_after(Duration::from_secs(1))
                    .status()
            }
            Error::Overloaded(_) => refusal(Code::Unavailable, R::Overloaded)
                .retry_after(Duration::from_secs(1))
                .status(),
            Error::TooManyCalls => refusal(Code::ResourceExhausted, R::TooManyCalls)
                .retry_after(Duration::from_secs(1))
                .status(),
            Error::Unauthenticated(_) => {
                refusal(Code::Unauthenticated, R::Unauthenticated).status()
            }
            Error::ScopeMissing(scope) => Refusal::shared(
                Code::PermissionDenied,
                R::ScopeMissing,
                format!("the token lacks the scope {scope}"),
            )
            .meta("scope", scope)
            .status(),
            Error::Refused(refusal) => refusal.status(),
            Error::Corrupt { .. } | Error::Database(_) | Error::Replayed(_) => {
                internal(&anyhow::Error::msg(message))
            }
            Error::Internal(error) => internal(&error),
        }
    }
}

/// Logs the chain, and answers the call's id and nothing else.
fn internal(error: &anyhow::Error) -> Status {
    let id = CALL_ID
        .try_with(|id| *id)
        .unwrap_or_else(|_| Uuid::now_v7());
    tracing::error!(call = %id, error = format!("{error:#}"), "a call failed");
    Refusal::shared(
        Code::Internal,
        ErrorReason::Internal,
        format!("internal error; the log has it under {id}"),
    )
    .meta("call_id", id.to_string())
    .status()
}
