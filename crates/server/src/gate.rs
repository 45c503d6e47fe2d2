//! The one layer before every method: who calls, may they, until when, and is there room. A caller who leaves cannot
//! stop a command in the middle of a COMMIT, and a draining service waits for it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::hmac;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use octroi_api::r#type::v1::ErrorReason;
use octroi_api::{Method, Reach};
use octroi_platform::auth::Verifier;
use octroi_platform::call::{About, Call, Caller, SERVICE_SCOPE, TRACEPARENT};
use octroi_platform::clock::Clock;
use octroi_platform::db::Db;
use octroi_platform::error::{CALL_ID, Error};
use octroi_platform::limits::{CALLS_AT_ONCE, MESSAGE};
use octroi_platform::panic::caught;
use octroi_platform::refusal::Refusal;
use octroi_platform::share::{Share, Turn, Whose};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::access::Access;
use crate::admin::Admin;
use crate::connection::CLOCK_DEADLINE;
use crate::held::{ALL, Memory, late, overloaded};
use crate::line::{in_line, share};
use crate::link::{Busy, Link};
use crate::message;
use crate::sending::{Sending, counted, panicked};
use crate::services::Known;
use crate::stranger::{self, serve_stranger};
use crate::unstoppable::Unstoppable;

/// The service that accounts belong to; the others follow it.
const ACCOUNTS: &str = "billing";

/// How many calls that stream a service works on, beside [`CALLS_AT_ONCE`].
const STREAMS_AT_ONCE: usize = 128;
/// How long a call may take when its caller names no deadline.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the layer needs to know.
pub(crate) struct Gate {
    pub(crate) service: &'static str,
    db: Db,
    pub(crate) clock: Clock,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) fingerprint_key: Arc<hmac::Key>,
    commands: TaskTracker,
    admin: Arc<Admin>,
    /// By share.
    rooms: [Arc<Semaphore>; 3],
    pub(crate) streams: Arc<Semaphore>,
    memory: Arc<Memory>,
    strangers: Arc<Memory>,
}

impl Gate {
    pub(crate) fn new(
        service: &'static str,
        db: Db,
        clock: Clock,
        verifier: Arc<Verifier>,
        fingerprint_key: Arc<hmac::Key>,
        commands: TaskTracker,
        admin: Arc<Admin>,
    ) -> Arc<Self> {
        Arc::new(Self {
            service,
            db,
            clock,
            verifier,
            fingerprint_key,
            commands,
            admin,
            rooms: [(); 3].map(|()| Arc::new(Semaphore::new(CALLS_AT_ONCE))),
            streams: Arc::new(Semaphore::new(STREAMS_AT_ONCE)),
            memory: Memory::new(ALL),
            strangers: Memory::new(stranger::ALL),
        })
    }

    /// The method of a path, if this service serves it.
    fn method(&self, path: &str) -> Result<&'static Method, Status> {
        let unknown = || {
            let reason = ErrorReason::NoSuchMethod;
            Refusal::shared(Code::Unimplemented, reason, "there is no such method").status()
        };
        let method = Method::find(path).ok_or_else(unknown)?;
        let known = match method.area() {
            area if area == self.service => return Ok(method),
            "event" | "auth" => return Ok(method),
            "testing" if self.clock.is_test() => return Ok(method),
            area => Known::named(area).ok_or_else(unknown)?,
        };
        let Known {
            name: area, port, ..
        } = known;
        Err(Refusal::shared(
            Code::Unimplemented,
            ErrorReason::WrongService,
            format!(
                "this is the {} service; {area} serves this method, on port {port} by default",
                self.service
            ),
        )
        .meta("service", area)
        .meta("port", port.to_string())
        .status())
    }

    /// Who calls. A stranger learns nothing before this, not even which methods there are.
    fn caller(&self, headers: &http::HeaderMap) -> Result<Caller, Error> {
        let token = headers
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| {
                Error::Unauthenticated("a token is needed: authorization: Bearer …".to_owned())
            })?;
        self.verifier.verify(token)
    }

    /// Whether the caller may call the method. Whose resources it may touch by it is the method's own to know.
    fn permit(&self, caller: &Caller, method: &Method) -> Result<(), Status> {
        let denied = |reason, message| Refusal::shared(Code::PermissionDenied, reason, message);
        let services_only = || {
            let callers = method.callers.join(", ");
            let message = format!("this method is for other services of Octroi only: {callers}");
            denied(ErrorReason::ServicesOnly, message)
                .meta("callers", callers)
                .status()
        };
        let scope = method.scope_at(self.service);
        if !caller.has_scope(&scope) {
            return Err(match &*scope {
                SERVICE_SCOPE => services_only(),
                _ => Error::ScopeMissing(scope.into_owned()).into(),
            });
        }
        if let (Reach::None, Some(account)) = (method.reach, &caller.account) {
            let message =
                "the token is bound to an account, and this method acts on the whole installation";
            let refusal = denied(ErrorReason::BoundToken, message.to_owned());
            return Err(refusal.meta("account", account).status());
        }
        let service = caller.subject.strip_prefix("service:");
        if scope == SERVICE_SCOPE
            && !service.is_some_and(|it| it != self.service && method.callers.contains(&it))
        {
            return Err(services_only());
        }
        Ok(())
    }

    fn admit(
        &self,
        id: Uuid,
        request: &Request<Body>,
        about: &Arc<About>,
    ) -> Result<(Call, &'static Method), Status> {
        let caller = self.caller(request.headers())?;
        about.called_by(&caller);
        let method = self.method(request.uri().path())?;
        self.permit(&caller, method)?;
        let remote = request
            .extensions()
            .get::<Link>()
            .map(|link| link.remote.to_string())
            .unwrap_or_default();
        let begun = (id, self.clock.now());
        let mut call = Call::admitted(begun, caller, method, about, &self.fingerprint_key);
        call.remote = remote;
        call.follows_accounts = self.service != ACCOUNTS;
        Ok((call, method))
    }

    /// Serves an admitted call. Whatever it is refused for says the id that the log has. Until the last byte of its
    /// answer has left, or its deadline, it keeps its connection, and a service that drains waits for it.
    pub(crate) async fn serve<S>(
        &self,
        inner: S,
        (call, method): (Call, &Method),
        request: Request<Body>,
        until: Instant,
        (busy, access): (Option<Busy>, Access),
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
    {
        let (id, name) = (call.id, call.method);
        let whose = Whose::of(&call.caller);
        let due = busy.as_ref().map(|busy| busy.0.expect(until));
        let (sending, gone) = oneshot::channel();
        // What streams has its place and its connection until its deadline at most, whether it is read or not.
        let (streaming, kept) = match method.server_streaming {
            true => ((busy, Some(gone)), None),
            false => ((None, None), Some((busy, self.commands.token()))),
        };
        let served = self.run(inner, (call, method, &whose), request, until, streaming);
        let served = CALL_ID.scope(id, served).instrument(access.span.clone());
        let served = served.await;
        let answer = served.unwrap_or_else(Status::into_http);
        let answer = counted(answer, (&self.memory, whose), (due, kept, sending));
        Sending::start(answer, (id, name), until, access)
    }

    /// It waits for its turn and takes its place when the whole request has come: one that never ends holds none. It gives
    /// it back when its answer is made: one that nobody reads holds none either. One that streams has a place among few,
    /// until its end.
    async fn run<S>(
        &self,
        mut inner: S,
        (call, method, whose): (Call, &Method, &Whose),
        request: Request<Body>,
        until: Instant,
        (busy, gone): (Option<Busy>, Option<oneshot::Receiver<()>>),
    ) -> Result<Response<Body>, Status>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
    {
        let (mut head, body) = request.into_parts();
        let compressed = message::may_be_compressed(&head.headers)?;
        head.headers.remove(message::ENCODING);
        let takes_gzip = message::takes_gzip(&head.headers) && !method.server_streaming;
        let mut held = self.memory.hold(whose);
        let share = share(&call.caller, method);
        let (turn, place, body, held) = if method.client_streaming {
            let body = message::stream(body, compressed, MESSAGE, held, until);
            let turn = Turn::new(share, in_line(share, whose, method));
            (turn, self.place(share, method)?, body, None)
        } else {
            let read = message::read(body, compressed, MESSAGE, &mut held);
            let framed = timeout_at(until, read)
                .await
                .map_err(|_| late("the request was not complete in time; nothing was done"))??;
            // Whoever leaves or comes to the deadline meanwhile is out of the queue.
            let turn = timeout_at(until, self.db.turn(share, in_line(share, whose, method)))
                .await
                .map_err(|_| late("the call's turn did not come in time; nothing was done"))??;
            let place = self.place(share, method)?;
            let message = message::plain(framed, MESSAGE, &mut held)?;
            (turn, place, Body::new(Full::new(message)), Some(held))
        };
        if until <= Instant::now() {
            return Err(late(
                "the request came after its deadline; nothing was done",
            ));
        }
        let streams = gone.is_some();
        let (id, method, traceparent) = (call.id, call.method, call.traceparent.clone());
        head.extensions.insert(call);
        let served = inner.call(Request::from_parts(head, body));
        let work = async move {
            let served = caught(turn.scope(async {
                match served.await {
                    Ok(served) => Ok(message::answer(served, takes_gzip).await),
                    Err(never) => match never {},
                }
            }));
            let served = served.await.map_err(|panic| panicked(method, &panic));
            drop(held);
            (served, streams.then_some(place))
        };
        let work = TRACEPARENT.scope(traceparent, CALL_ID.scope(id, work));
        let work = Unstoppable::new(self.commands.track_future(work));
        let (answer, place) = timeout_at(until, work)
            .await
            .map_err(|_| late("the answer was not ready in time; the command goes on"))?;
        if let Some(gone) = gone {
            self.commands.spawn(async move {
                let _ = timeout_at(until, gone).await;
                drop((busy, place));
            });
        }
        answer
    }

    fn place(&self, share: Share, method: &Method) -> Result<OwnedSemaphorePermit, Status> {
        let room = match method.client_streaming || method.server_streaming {
            true => &self.streams,
            false => &self.rooms[share as usize],
        };
        Arc::clone(room)
            .try_acquire_owned()
            .map_err(|_| overloaded("too many calls at once; try again"))
    }
}

/// Puts a [`Gate`] before every method.
#[derive(Clone)]
pub(crate) struct GateLayer(pub(crate) Arc<Gate>);

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            gate: Arc::clone(&self.0),
            inner,
        }
    }
}

/// A service behind a [`Gate`].
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        if let Some(status) = no_call(&request) {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = status;
            return Box::pin(async move { Ok(answer) });
        }
        let busy = request.extensions().get::<Link>().map(Link::begin);
        let path = request.uri().path();
        let open = path.starts_with("/grpc.reflection.") || path.starts_with("/grpc.health.");
        // The clone has not been polled ready, so this one serves, as tower asks.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        if open {
            let strangers = Arc::clone(&self.gate.strangers);
            return Box::pin(async move {
                let _busy = busy;
                let served = serve_stranger(inner, request, &strangers).await;
                Ok(served.unwrap_or_else(Status::into_http))
            });
        }
        let id = Uuid::now_v7();
        let trace = traceparent(request.headers(), id);
        let path = request.uri().path();
        let mut access = Access::begin(&self.gate.admin, id, path, &trace);
        let admitted = CALL_ID.sync_scope(id, || self.gate.admit(id, &request, &access.about));
        let (mut call, method) = match admitted {
            Ok(admitted) => admitted,
            Err(status) => {
                access.code = status.code();
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        call.traceparent = trace;
        let until = Instant::now() + deadline(&call, request.headers_mut());
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            let served = gate.serve(inner, (call, method), request, until, (busy, access));
            Ok(served.await)
        })
    }
}

/// What tells whoever sent it that a request is none of gRPC's.
fn no_call(request: &Request<Body>) -> Option<StatusCode> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|value| value.to_str().ok()?.strip_prefix("application/grpc"));
    let is_grpc = |kind: &str| matches!(kind, "" | "+proto") || kind.starts_with(';');
    if request.method() != http::Method::POST {
        Some(StatusCode::METHOD_NOT_ALLOWED)
    } else if !kind.is_some_and(is_grpc) {
        Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    } else {
        None
    }
}

/// The caller's deadline, taken out of the headers: the framework would answer CANCELLED and drop the handler.
fn deadline(call: &Call, headers: &mut http::HeaderMap) -> Duration {
    let default = if call.method.starts_with("octroi.testing.") {
        CLOCK_DEADLINE
    } else {
        DEADLINE
    };
    headers
        .remove("grpc-timeout")
        .and_then(|value| parse_timeout(value.to_str().ok()?))
        .map_or(default, |given| given.min(default))
}

/// The caller's trace context; of who sends none that of a trace which begins here, with the call's own id.
fn traceparent(headers: &http::HeaderMap, id: Uuid) -> String {
    let given = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .filter(|value| is_traceparent(value));
    match given {
        Some(given) => given.to_owned(),
        None => {
            let trace = id.simple().to_string();
            format!("00-{trace}-{}-01", &trace[16..])
        }
    }
}

/// Whether a header is a trace context of W3C's: version, trace, parent and flags in hexadecimal digits.
fn is_traceparent(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let mut bytes = text.bytes().enumerate();
    text.len() == 55
        && bytes.all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => hex(byte),
        })
}

/// Reads the gRPC wire format's timeout: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_known_by_its_form() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good));
        for bad in [
            "",
            &good[1..],
            &good.to_uppercase(),
            &good.replace('-', "_"),
            &good.replace('b', " "),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn timeouts_are_read_as_the_wire_format_has_them() {
        assert_eq!(parse_timeout("15S"), Some(Duration::from_secs(15)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        for wrong in ["", "S", "123456789S", "5x", "é"] {
            assert_eq!(parse_timeout(wrong), None);
        }
    }
}
