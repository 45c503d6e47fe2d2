//! Reading requests: every bad field is reported, and names are given only to callers who may see what they name.

use std::ops::{Deref, DerefMut};

use octroi_api::{Mutation, Request};
use prost::Message;
use prost_types::FieldMask;
use tonic::{Response, Status};

use crate::call::{Call, Caller, REQUEST_ID_RULE};
use crate::error::Error;
use crate::name::{Name, parse_uuid};
use crate::refusal::Violations;

/// What a method answers.
pub type Answer<T> = Result<Response<T>, Status>;

/// Reads a request's fields: collects the bad ones, and gives out names that the caller may see.
pub struct Fields<'a> {
    call: &'a Call,
    violations: Violations,
    /// NOT_FOUND for the first name that the caller may not see; answered only when every field is good.
    hidden: Option<Error>,
}

impl Fields<'_> {
    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.call.caller
    }

    /// The name of a resource.
    pub fn name<N: Name>(&mut self, field: &str, given: &str) -> Option<N> {
        let Some(name) = N::parse(given) else {
            self.add(field, N::rule());
            return None;
        };
        self.show(name)
    }

    /// A name that was made of parts of the request, when the caller may see what it names.
    pub fn show<N: Name>(&mut self, name: N) -> Option<N> {
        if let Some(account) = name.account() {
            self.call.note_account(account);
        }
        let own = self.call.caller.account.as_deref();
        if own.is_some() && name.account().is_some_and(|account| own != Some(account)) {
            self.hidden
                .get_or_insert_with(|| self.call.not_found(&name));
        }
        Some(name)
    }

    /// The paths of an update mask: at least one, and each of those that the method takes.
    pub fn mask(&mut self, mask: Option<&FieldMask>, takes: &[&str]) -> Vec<String> {
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        if paths.is_empty() {
            self.add("update_mask", "must name the fields to change");
        }
        for path in paths.iter().filter(|path| !takes.contains(&path.as_str())) {
            let [most @ .., last] = takes else { continue };
            let rule = match most {
                [] => format!("takes {last}, not {path:?}"),
                most => format!("takes {} and {last}, not {path:?}", most.join(", ")),
            };
            self.add("update_mask", rule);
        }
        paths.to_vec()
    }

    /// Reads a part of the request whose bad fields are an error of their own, and not the request's.
    ///
    /// # Errors
    /// As [`open`].
    pub fn part<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Error> {
        fields(self.call, read)
    }

    fn end<T>(self, read: Option<T>) -> Result<T, Error> {
        self.violations.finish()?;
        if let Some(hidden) = self.hidden {
            return Err(hidden);
        }
        read.ok_or_else(|| Error::Internal(anyhow::anyhow!("a bad field that no rule named")))
    }
}

impl Deref for Fields<'_> {
    type Target = Violations;

    fn deref(&self) -> &Violations {
        &self.violations
    }
}

impl DerefMut for Fields<'_> {
    fn deref_mut(&mut self) -> &mut Violations {
        &mut self.violations
    }
}

/// Reads a request with `read`, which returns none only where it has added a violation.
///
/// # Errors
/// [`Error::Invalid`] with every bad field; [`Error::NotFound`] for a name that the caller may not see.
pub fn open<M: Request, T>(
    request: tonic::Request<M>,
    read: impl FnOnce(M, &mut Fields<'_>) -> Option<T>,
) -> Result<(Call, T), Error> {
    let (call, message) = Call::open(request)?;
    let read = fields(&call, |fields| read(message, fields))?;
    Ok((call, read))
}

/// Reads a command, and makes it repeatable under its request id.
///
/// # Errors
/// As [`open`].
pub fn command<M: Mutation, T>(
    request: tonic::Request<M>,
    read: impl FnOnce(M, &mut Fields<'_>) -> Option<T>,
) -> Result<(Call, T), Error> {
    command_about(request, |_| Ok(String::new()), read)
}

/// Reads a command that is about something which its message does not say, such as the licence of the session that it
/// comes in: the same request id and message about something else are not the same request.
///
/// # Errors
/// As [`open`], and that of `about`.
pub fn command_about<M: Mutation, T>(
    request: tonic::Request<M>,
    about: impl FnOnce(&Call) -> Result<String, Error>,
    read: impl FnOnce(M, &mut Fields<'_>) -> Option<T>,
) -> Result<(Call, T), Error> {
    let (mut call, mut message) = Call::open(request)?;
    let about = about(&call)?;
    let given = message.take_request_id();
    let request_id = parse_uuid(&given);
    if let Some(request_id) = request_id {
        call.make_repeatable(request_id, &about, &message)?;
    }
    let read = fields(&call, |fields| {
        if request_id.is_none() && !given.is_empty() {
            fields.add("request_id", REQUEST_ID_RULE);
        }
        read(message, fields)
    })?;
    Ok((call, read))
}

/// Reads fields for a call.
///
/// # Errors
/// As [`open`].
pub(crate) fn fields<T>(
    call: &Call,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Result<T, Error> {
    let mut fields = Fields {
        call,
        violations: Violations::default(),
        hidden: None,
    };
    let read = read(&mut fields);
    fields.end(read)
}

/// Answers a command: with what it did, or with what the same request was answered before.
///
/// # Errors
/// The command's.
pub fn answer<R: Message + Default>(done: Result<R, Error>) -> Answer<R> {
    let answer = match done {
        Err(Error::Replayed(stored)) => {
            R::decode(stored.as_slice()).map_err(|error| Error::Internal(error.into()))?
        }
        done => done?,
    };
    Ok(Response::new(answer))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use octroi_api::licensing::v1::CreateOrderRequest;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_request_id_makes_the_call_repeatable_or_fails_it() {
        let read = |request_id: String| {
            let mut request = tonic::Request::new(CreateOrderRequest {
                request_id,
                ..CreateOrderRequest::default()
            });
            let call = Call::background(Timestamp::UNIX_EPOCH, "Create");
            request.extensions_mut().insert(call);
            command(request, |_, _| Some(()))
        };
        assert!(read(String::new()).unwrap().0.repeatable.is_none());
        let bad = read("first".to_owned()).unwrap_err();
        assert!(bad.to_string().starts_with("request_id "), "{bad}");
        let keyless = read(Uuid::nil().to_string());
        assert!(matches!(keyless, Err(Error::Internal(_))));
    }
}
