//! What comes over the wire before it is a message: bytes of every kind, plain and compressed.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use octroi_api::licensing::v1::{ListLicensesRequest, ListOffersRequest};
use octroi_api::{DESCRIPTORS, METHODS, Method};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Caller, Installation, Refused, ServiceName, StockClient, server,
};
use prost::Message as _;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::codegen::http;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// How deep the messages of a request are looked into.
const DEPTH: usize = 4;

/// A field's key and its bytes.
fn encoded(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut all);
    prost::encoding::encode_varint(bytes.len() as u64, &mut all);
    all.extend_from_slice(bytes);
    all
}

/// Every text of a message by its path, with a message in which it is no UTF-8.
fn texts(message: &MessageDescriptor, depth: usize) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    if depth == 0 {
        return all;
    }
    for field in message.fields().filter(|field| !field.is_map()) {
        // Of a oneof the whole is named.
        let oneof = field
            .containing_oneof()
            .filter(|_| !field.field_descriptor_proto().proto3_optional());
        let name = oneof.map_or(field.name().to_owned(), |oneof| oneof.name().to_owned());
        match field.kind() {
            Kind::String => all.push((name, encoded(field.number(), b"\xc3("))),
            Kind::Message(inner) => {
                let inner = texts(&inner, depth - 1).into_iter();
                all.extend(inner.map(|(path, bytes)| {
                    (format!("{name}.{path}"), encoded(field.number(), &bytes))
                }));
            }
            _ => {}
        }
    }
    all
}

/// Somebody who may call the method, if anybody.
fn whoever_may(octroi: &Installation, method: &Method) -> Caller {
    let services = ServiceName::ALL.into_iter();
    let mut callers = services.filter(|it| *it != server(method));
    match callers.find(|it| method.callers.contains(&it.as_str())) {
        Some(service) => octroi.service(service),
        None => octroi.operator(),
    }
}

#[tokio::test]
async fn that_are_no_message_are_refused_by_every_method() {
    let octroi = Installation::start().await;
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let mut named = 0;
    for method in METHODS {
        let caller = whoever_may(&octroi, method);
        let (service, name) = method.path[1..].split_once('/').unwrap();
        let service = pool.get_service_by_name(service).unwrap();
        let declared = service.methods().find(|it| it.name() == name).unwrap();
        let refusal = async |message: Vec<u8>| {
            let answer = caller.call(server(method), method.path, message).await;
            let status = answer.expect_err(method.path);
            let refused = Refused::of(&status);
            refused.is(Code::InvalidArgument, "INVALID_FIELDS");
            let message = &refused.message;
            assert!(
                !message.contains("rotobuf") && !message.contains("varint"),
                "{message}"
            );
            refused
        };
        for (path, message) in texts(&declared.input(), DEPTH) {
            refusal(message).await.names(&[path.as_str()]);
            named += 1;
        }
        // A key of no field, a key that does not end, a group of no field that nobody opened.
        for nonsense in [&b"\x00\x01"[..], &[0xff; 11], b"\x7c"] {
            refusal(nonsense.to_vec()).await.names(&[]);
        }
    }
    assert!(named > METHODS.len(), "{named} texts");
    octroi.finish().await;
}

/// A call by hand, whose request ends when its body is dropped or ended.
struct ByHand {
    answer: h2::client::ResponseFuture,
    body: h2::SendStream<prost::bytes::Bytes>,
}

const LIST_OFFERS: &str = "octroi.licensing.v1.OfferService/ListOffers";

async fn begun(octroi: &Installation, headers: &[(&str, &str)]) -> ByHand {
    let token = format!("Bearer {}", octroi.token("*"));
    let headers = [&[("authorization", &*token)], headers].concat();
    begun_by_stranger(octroi, LIST_OFFERS, &headers).await
}

async fn begun_by_stranger(octroi: &Installation, path: &str, headers: &[(&str, &str)]) -> ByHand {
    let url = octroi.plan().url(ServiceName::Licensing);
    let address = url.trim_start_matches("http://");
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post(format!("{url}/{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for &(name, value) in headers {
        request = request.header(name, value);
    }
    let mut client = client.ready().await.unwrap();
    let (answer, body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    ByHand { answer, body }
}

impl ByHand {
    async fn refused(self) -> (Refused, http::HeaderMap) {
        let (head, mut body) = self.answer.await.unwrap().into_parts();
        let mut headers = head.headers;
        // A stream has begun its answer before it is refused.
        if !headers.contains_key("grpc-status") {
            assert!(body.data().await.is_none(), "it is answered");
            headers = body.trailers().await.unwrap().unwrap();
        }
        let status = Status::from_header_map(&headers).unwrap();
        (Refused::of(&status), headers)
    }
}

/// A message as gzip makes it, behind its prefix.
fn gzipped(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![1, 0, 0, 0, 0], Compression::best());
    encoder.write_all(message).unwrap();
    with_its_length(encoder.finish().unwrap())
}

fn plain(message: &[u8]) -> Vec<u8> {
    with_its_length([&[0; 5], message].concat())
}

fn with_its_length(mut framed: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(framed.len() - 5).unwrap();
    framed[1..5].copy_from_slice(&length.to_be_bytes());
    framed
}

/// However little came over the wire.
#[tokio::test]
async fn that_grow_too_large_are_refused() {
    let octroi = Installation::start().await;
    let bomb = gzipped(&vec![0; 32 << 20]);
    assert!(bomb.len() < 1 << 16, "it fits the windows");
    let mut call = begun(&octroi, &[("grpc-encoding", "gzip")]).await;
    call.body.send_data(bomb.into(), true).unwrap();
    let (refused, _) = call.refused().await;
    refused.is(Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    octroi.finish().await;
}

/// What is served without a token takes little, and refuses in the same words.
#[tokio::test]
async fn of_strangers_are_refused_as_those_of_others() {
    let octroi = Installation::start().await;
    let gzip = ("grpc-encoding", "gzip");
    for path in [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        let refusal = async |headers: &[(&str, &str)], sent: Vec<u8>| {
            let mut call = begun_by_stranger(&octroi, path, headers).await;
            call.body.send_data(sent.into(), true).unwrap();
            call.refused().await.0
        };
        let large = encoded(1, &[b'a'; 5000]);
        for (headers, sent) in [(&[][..], plain(&large)), (&[gzip], gzipped(&large))] {
            refusal(headers, sent)
                .await
                .is(Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
        }
        let no_text = encoded(1, b"\xff");
        for (headers, sent) in [
            (&[][..], plain(&no_text)),
            (&[gzip], gzipped(&no_text)),
            (&[gzip], vec![1, 0, 0, 0, 1, 7]),
            (&[], vec![1, 0, 0, 0, 1, 7]),
            (&[], vec![0, 0, 0, 0, 2, 7]),
        ] {
            let refused = refusal(headers, sent).await;
            refused.is(Code::InvalidArgument, "INVALID_FIELDS");
            assert!(!refused.message.contains("rotobuf"), "{}", refused.message);
        }
        let deflate = [("grpc-encoding", "deflate")];
        refusal(&deflate, plain(&[]))
            .await
            .is(Code::Unimplemented, "ENCODING_UNSUPPORTED");
    }
    octroi.finish().await;
}

#[tokio::test]
async fn compressed_in_another_way_are_refused_with_what_is_taken() {
    let octroi = Installation::start().await;
    for encoding in ["deflate", "zstd", "gzip, gzip", "x"] {
        let mut call = begun(&octroi, &[("grpc-encoding", encoding)]).await;
        call.body.send_data(vec![0; 5].into(), true).unwrap();
        let (refused, headers) = call.refused().await;
        refused.is(Code::Unimplemented, "ENCODING_UNSUPPORTED");
        assert_eq!(refused.metadata["accepted"], "identity,gzip");
        assert_eq!(headers["grpc-accept-encoding"], "identity,gzip");
    }
    // Marked as compressed without saying how, and broken.
    for headers in [
        &[][..],
        &[("grpc-encoding", "identity")],
        &[("grpc-encoding", "gzip")],
    ] {
        let mut call = begun(&octroi, headers).await;
        call.body
            .send_data(vec![1, 0, 0, 0, 1, 7].into(), true)
            .unwrap();
        call.refused().await.0.names(&[]);
    }
    octroi.finish().await;
}

/// A large answer is compressed for who takes it, a small one for nobody.
#[tokio::test]
async fn that_gzip_made_are_taken_and_given() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 60)]).await;
    let many = ListLicensesRequest {
        parent: format!("{}/licenseGroups/office", acme.name()),
        ..ListLicensesRequest::default()
    };
    let plain = acme
        .by
        .licenses()
        .list_licenses(many.clone())
        .await
        .unwrap();
    assert!(!plain.metadata().contains_key("grpc-encoding"));
    let plain = plain.into_inner();
    assert!(plain.encoded_len() > 4096);
    let mut licenses = acme
        .by
        .licenses()
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let compressed = licenses
        .list_licenses(Request::new(many.clone()))
        .await
        .unwrap();
    assert_eq!(compressed.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(compressed.into_inner(), plain);
    let few = ListLicensesRequest {
        page_size: 1,
        ..many.clone()
    };
    let small = licenses.list_licenses(few).await.unwrap();
    assert!(!small.metadata().contains_key("grpc-encoding"));
    let unknown = ListLicensesRequest {
        parent: "accounts/acme/licenseGroups/none".to_owned(),
        ..many.clone()
    };
    licenses
        .list_licenses(unknown)
        .await
        .refused()
        .is(Code::NotFound, "NOT_FOUND");

    let url = octroi.plan().url(ServiceName::Licensing);
    let token = octroi.token("*");
    for client in StockClient::all(&url, true).await {
        let path = "/octroi.licensing.v1.LicenseService/ListLicenses";
        let answer = client.call(path, &many.encode_to_vec(), &token).await;
        assert_eq!(answer.unwrap(), plain.encode_to_vec(), "{}", client.name);
        let path = "/grpc.health.v1.Health/Check";
        let answer = client.call(path, &[], &token).await;
        assert_eq!(answer.unwrap(), [8, 1], "{}", client.name);
        let path = "/octroi.licensing.v1.OfferService/ListOffers";
        let wrong = ListOffersRequest {
            page_size: -1,
            ..ListOffersRequest::default()
        };
        let refused = client.call(path, &wrong.encode_to_vec(), &token).await;
        let status = refused.unwrap_err();
        Refused::of(&status).names(&["page_size"]);
        assert!(status.get_details_bad_request().is_some());
    }
    octroi.finish().await;
}
