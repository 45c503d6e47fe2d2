//! Messages on the wire: a prefix of five bytes, and gzip if the sender chose it. Behind the gate they are
//! uncompressed, and a malformed one is refused with our own status.

use std::io::{self, Write};

use bytes::{Buf as _, Bytes};
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use futures_util::stream::try_unfold;
use http::header::{HeaderMap, HeaderValue};
use http::{Response, response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use octroi_api::r#type::v1::ErrorReason;
use octroi_platform::error::Error;
use octroi_platform::refusal::{Refusal, Violations};
use prost::DecodeError;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::held::{Held, late};

/// The prefix of a message: whether it is compressed, and its length.
pub(crate) const PREFIX: usize = 5;
/// The smallest answer worth compressing: below it, it takes a few packets anyway.
const WORTHWHILE: usize = 4096;

pub(crate) const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const GZIP: &str = "gzip";
const ACCEPTED: &str = "identity,gzip";

/// Whether a request's message may be compressed.
pub(crate) fn may_be_compressed(headers: &HeaderMap) -> Result<bool, Status> {
    match headers.get(ENCODING) {
        None => Ok(false),
        Some(encoding) if encoding == "identity" => Ok(false),
        Some(encoding) if encoding == GZIP => Ok(true),
        Some(_) => {
            let mut status = Refusal::shared(
                Code::Unimplemented,
                ErrorReason::EncodingUnsupported,
                "requests are taken as they are or compressed with gzip",
            )
            .meta("accepted", ACCEPTED)
            .status();
            let accepted = MetadataValue::from_static(ACCEPTED);
            status.metadata_mut().insert(ACCEPT_ENCODING, accepted);
            Err(status)
        }
    }
}

/// Whether a caller accepts a compressed answer.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING);
    let mut accepted = accepted.iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.split(',').any(|each| each.trim() == GZIP))
}

/// A request's messages, read one after the other. A compressed one is kept compressed until it has arrived in full.
struct Messages {
    body: Body,
    may_be_compressed: bool,
    limit: usize,
    came: Vec<u8>,
}

impl Messages {
    /// The next message with its prefix; none at the request's end.
    async fn next(&mut self, held: &mut Held) -> Result<Option<Vec<u8>>, Status> {
        loop {
            if let Some(length) = self.length()?
                && self.came.len() >= length
            {
                let rest = self.came.split_off(length);
                return Ok(Some(std::mem::replace(&mut self.came, rest)));
            }
            if !self.more(held).await? {
                return match self.came.len() {
                    0 => Ok(None),
                    _ => Err(no_message("is shorter than it says")),
                };
            }
        }
    }

    /// The length of the next message with its prefix; none until the prefix has arrived.
    fn length(&self) -> Result<Option<usize>, Status> {
        let Some(([compressed, length @ ..], _)) = self.came.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        match compressed {
            0 => {}
            1 if self.may_be_compressed => {}
            _ => return Err(no_message("is marked as compressed without saying how")),
        }
        let declared = u32::from_be_bytes(*length) as usize;
        match declared > self.limit {
            true => Err(too_large(self.limit)),
            false => Ok(Some(PREFIX + declared)),
        }
    }

    /// Reads the next frame; false at the request's end.
    async fn more(&mut self, held: &mut Held) -> Result<bool, Status> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        let frame = frame.map_err(|_| Error::Unavailable("the request broke off".to_owned()))?;
        if let Ok(data) = frame.into_data() {
            held.grow(data.len())?;
            self.came.extend_from_slice(&data);
        }
        Ok(true)
    }
}

/// Reads a request of one message to its end, and returns the message with its prefix, as it was sent.
pub(crate) async fn read(
    body: Body,
    may_be_compressed: bool,
    limit: usize,
    held: &mut Held,
) -> Result<Vec<u8>, Status> {
    let mut messages = Messages {
        body,
        may_be_compressed,
        limit,
        came: Vec::new(),
    };
    let framed = messages.next(held).await?;
    let framed = framed.ok_or_else(|| no_message("is shorter than it says"))?;
    while messages.came.is_empty() {
        if !messages.more(held).await? {
            return Ok(framed);
        }
    }
    Err(no_message("is longer than it says"))
}

/// The body of a streaming request: each message is read when the method asks for it, and its memory counted until it
/// asks for the next.
pub(crate) fn stream(
    body: Body,
    may_be_compressed: bool,
    limit: usize,
    held: Held,
    until: Instant,
) -> Body {
    let messages = Messages {
        body,
        may_be_compressed,
        limit,
        came: Vec::new(),
    };
    let admitted = try_unfold(
        (messages, held),
        move |(mut messages, mut held)| async move {
            held.release();
            held.grow(messages.came.len())?;
            let framed = timeout_at(until, messages.next(&mut held))
                .await
                .map_err(|_| late("the request was not complete in time"))??;
            let Some(framed) = framed else {
                return Ok(None);
            };
            let message = plain(framed, limit, &mut held)?;
            Ok::<_, Status>(Some((Frame::data(message), (messages, held))))
        },
    );
    Body::new(StreamBody::new(admitted))
}

/// A message as an uncompressed one, with its prefix.
pub(crate) fn plain(framed: Vec<u8>, limit: usize, held: &mut Held) -> Result<Bytes, Status> {
    let Some((&[1, ..], message)) = framed.split_first_chunk::<PREFIX>() else {
        return Ok(framed.into());
    };
    let mut decoder = GzDecoder::new(Bounded {
        framed: vec![0; PREFIX],
        limit,
        held,
        refused: None,
    });
    let decoded = decoder
        .write_all(message)
        .and_then(|()| decoder.try_finish());
    let bounded = decoder.get_mut();
    if let Some(refusal) = bounded.refused.take() {
        return Err(refusal);
    }
    decoded.map_err(|_| no_message("is not what gzip makes"))?;
    let mut framed = std::mem::take(&mut bounded.framed);
    let length = u32::try_from(framed.len() - PREFIX).map_err(|_| too_large(limit))?;
    framed[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(framed.into())
}

/// Decompresses a message within the limits.
struct Bounded<'a> {
    framed: Vec<u8>,
    limit: usize,
    held: &'a mut Held,
    refused: Option<Status>,
}

impl Write for Bounded<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = match self.framed.len() + data.len() > PREFIX + self.limit {
            true => Err(too_large(self.limit)),
            false => self.held.grow(data.len()),
        };
        if let Err(refusal) = room {
            self.refused = Some(refusal);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.framed.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn too_large(limit: usize) -> Status {
    let message = format!("the request is larger than {limit} bytes, uncompressed");
    let reason = ErrorReason::MessageTooLarge;
    Refusal::shared(Code::ResourceExhausted, reason, message).status()
}

fn no_message(what: &str) -> Status {
    let reason = ErrorReason::InvalidFields;
    Refusal::shared(
        Code::InvalidArgument,
        reason,
        format!("the request's message {what}"),
    )
    .status()
}

/// The answer to send: our own status where the request could not be decoded, and compressed if the caller accepts it
/// and it is large enough.
pub(crate) async fn answer(answer: Response<Body>, gzip: bool) -> Response<Body> {
    if let Some(refusal) = answer.extensions().get().and_then(no_such_message) {
        return refusal.into_http();
    }
    // Compressed in the call's own task: the connection's task serves other calls.
    match (gzip, answer.headers().contains_key(Status::GRPC_STATUS)) {
        (true, false) => compressed(answer).await.unwrap_or_else(Status::into_http),
        _ => answer,
    }
}

/// Our status in place of the framework's for a request that it could not decode.
pub(crate) fn unreadable(status: &Status) -> Status {
    no_such_message(status).unwrap_or_else(|| no_message("cannot be read"))
}

fn no_such_message(status: &Status) -> Option<Status> {
    let source = std::error::Error::source(status)?;
    source.downcast_ref::<DecodeError>().map(undecodable)
}

/// The refusal of a message that cannot be decoded, naming the field where it is known.
pub(crate) fn undecodable(error: &DecodeError) -> Status {
    let field = field(error);
    if field.is_empty() {
        return no_message("cannot be decoded");
    }
    let mut violations = Violations::default();
    violations.add(field, "is not validly encoded (text must be UTF-8)");
    Error::Invalid(violations).into()
}

/// The trailers that end an answer with a status.
pub(crate) fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// The path of the field that could not be decoded. prost gives it in the error's text alone, the innermost field
/// first: "failed to decode Protobuf message: Inner.field: Outer.field: why".
fn field(error: &DecodeError) -> String {
    let text = error.to_string();
    let names = text.split(": ").skip(1).map_while(|part| {
        let (message, field) = part.split_once('.')?;
        let named = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let field = field.trim_start_matches("r#");
        (named(message) && named(field)).then_some(field)
    });
    let mut path: Vec<&str> = names.collect();
    path.reverse();
    path.join(".")
}

async fn compressed(answer: Response<Body>) -> Result<Response<Body>, Status> {
    let (head, body) = answer.into_parts();
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned();
    let plain = whole.to_bytes();
    let (head, sent) = match plain.len() {
        ..WORTHWHILE => (head, plain),
        _ => squeezed(head, plain),
    };
    let body = Full::new(sent).with_trailers(async move { trailers.map(Ok) });
    Ok(Response::from_parts(head, Body::new(body)))
}

/// The answer compressed, unless that is no smaller.
fn squeezed(mut head: response::Parts, plain: Bytes) -> (response::Parts, Bytes) {
    let Ok(squeezed) = gzip(plain.slice(PREFIX..)) else {
        return (head, plain);
    };
    if squeezed.len() >= plain.len() {
        return (head, plain);
    }
    head.headers
        .insert(ENCODING, HeaderValue::from_static(GZIP));
    (head, squeezed.into())
}

fn gzip(plain: Bytes) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(vec![1; PREFIX], Compression::fast());
    io::copy(&mut plain.reader(), &mut encoder)?;
    let mut framed = encoder.finish()?;
    let length = u32::try_from(framed.len() - PREFIX).map_err(io::Error::other)?;
    framed[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(framed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::StreamExt as _;
    use octroi_api::licensing::v1::CreateOrderRequest;
    use octroi_platform::limits::MESSAGE;
    use octroi_platform::share::Whose;
    use prost::Message as _;

    use super::*;
    use crate::held::{ALL, Memory};

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[flag], &length.to_be_bytes()[..], message].concat()
    }

    async fn came(sent: Vec<u8>, may_be_compressed: bool) -> Result<Bytes, Code> {
        came_into(&Memory::new(ALL), sent, may_be_compressed).await
    }

    async fn came_into(
        memory: &Arc<Memory>,
        sent: Vec<u8>,
        may_be_compressed: bool,
    ) -> Result<Bytes, Code> {
        let body = Body::new(Full::new(Bytes::from(sent)));
        let mut held = memory.hold(&Whose::Stranger);
        let read = read(body, may_be_compressed, MESSAGE, &mut held).await;
        let plain = read.and_then(|framed| plain(framed, MESSAGE, &mut held));
        plain.map_err(|status| status.code())
    }

    /// The compressed message fits into the memory, and the decompressed one does not.
    #[tokio::test]
    async fn what_comes_out_is_held_too() {
        let sent = gzip(vec![7; MESSAGE].into()).unwrap();
        for (memory, outcome) in [
            (ALL, None),
            (ALL / 4 + 2 * MESSAGE, Some(Code::Unavailable)),
        ] {
            let memory = Memory::new(memory);
            let body = Body::new(Full::new(sent.clone().into()));
            let read = read(body, true, MESSAGE, &mut memory.hold(&Whose::Stranger)).await;
            assert_eq!(read.unwrap(), sent);
            let came = came_into(&memory, sent.clone(), true).await;
            assert_eq!(came.err(), outcome);
        }
    }

    #[tokio::test]
    async fn a_message_comes_out_plain() {
        for length in [0, 1, 5000, MESSAGE] {
            let message = vec![7; length];
            let plain = framed(0, &message);
            let sent = gzip(message.into()).unwrap();
            for sent in [plain.clone(), sent] {
                assert_eq!(came(sent, true).await.unwrap(), plain, "{length}");
            }
        }
    }

    #[tokio::test]
    async fn too_much_is_refused_however_it_comes() {
        let much = vec![7; MESSAGE + 1];
        let much = [framed(0, &much), gzip(much.into()).unwrap()];
        for sent in much {
            assert_eq!(came(sent, true).await, Err(Code::ResourceExhausted));
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_the_callers_fault() {
        let good = gzip(Bytes::from_static(b"a message")).unwrap();
        let mut broken = good.clone();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        let nothing_at_all = framed(1, b"");
        let not_gzip = framed(1, b"a message");
        let trailed = framed(1, &[&good[PREFIX..], &[0]].concat());
        let cut = framed(1, &good[PREFIX..last]);
        for sent in [broken, nothing_at_all, not_gzip, trailed, cut] {
            assert_eq!(
                came(sent.clone(), true).await,
                Err(Code::InvalidArgument),
                "{sent:?}"
            );
        }
        for (sent, compressed) in [
            (good, false),
            (framed(2, b""), true),
            (Vec::new(), false),
            (vec![0; PREFIX - 1], false),
            ([framed(0, b"a"), framed(0, b"b")].concat(), false),
            (framed(0, b"ab")[..PREFIX + 1].to_vec(), false),
        ] {
            assert_eq!(
                came(sent.clone(), compressed).await,
                Err(Code::InvalidArgument),
                "{sent:?}"
            );
        }
    }

    /// Together they exceed the memory: each counts only until the next is asked for.
    #[tokio::test]
    async fn a_stream_is_held_message_by_message() {
        let message = vec![7; MESSAGE];
        let (plain, sent) = (framed(0, &message), gzip(message.into()).unwrap());
        let too_large = framed(0, &vec![7; MESSAGE + 1]);
        let memory = Memory::new(ALL / 4 + 4 * MESSAGE);
        let sent = [plain.clone(), sent, plain.clone(), plain.clone(), too_large].concat();
        let sent = Bytes::from(sent);
        let pieces: Vec<_> = sent.chunks(1 << 14).map(|it| sent.slice_ref(it)).collect();
        let pieces = pieces
            .into_iter()
            .map(|it| Ok::<_, Status>(Frame::data(it)));
        let body = Body::new(StreamBody::new(tokio_stream::iter(pieces)));
        let until = Instant::now() + std::time::Duration::from_secs(3600);
        let mut admitted =
            stream(body, true, MESSAGE, memory.hold(&Whose::Stranger), until).into_data_stream();
        for _ in 0..4 {
            assert_eq!(admitted.next().await.unwrap().unwrap(), plain);
        }
        let refused = admitted.next().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop(admitted);
        memory.hold(&Whose::Stranger).grow(2 * MESSAGE).unwrap();
    }

    #[tokio::test]
    async fn a_stream_is_not_waited_for_without_end() {
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        let body = Body::new(StreamBody::new(silent));
        let held = Memory::new(ALL).hold(&Whose::Stranger);
        let mut admitted = stream(body, false, MESSAGE, held, Instant::now()).into_data_stream();
        let refused = admitted.next().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
    }

    /// prost does not give the index within a list.
    #[test]
    fn the_field_that_cannot_be_decoded_is_named() {
        for (sent, named) in [
            (&b"\x1a\x05\x22\x03\x0a\x01\xff"[..], "order.lines.offer"),
            (b"\x0a\x01\xff", "parent"),
            (b"\x0a\x05a", "parent"),
            (b"\x00", ""),
        ] {
            let error = CreateOrderRequest::decode(sent).unwrap_err();
            assert_eq!(field(&error), named, "{error}");
        }
    }
}
