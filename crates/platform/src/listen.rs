//! Connections: how many there may be, and how long one may stay without a call. How old one may grow, what it may open
//! and how it ends in good order are the server's to know (`service.rs`).

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tonic::transport::server::Connected;

/// How many connections a service has at once; who comes then waits to be accepted.
pub(crate) const CONNECTIONS: usize = 512;
/// How long a connection may take until its first call, its handshake included.
const FIRST_CALL: Duration = Duration::from_secs(10);
/// How long it may stay after its last call. Pings are no calls.
const IDLE: Duration = Duration::from_secs(300);
/// How long to wait when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// The connections of a listener, `most` of them at once.
pub(crate) fn connections(
    listener: TcpListener,
    most: usize,
) -> impl Stream<Item = io::Result<Connection<TcpStream>>> {
    let room = Arc::new(Semaphore::new(most));
    stream::unfold((listener, room), |(listener, room)| async {
        let place = Arc::clone(&room).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((socket, remote)) => {
                    let _ = socket.set_nodelay(true);
                    let connection = Connection::new(socket, remote.ip(), place, FIRST_CALL);
                    return Some((Ok(connection), (listener, room)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(NO_ROOM).await;
                }
            }
        }
    })
}

/// A connection that ends, as if its caller had left, when it goes too long without a call.
pub(crate) struct Connection<S> {
    socket: S,
    link: Link,
    look: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// What a connection and its calls know of each other.
#[derive(Clone)]
pub(crate) struct Link {
    /// The caller's address.
    pub(crate) remote: IpAddr,
    calls: Arc<Mutex<Calls>>,
}

/// How many calls are under way, and until when there may be none.
struct Calls {
    open: usize,
    until: Instant,
}

/// A call under way.
pub(crate) struct Busy(Link);

impl<S> Connection<S> {
    fn new(socket: S, remote: IpAddr, place: OwnedSemaphorePermit, first: Duration) -> Self {
        let until = Instant::now() + first;
        let calls = Calls { open: 0, until };
        Self {
            socket,
            link: Link {
                remote,
                calls: Arc::new(Mutex::new(calls)),
            },
            look: Box::pin(sleep_until(until)),
            _place: place,
        }
    }
}

impl Link {
    /// Keeps the connection for as long as the call is under way.
    pub(crate) fn begin(&self) -> Busy {
        self.calls().open += 1;
        Busy(self.clone())
    }

    /// When to look again; none when the connection's time is over.
    fn stays(&self, now: Instant) -> Option<Instant> {
        let calls = self.calls();
        if calls.open > 0 {
            return Some(now + IDLE);
        }
        (calls.until > now).then_some(calls.until)
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut calls = self.0.calls();
        calls.open -= 1;
        calls.until = Instant::now() + IDLE;
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        self.link.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.look.as_mut().poll(context).is_ready() {
            let Some(until) = self.link.stays(Instant::now()) else {
                return Poll::Ready(Ok(()));
            };
            self.look.as_mut().reset(until);
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn place() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
    }

    #[tokio::test]
    async fn a_connection_without_a_call_ends() {
        let (_caller, socket) = tokio::io::duplex(16);
        let mut connection = Connection::new(socket, HERE, place(), Duration::ZERO);
        assert_eq!(connection.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_connection_stays_for_its_calls_and_a_while_longer() {
        let (mut caller, socket) = tokio::io::duplex(16);
        let mut connection = Connection::new(socket, HERE, place(), Duration::ZERO);
        let link = connection.connect_info();
        let (first, second) = (link.begin(), link.begin());
        caller.write_all(b"said").await.unwrap();
        assert_eq!(connection.read(&mut [0; 16]).await.unwrap(), 4);
        drop(first);
        assert!(link.stays(Instant::now() + 2 * IDLE).is_some());
        drop(second);
        let now = Instant::now();
        assert!(link.stays(now).is_some_and(|until| until <= now + IDLE));
        assert_eq!(link.stays(now + IDLE), None);
    }

    #[tokio::test]
    async fn there_are_no_more_than_there_is_room_for() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = std::pin::pin!(connections(listener, 2));
        let mut callers = Vec::new();
        for _ in 0..3 {
            callers.push(TcpStream::connect(address).await.unwrap());
        }
        let first = connections.next().await.unwrap().unwrap();
        let _second = connections.next().await.unwrap().unwrap();
        assert!(connections.next().now_or_never().is_none(), "a third");
        drop(first);
        assert!(connections.next().await.is_some());
    }
}
