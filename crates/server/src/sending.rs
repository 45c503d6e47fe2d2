//! An answer while it is sent, until its last byte or until its caller leaves. It keeps its call's deadline, and a
//! panic in a stream is answered and logged as one in a method is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use octroi_platform::error::{CALL_ID, Error};
use octroi_platform::panic::message_of;
use octroi_platform::share::Whose;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use uuid::Uuid;

use crate::access::Access;
use crate::held::{Held, Memory, late};
use crate::message::trailers;

pub(crate) struct Sending {
    body: Body,
    /// Its call's id and method.
    call: (Uuid, &'static str),
    until: Pin<Box<Sleep>>,
    access: Access,
}

/// Bytes that have not left yet.
struct Unsent<K> {
    bytes: Bytes,
    _held: Held,
    _kept: Arc<K>,
}

impl<K> AsRef<[u8]> for Unsent<K> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer whose bytes are held in a caller's part of the memory until they are written to the network, or its stream
/// or connection has ended. Then what is kept is dropped.
pub(crate) fn counted<K: Send + Sync + 'static>(
    answer: Response<Body>,
    (memory, whose): (&Arc<Memory>, Whose),
    kept: K,
) -> Response<Body> {
    let (memory, kept) = (Arc::clone(memory), Arc::new(kept));
    answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            frame.map_data(|bytes| {
                let mut held = memory.hold(&whose);
                held.owe(bytes.len());
                let _kept = Arc::clone(&kept);
                Bytes::from_owner(Unsent {
                    bytes,
                    _held: held,
                    _kept,
                })
            })
        }))
    })
}

impl Sending {
    pub(crate) fn start(
        answer: Response<Body>,
        call: (Uuid, &'static str),
        until: Instant,
        mut access: Access,
    ) -> Response<Body> {
        access.note(answer.headers());
        answer.map(|body| {
            Body::new(Self {
                body,
                call,
                until: Box::pin(sleep_until(until)),
                access,
            })
        })
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let late = || Poll::Ready(Some(Err(late("the answer was not complete in time"))));
        if self.until.deadline() <= Instant::now() {
            return late();
        }
        let body = Pin::new(&mut self.body);
        let polled = match catch_unwind(AssertUnwindSafe(|| body.poll_frame(context))) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(Some(Err(panicked(self.call.1, &message_of(&*panic))))),
        };
        // The timer is set when there is something to wait for: nearly every answer is there.
        if polled.is_pending() && self.until.as_mut().poll(context).is_ready() {
            return late();
        }
        polled
    }
}

/// A body that ends with a status, whatever goes wrong.
impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.body.is_end_stream() {
            return Poll::Ready(None);
        }
        let span = self.access.span.clone();
        let _in_call = span.enter();
        CALL_ID.sync_scope(self.call.0, || {
            let frame = match ready!(self.poll_next(context)) {
                Some(Err(status)) => {
                    self.body = Body::empty();
                    Some(trailers(&status))
                }
                frame => frame,
            };
            if let Some(Ok(frame)) = &frame
                && let Some(trailers) = frame.trailers_ref()
            {
                self.access.note(trailers);
            }
            Poll::Ready(frame)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Logs a panic; the status has the call's id.
pub(crate) fn panicked(method: &str, panic: &anyhow::Error) -> Status {
    let call = CALL_ID.try_with(ToString::to_string).unwrap_or_default();
    tracing::error!(call, method, error = %panic, "a call panicked");
    Error::Internal(anyhow::anyhow!("panic")).into()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::time::Duration;

    use aws_lc_rs::hmac;
    use futures_util::StreamExt as _;
    use http::Request;
    use http_body_util::{Full, StreamBody};
    use octroi_api::{METHODS, Method};
    use octroi_platform::auth::Verifier;
    use octroi_platform::call::Call;
    use octroi_platform::clock::Clock;
    use octroi_platform::db::Db;
    use tokio::sync::{mpsc, oneshot};
    use tokio_postgres::Config;
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tokio_util::task::TaskTracker;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::admin::Admin;
    use crate::gate::Gate;
    use crate::link::Link;

    const MESSAGE: Bytes = Bytes::from_static(&[0; 5]);
    const LONG: Duration = Duration::from_secs(3600);

    fn method(client_streaming: bool, server_streaming: bool) -> Method {
        Method {
            client_streaming,
            server_streaming,
            ..METHODS[0]
        }
    }

    fn gate(commands: TaskTracker) -> Arc<Gate> {
        let jwk = r#"{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let keys = format!(r#"{{"keys": [{jwk}]}}"#);
        let verifier = Verifier::new(keys.as_bytes(), "us").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        Gate::new(
            "test",
            Db::new(&Config::new(), "test", 1, Clock::system()).unwrap(),
            Clock::system(),
            verifier.into(),
            key.into(),
            commands,
            admin(),
        )
    }

    fn admin() -> Arc<Admin> {
        Arc::new(Admin::new("test"))
    }

    fn access(call: &Call) -> Access {
        Access::begin(&admin(), call.id, METHODS[0].path, "")
    }

    type Given = Result<Frame<Bytes>, Status>;

    /// A method that streams the frames it is given, until their sender is dropped.
    fn streaming(
        given: mpsc::UnboundedReceiver<Given>,
    ) -> impl tower::Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > {
        let mut given = Some(given);
        tower::service_fn(move |_: Request<Body>| {
            let given = UnboundedReceiverStream::new(given.take().unwrap());
            let body = Body::new(StreamBody::new(given));
            async move { Ok(Response::new(body)) }
        })
    }

    /// A call of a server-streaming method with this deadline, which has sent one message so far.
    async fn call(
        gate: &Gate,
        within: Duration,
    ) -> (mpsc::UnboundedSender<Given>, Response<Body>, Link) {
        let (giving, given) = mpsc::unbounded_channel();
        giving.send(Ok(Frame::data(MESSAGE))).unwrap();
        let call = Call::background(gate.clock.now(), "test");
        let link = Link::new([127, 0, 0, 1].into());
        let request = Request::new(Body::new(Full::new(MESSAGE)));
        let (until, kept) = (Instant::now() + within, (Some(link.begin()), access(&call)));
        let method = method(false, true);
        let served = gate.serve(streaming(given), (call, &method), request, until, kept);
        (giving, served.await, link)
    }

    fn stays(link: &Link) -> bool {
        let now = Instant::now() + LONG;
        link.stays(now, Duration::ZERO, LONG).is_some()
    }

    /// The status that an answer ends with.
    async fn status(answer: Response<Body>) -> Status {
        let (head, body) = answer.into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned();
        Status::from_header_map(&trailers.unwrap_or(head.headers)).unwrap()
    }

    #[tokio::test]
    async fn a_stream_has_its_place_until_its_end_or_its_callers() {
        for caller_leaves in [true, false] {
            let commands = TaskTracker::new();
            let gate = gate(commands.clone());
            let free = gate.streams.available_permits();
            let (giving, mut answer, link) = call(&gate, LONG).await;
            answer.frame().await.unwrap().unwrap();
            assert_eq!(gate.streams.available_permits(), free - 1);
            assert_eq!(commands.len(), 1);
            assert!(stays(&link));
            if caller_leaves {
                drop(answer);
                giving.closed().await;
            } else {
                let trailers = Status::ok("").into_http::<Body>().into_parts().0.headers;
                giving.send(Ok(Frame::trailers(trailers))).unwrap();
                drop(giving);
                assert_eq!(status(answer).await.code(), Code::Ok);
            }
            commands.close();
            commands.wait().await;
            assert_eq!(gate.streams.available_permits(), free);
            assert!(!stays(&link));
        }
    }

    /// Also when the caller does not read.
    #[tokio::test]
    async fn a_stream_ends_at_its_deadline() {
        let commands = TaskTracker::new();
        let gate = gate(commands.clone());
        let free = gate.streams.available_permits();
        let (_giving, answer, link) = call(&gate, Duration::from_millis(50)).await;
        commands.close();
        commands.wait().await;
        assert_eq!(gate.streams.available_permits(), free);
        assert!(!stays(&link));
        let status = status(answer).await;
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (status.code(), &*info.reason),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
        );
    }

    #[tokio::test]
    async fn streams_leave_room_for_other_calls() {
        let gate = gate(TaskTracker::new());
        let all = u32::try_from(gate.streams.available_permits()).unwrap();
        let _taken = gate.streams.acquire_many(all).await.unwrap();
        let (.., answer, _) = call(&gate, LONG).await;
        let refused = status(answer).await;
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(info.reason, "OVERLOADED");
        let (_giving, given) = mpsc::unbounded_channel();
        let call = Call::background(gate.clock.now(), "test");
        let request = Request::new(Body::new(Full::new(MESSAGE)));
        let until = Instant::now() + LONG;
        let method = method(false, false);
        drop(_giving);
        let kept = (None, access(&call));
        let answer = gate.serve(streaming(given), (call, &method), request, until, kept);
        assert!(Status::from_header_map(answer.await.headers()).is_none());
    }

    #[tokio::test]
    async fn what_comes_whole_after_its_deadline_is_not_begun() {
        let gate = gate(TaskTracker::new());
        let (begun, mut told) = mpsc::unbounded_channel();
        let counts = tower::service_fn(move |_: Request<Body>| {
            begun.send(()).unwrap();
            async { Ok::<_, Infallible>(Status::ok("").into_http()) }
        });
        let call = Call::background(gate.clock.now(), "test");
        let request = Request::new(Body::new(Full::new(MESSAGE)));
        let (method, kept) = (method(false, false), (None, access(&call)));
        let served = gate.serve(counts, (call, &method), request, Instant::now(), kept);
        assert_eq!(status(served.await).await.code(), Code::DeadlineExceeded);
        assert!(told.recv().await.is_none(), "it was begun");
    }

    /// Also when all of it was handed over, and nobody polls its body any more.
    #[tokio::test]
    async fn an_answer_is_held_until_its_bytes_have_left() {
        const BYTES: usize = 1 << 20;
        let memory = Memory::new(64 * BYTES);
        let whose = Whose::Subject("caller".into());
        let (sending, mut gone) = oneshot::channel::<()>();
        let body = Body::new(Full::new(Bytes::from(vec![0; 32 * BYTES])));
        let answer = counted(Response::new(body), (&memory, whose.clone()), sending);
        memory.hold(&whose).grow(1).unwrap();
        let mut body = answer.into_body();
        let unsent = body.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(body);
        let head = unsent.slice(..1);
        drop(unsent);
        assert!(memory.hold(&whose).grow(1).is_err());
        assert!(gone.try_recv().unwrap_err() == oneshot::error::TryRecvError::Empty);
        drop(head);
        memory.hold(&whose).grow(1).unwrap();
        assert!(gone.await.is_err());
    }

    /// The method gets the first message before the second is sent.
    #[tokio::test]
    async fn a_stream_of_requests_is_admitted_message_by_message() {
        let gate = gate(TaskTracker::new());
        let (sending, sent) = mpsc::unbounded_channel::<Given>();
        let (received, mut messages_read) = mpsc::unbounded_channel();
        let reads = tower::service_fn(move |request: Request<Body>| {
            let received = received.clone();
            async move {
                let mut messages = request.into_body().into_data_stream();
                while let Some(message) = messages.next().await {
                    received.send(message.unwrap()).unwrap();
                }
                Ok::<_, Infallible>(Status::ok("").into_http())
            }
        });
        let request = Request::new(Body::new(StreamBody::new(UnboundedReceiverStream::new(
            sent,
        ))));
        let call = Call::background(gate.clock.now(), "test");
        let method = method(true, false);
        let until = Instant::now() + LONG;
        let kept = (None, access(&call));
        let served = gate.serve(reads, (call, &method), request, until, kept);
        let talk = async {
            for message in [&b"\0\0\0\0\x02ab"[..], b"\0\0\0\0\0"] {
                // In pieces, as the network may deliver it.
                let (head, tail) = message.split_at(3);
                for piece in [head, tail] {
                    sending.send(Ok(Frame::data(piece.into()))).unwrap();
                }
                assert_eq!(messages_read.recv().await.unwrap(), message);
            }
            drop(sending);
        };
        let (answer, ()) = futures_util::future::join(served, talk).await;
        assert_eq!(status(answer).await.code(), Code::Ok);
    }

    /// Collects log lines.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// In the method, or later in its stream.
    #[tokio::test]
    async fn a_panic_answers_the_id_that_the_log_has() {
        for in_the_stream in [false, true] {
            panicking(in_the_stream).await;
        }
    }

    async fn panicking(in_the_stream: bool) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        // With a single subscriber, a call site that another test's thread reaches first is disabled here too.
        let _another = tracing::Dispatch::new(tracing_subscriber::registry());
        let commands = TaskTracker::new();
        let gate = gate(commands.clone());
        let free = gate.streams.available_permits();
        let panics = tower::service_fn(move |_: Request<Body>| async move {
            assert!(in_the_stream, "at the disco");
            let message = async { Ok::<_, Status>(Frame::data(MESSAGE)) };
            let panics = async { panic!("at the disco") };
            let stream =
                futures_util::stream::once(message).chain(futures_util::stream::once(panics));
            Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(stream))))
        });
        let request = Request::new(Body::new(Full::new(MESSAGE)));
        let call = Call::background(gate.clock.now(), "test");
        let until = Instant::now() + LONG;
        let method = method(false, in_the_stream);
        let kept = (None, access(&call));
        let (call_id, served) = (
            call.id,
            gate.serve(panics, (call, &method), request, until, kept),
        );
        let status = status(served.await).await;
        let info = status.get_details_error_info().unwrap();
        assert_eq!((status.code(), &*info.reason), (Code::Internal, "INTERNAL"));
        let id = info.metadata["call_id"].parse::<Uuid>().unwrap();
        assert_eq!(id, call_id);
        commands.close();
        commands.wait().await;
        assert_eq!(gate.streams.available_permits(), free);
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let logged = |line: &str| line.contains(" access: ") && line.contains("code=\"Internal\"");
        assert!(log.lines().any(logged), "{log}");
        let lines = log.lines().filter(|line| line.contains(&id.to_string()));
        assert!(
            lines.clone().any(|line| line.contains("a call panicked")),
            "{log}"
        );
        assert_eq!(lines.count(), log.lines().count(), "{log}");
    }
}
