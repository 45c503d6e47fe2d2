//! Who calls, with what request id, and at what instant.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use jiff::Timestamp;
use octroi_api::Method;
use tonic::Request;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::error::Error;
use crate::name::{AccountId, Name, may_be_id};

/// The scope that Octroi's own services alone hold.
pub const SERVICE_SCOPE: &str = "service";

/// The delay after which a service usually knows an account that billing has created.
const ACCOUNTS_FOLLOW_WITHIN: Duration = Duration::from_secs(1);

pub(crate) const REQUEST_ID_RULE: &str = "must be a UUID, written as 8-4-4-4-12 hexadecimal digits";

/// The audit's caller for background work. No token may have this subject.
pub(crate) const SYSTEM: &str = "system";

/// Who calls.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The token's subject.
    pub subject: String,
    /// The id of the only account that the token may touch; none for any.
    pub account: Option<String>,
    pub(crate) scopes: Arc<BTreeSet<String>>,
}

impl Caller {
    /// Whether the caller holds a scope; "*" stands for every one but the services'.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.contains(scope) || (scope != SERVICE_SCOPE && self.scopes.contains("*"))
    }
}

tokio::task_local! {
    /// W3C trace context of what is being done, for the calls that it makes.
    pub static TRACEPARENT: String;
}

/// Facts about a call for the access log, each set once.
#[derive(Debug, Default)]
pub struct About {
    /// Subject of the caller.
    pub caller: OnceLock<String>,
    /// Id of the account.
    pub account: OnceLock<String>,
    /// The request id.
    pub request_id: OnceLock<Uuid>,
}

impl About {
    /// Sets the caller, and the account that the token is bound to.
    pub fn called_by(&self, caller: &Caller) {
        let _ = self.caller.set(caller.subject.clone());
        if let Some(account) = &caller.account {
            let _ = self.account.set(account.clone());
        }
    }

    /// The account of the first resource that is named, if that can be one.
    fn names(&self, name: &str) {
        let account = name.strip_prefix("accounts/").unwrap_or_default();
        self.is_of(account.split('/').next().unwrap_or_default());
    }

    fn is_of(&self, account: &str) {
        if may_be_id(account) && account != "-" {
            let _ = self.account.set(account.to_owned());
        }
    }
}

/// One call being served.
#[derive(Debug, Clone)]
pub struct Call {
    /// Business time when the call arrived: the effective time of all that it does.
    pub now: Timestamp,
    /// Who calls.
    pub caller: Caller,
    /// Full name of the method, such as "octroi.licensing.v1.OrderService/PayOrder".
    pub method: &'static str,
    /// The call's own id, for the log.
    pub id: Uuid,
    /// The caller's network address.
    pub remote: String,
    /// W3C trace context, or empty.
    pub traceparent: String,
    /// Whether the service learns of accounts from another one, and so may know them a little later.
    pub follows_accounts: bool,
    pub(crate) started: Instant,
    /// Whether it is background work.
    pub(crate) background: bool,
    /// Whether it waits for a lock as long as a caller would.
    pub(crate) patient: bool,
    pub(crate) repeatable: Option<(Uuid, Vec<u8>)>,
    /// Whether the method's request ids are known for ever.
    pub(crate) lasting: bool,
    pub(crate) fingerprint_key: Option<Arc<hmac::Key>>,
    pub(crate) metadata: MetadataMap,
    pub(crate) about: Arc<About>,
}

/// Where the answer to a request id is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Account id; "-" where there is none.
    pub account: String,
    /// Full name of the method.
    pub method: String,
    /// The request id.
    pub request_id: Uuid,
    /// HMAC-SHA-256 of the message without its request id.
    pub fingerprint: Vec<u8>,
    /// Whether it is kept for ever.
    pub lasting: bool,
}

impl Call {
    /// Splits a request into its call, which the shell has put into the extensions, and its message. For a token that is
    /// bound to an account, `accounts/-` means that account.
    ///
    /// # Errors
    /// [`Error::Internal`] when the request did not come through the shell.
    pub(crate) fn open<M: octroi_api::Request>(request: Request<M>) -> Result<(Self, M), Error> {
        let (metadata, mut extensions, mut message) = request.into_parts();
        let mut call: Self = extensions
            .remove()
            .ok_or_else(|| Error::Internal(anyhow::anyhow!("a request without a call")))?;
        call.metadata = metadata;
        message.names(|name| {
            call.about.names(name);
            let rest = name.strip_prefix("accounts/-");
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'))
                && let Some(own) = &call.caller.account
            {
                *name = format!("accounts/{own}{rest}");
            }
        });
        Ok((call, message))
    }

    /// A call as the server admits it, for what it turns out to be about, and with the key of its fingerprint.
    pub fn admitted(
        begun: (Uuid, Timestamp),
        caller: Caller,
        method: &Method,
        about: &Arc<About>,
        fingerprint_key: &Arc<hmac::Key>,
    ) -> Self {
        Self {
            lasting: method.lasting,
            fingerprint_key: Some(Arc::clone(fingerprint_key)),
            about: Arc::clone(about),
            ..Self::new(begun, caller, method.path.trim_start_matches('/'))
        }
    }

    /// The call of background work that takes effect at `now`.
    pub fn background(now: Timestamp, method: &'static str) -> Self {
        let caller = Caller {
            subject: SYSTEM.to_owned(),
            ..Caller::default()
        };
        Self {
            background: true,
            patient: false,
            ..Self::new((Uuid::now_v7(), now), caller, method)
        }
    }

    fn new((id, now): (Uuid, Timestamp), caller: Caller, method: &'static str) -> Self {
        Self {
            now,
            caller,
            method,
            id,
            remote: String::new(),
            traceparent: String::new(),
            follows_accounts: false,
            started: Instant::now(),
            background: false,
            patient: true,
            repeatable: None,
            lasting: false,
            fingerprint_key: None,
            metadata: MetadataMap::new(),
            about: Arc::default(),
        }
    }

    /// The same, of work that goes on with nothing else: it waits for a lock as long as a caller would.
    #[must_use]
    pub fn patient(self) -> Self {
        Self {
            patient: true,
            ..self
        }
    }

    /// Whether another service of Octroi's asks.
    pub(crate) fn is_a_services(&self) -> bool {
        self.caller.has_scope(SERVICE_SCOPE)
    }

    /// Makes the call repeatable under the request's id. The message must come without it; `about` adds to the fingerprint
    /// what the message does not say, such as the session's licence.
    ///
    /// # Errors
    /// [`Error::Internal`] when there is no key for fingerprints, as in background work.
    pub(crate) fn make_repeatable<M: prost::Message>(
        &mut self,
        request_id: Uuid,
        about: &str,
        message: &M,
    ) -> Result<(), Error> {
        let key = self.fingerprint_key.as_ref();
        let key = key.ok_or_else(|| Error::Internal(anyhow::anyhow!("no fingerprint key")))?;
        let mut context = hmac::Context::with_key(key);
        context.update(&(about.len() as u64).to_be_bytes());
        context.update(about.as_bytes());
        context.update(&message.encode_to_vec());
        let _ = self.about.request_id.set(request_id);
        self.repeatable = Some((request_id, context.sign().as_ref().to_vec()));
        Ok(())
    }

    /// Where the answer is kept, for a repeatable call.
    pub fn key(&self, account: &str) -> Option<IdempotencyKey> {
        self.repeatable
            .as_ref()
            .map(|(request_id, fingerprint)| IdempotencyKey {
                account: account.to_owned(),
                method: self.method.to_owned(),
                request_id: *request_id,
                fingerprint: fingerprint.clone(),
                lasting: self.lasting,
            })
    }

    /// The error for what does not exist and for what the caller may not see: the two are not distinguishable.
    pub fn not_found<N: Name>(&self, name: &N) -> Error {
        Error::NotFound {
            kind: name.kind(),
            name: name.to_string(),
            retry_after: None,
        }
    }

    /// The error of a list, with a retry delay where the service may not know the account yet.
    pub(crate) fn no_list(&self, mut failure: Error) -> Error {
        if let Error::NotFound {
            kind, retry_after, ..
        } = &mut failure
            && self.follows_accounts
            && *kind == AccountId::KIND
        {
            *retry_after = Some(ACCOUNTS_FOLLOW_WITHIN);
        }
        failure
    }

    /// Sets the access log's account where the request names none.
    pub fn note_account(&self, account: &str) {
        self.about.is_of(account);
    }

    /// The request id, when the caller gave one.
    pub fn request_id(&self) -> Option<Uuid> {
        self.repeatable.as_ref().map(|(id, _)| *id)
    }

    /// A metadata entry of the request.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(|value| value.to_str().ok())
    }
}
