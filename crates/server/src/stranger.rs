//! Health and reflection, which ask for no token: what a stranger brings is little, and soon complete.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use octroi_platform::share::Whose;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::held::{Memory, overloaded};
use crate::link::Link;
use crate::message;
use crate::reflection::readable;
use crate::sending::counted;

/// The largest message that a caller without a token may bring, to health and reflection: a name or two.
const MESSAGE: usize = 4 << 10;
/// How long a request without a token may take to come, to health and reflection.
const DEADLINE: Duration = Duration::from_secs(10);
/// What reflection's requests and answers hold at most: half of it, being one caller's.
pub(crate) const ALL: usize = 16 << 20;

pub(crate) async fn serve_stranger<S>(
    mut inner: S,
    request: Request<Body>,
    strangers: &Arc<Memory>,
) -> Result<Response<Body>, Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (mut head, body) = request.into_parts();
    let compressed = message::may_be_compressed(&head.headers)?;
    head.headers.remove(message::ENCODING);
    let reflects = head.uri.path().starts_with("/grpc.reflection.");
    let link = head.extensions.get::<Link>().cloned();
    let place = link.as_ref().map(|link| Arc::clone(&link.strangers));
    let place = place.map(Semaphore::try_acquire_owned).transpose();
    let place =
        place.map_err(|_| overloaded("too many calls without a token at once; try again"))?;
    // All that callers may hold is not a stranger's to take, and no health is refused for what reflection holds.
    let memory = match reflects {
        true => Arc::clone(strangers),
        false => Memory::new(usize::MAX),
    };
    let until = Instant::now() + DEADLINE;
    let held = memory.hold(&Whose::Stranger);
    let mut body = message::stream(body, compressed, MESSAGE, held, until);
    if reflects {
        body = readable(body);
    }
    let refused = Arc::<OnceLock<Status>>::default();
    let noted = Arc::clone(&refused);
    let body = Body::new(body.map_err(move |status| noted.get_or_init(|| status).clone()));
    let served = match inner.call(Request::from_parts(head, body)).await {
        Ok(served) => served,
        Err(never) => match never {},
    };
    // Nothing but bytes that are no message is INTERNAL there.
    match served.extensions().get::<Status>() {
        Some(status) if status.code() == Code::Internal => return Err(message::unreadable(status)),
        _ => {}
    }
    // The framework's reflection ends without a word on what it cannot read.
    let served = served.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _place = &place;
            match refused.get() {
                Some(refused) if frame.is_trailers() => message::trailers(refused).unwrap_or(frame),
                _ => frame,
            }
        }))
    });
    // Who watches health may read as slowly as it likes.
    let due = link.filter(|_| reflects).map(|link| link.expect(until));
    Ok(counted(served, (&memory, Whose::Stranger), due))
}
