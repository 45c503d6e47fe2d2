//! Connections: how many there may be, how many streams each may open, and how they end. One that is idle or too old,
//! or open when the service stops, is shut down gracefully: a GOAWAY, then the answers to the calls under way. Its
//! caller opens another connection for the next call.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Service, ServiceExt as _};

use crate::link::Link;

/// Moving a test clock by months works through every day.
pub(crate) const CLOCK_DEADLINE: Duration = Duration::from_secs(900);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// At most at once; a further one is accepted when another ends.
    connections: usize,
    /// Time until the first call, the handshake included.
    first_call: Duration,
    /// Time after the last call; pings do not count.
    idle: Duration,
    /// Time in all.
    age: Duration,
    /// Time without a call after the GOAWAY.
    grace: Duration,
    /// Time with calls after the GOAWAY.
    calls: Duration,
}

/// The limits of every service.
pub(crate) const LIMITS: Limits = Limits {
    connections: 512,
    first_call: Duration::from_secs(10),
    idle: Duration::from_secs(300),
    age: Duration::from_secs(3600),
    grace: Duration::from_secs(5),
    calls: CLOCK_DEADLINE,
};

/// Serves a listener's connections until `stop`; then it closes the listener and waits until all have ended. Dropping
/// it aborts them.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    service: S,
    limits: Limits,
    stop: impl Future<Output = ()>,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    let leave = CancellationToken::new();
    let mut open = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let (socket, remote, place) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &room) => accepted,
        };
        while open.try_join_next().is_some() {}
        let (service, leave) = (service.clone(), leave.clone());
        open.spawn(async move {
            let _place = place;
            converse(socket, Link::new(remote), service, limits, leave).await;
        });
    }
    drop(listener);
    leave.cancel();
    while open.join_next().await.is_some() {}
}

/// Waits for a place among the connections and accepts the next one; also returns its caller's address.
pub(crate) async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, IpAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let place = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((socket, remote)) => {
                let _ = socket.set_nodelay(true);
                return (socket, remote.ip(), place);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection from its handshake to its end.
async fn converse<S>(
    mut socket: TcpStream,
    link: Link,
    service: S,
    limits: Limits,
    leave: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let answers = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(link.clone());
        service.clone().oneshot(request.map(Body::new))
    });
    let over = async {
        tokio::select! {
            () = link.without_calls(limits.first_call, limits.idle) => {}
            () = sleep(limits.age) => {}
            () = leave.cancelled() => {}
            () = link.left_unread() => {}
        }
    };
    // What is unread stays so; the other calls have a moment.
    let unread = async {
        link.left_unread().await;
        sleep(limits.grace).await;
    };
    let grace_over = async {
        sleep(limits.grace).await;
        link.without_calls(Duration::ZERO, limits.grace).await;
    };
    {
        let connection = http2_server().serve_connection(TokioIo::new(&mut socket), answers);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = over => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = connection => {}
                    () = grace_over => {}
                    () = unread => {}
                    () = sleep(limits.calls) => {}
                }
            }
        }
    }
    // Closing a socket with unread data resets it, and the last frames would be lost.
    if socket.shutdown().await.is_ok() {
        let rest = async { while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        let _ = timeout(limits.grace, rest).await;
    }
}

/// HTTP/2 with its limits. The pings detect callers that are gone.
fn http2_server() -> http2::Builder<TokioExecutor> {
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_header_list_size(16 * 1024);
    server
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    use super::*;
    use crate::link::UNREAD;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const FAR: Duration = Duration::from_secs(3600);
    /// No limit is reached.
    const NEVER: Limits = Limits {
        connections: 512,
        first_call: FAR,
        idle: FAR,
        age: FAR,
        grace: FAR,
        calls: FAR,
    };

    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;
    /// The first GOAWAY's last stream: those that arrive meanwhile are accepted.
    const ANY: u32 = (1 << 31) - 1;

    /// A server that answers a call as soon as `free` has a place for it.
    struct Server {
        address: std::net::SocketAddr,
        free: Arc<Semaphore>,
        stop: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
    }

    impl Server {
        async fn start(limits: Limits) -> Self {
            Self::with(limits, FAR).await
        }

        /// One that finds an answer overdue after this time.
        async fn with(limits: Limits, overdue: Duration) -> Self {
            let listener = TcpListener::bind((HERE, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let free = Arc::new(Semaphore::new(0));
            let places = Arc::clone(&free);
            let service = tower::service_fn(move |request: Request<Body>| {
                let places = Arc::clone(&places);
                async move {
                    let link = request.extensions().get::<Link>().unwrap();
                    let _busy = link.begin();
                    let _due = link.expect(Instant::now() + overdue - UNREAD);
                    places.acquire().await.unwrap().forget();
                    Ok::<_, Infallible>(Response::new(Body::empty()))
                }
            });
            let stop = CancellationToken::new();
            let stopped = stop.clone().cancelled_owned();
            let serving = tokio::spawn(serve(listener, service, limits, stopped));
            Self {
                address,
                free,
                stop,
                serving,
            }
        }
    }

    /// A client that reads and writes frames.
    struct Caller(TcpStream);

    impl Caller {
        /// Connects and completes the handshake.
        async fn of(server: &Server) -> Self {
            let mut caller = Self(TcpStream::connect(server.address).await.unwrap());
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
            caller.0.write_all(preface).await.unwrap();
            caller.send(SETTINGS, 0, 0, &[]).await;
            let (first, ..) = caller.hear().await.unwrap();
            assert_eq!(first, SETTINGS);
            caller
        }

        async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let mut frame = length[1..].to_vec();
            frame.extend([kind, flags]);
            frame.extend(stream.to_be_bytes());
            frame.extend(payload);
            self.0.write_all(&frame).await.unwrap();
        }

        /// Begins a call: an empty POST.
        async fn call(&mut self, stream: u32) {
            let post = [0x83, 0x86, 0x84, 0x41, 1, b'a'];
            self.send(HEADERS, 5, stream, &post).await;
        }

        /// The next frame's type, flags, stream and payload; none at the connection's end.
        async fn hear(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [high, middle, low, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, high, middle, low]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((kind, flags, u32::from_be_bytes(stream), payload))
        }

        /// Waits for a GOAWAY and returns its last stream.
        async fn goaway(&mut self) -> u32 {
            loop {
                let frame = self.hear().await.expect("closed without a word");
                if let (GOAWAY, _, _, payload) = frame {
                    return last(&payload);
                }
            }
        }

        /// Reads to the end as any client does: the last GOAWAY's last stream, and which calls were answered.
        async fn end(mut self) -> (Option<u32>, Vec<u32>) {
            let (mut last_stream, mut answered) = (None, Vec::new());
            while let Some((kind, flags, stream, payload)) = self.hear().await {
                match kind {
                    PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
                    GOAWAY => last_stream = Some(last(&payload)),
                    HEADERS => answered.push(stream),
                    _ => {}
                }
            }
            (last_stream, answered)
        }
    }

    fn last(goaway: &[u8]) -> u32 {
        assert_eq!(goaway[4..8], [0; 4], "it ends for no fault of the caller's");
        u32::from_be_bytes(goaway[..4].try_into().unwrap())
    }

    /// A call that is sent before its caller has the final GOAWAY is answered: here one after the first GOAWAY.
    #[tokio::test]
    async fn a_call_on_a_connection_that_ends_is_answered() {
        for limits in [
            Limits {
                first_call: Duration::ZERO,
                ..NEVER
            },
            Limits {
                age: Duration::ZERO,
                ..NEVER
            },
        ] {
            let server = Server::start(limits).await;
            let mut caller = Caller::of(&server).await;
            assert_eq!(caller.goaway().await, ANY);
            caller.call(1).await;
            caller.call(3).await;
            server.free.add_permits(2);
            let (last_stream, mut answered) = caller.end().await;
            answered.sort_unstable();
            assert_eq!((last_stream, answered), (Some(3), vec![1, 3]));
        }
    }

    #[tokio::test]
    async fn an_idle_connection_ends_after_its_last_call() {
        let idle = Duration::from_millis(50);
        let server = Server::start(Limits { idle, ..NEVER }).await;
        let mut caller = Caller::of(&server).await;
        caller.call(1).await;
        caller.call(3).await;
        server.free.add_permits(1);
        let first = loop {
            if let (HEADERS, _, stream, _) = caller.hear().await.unwrap() {
                break stream;
            }
        };
        let goaway = timeout(4 * idle, caller.goaway()).await;
        assert!(goaway.is_err(), "it ends amid a call: {goaway:?}");
        server.free.add_permits(1);
        assert_eq!(caller.end().await, (Some(3), vec![4 - first]));
    }

    /// A client that sends nothing, or does not acknowledge, is not waited for.
    #[tokio::test]
    async fn a_silent_connection_ends() {
        let limits = Limits {
            first_call: Duration::ZERO,
            grace: Duration::from_millis(50),
            ..NEVER
        };
        let server = Server::start(limits).await;
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        let mut heard = Vec::new();
        let _ = silent.read_to_end(&mut heard).await;
        let mut deaf = Caller::of(&server).await;
        while deaf.hear().await.is_some() {}
    }

    #[tokio::test]
    async fn a_server_that_stops_ends_what_was_begun() {
        let mut server = Server::start(NEVER).await;
        let mut caller = Caller::of(&server).await;
        caller.call(1).await;
        server.stop.cancel();
        assert_eq!(caller.goaway().await, ANY);
        let refused = TcpStream::connect(server.address).await;
        assert!(refused.is_err(), "it listens on");
        assert!((&mut server.serving).now_or_never().is_none());
        server.free.add_permits(1);
        assert_eq!(caller.end().await, (Some(1), vec![1]));
        server.serving.await.unwrap();
    }

    /// Not even for as long as its calls may take.
    #[tokio::test]
    async fn a_server_that_stops_does_not_wait_for_who_reads_nothing() {
        let moment = Duration::from_millis(50);
        let limits = Limits {
            grace: moment,
            ..NEVER
        };
        let server = Server::with(limits, 4 * moment).await;
        let mut deaf = Caller::of(&server).await;
        deaf.call(1).await;
        server.stop.cancel();
        assert_eq!(deaf.goaway().await, ANY);
        server.serving.await.unwrap();
    }

    #[tokio::test]
    async fn there_are_no_more_than_there_is_room_for() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let room = Arc::new(Semaphore::new(2));
        let mut callers = Vec::new();
        for _ in 0..3 {
            callers.push(TcpStream::connect(address).await.unwrap());
        }
        let first = accept(&listener, &room).await;
        let _second = accept(&listener, &room).await;
        assert!(accept(&listener, &room).now_or_never().is_none(), "a third");
        drop(first);
        accept(&listener, &room).await;
    }
}
