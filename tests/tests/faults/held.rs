//! Callers who keep calls open keep nobody else out.

use std::future::poll_fn;

use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use octroi_api::licensing::v1::ListOffersRequest;
use octroi_tests::harness::{Answer as _, Installation, Refused, ServiceName, eventually};
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::codegen::http::Request;
use tonic::{Code, Status};

const CONNECTIONS: usize = 3;
/// Together more than a service works on at once.
const CALLS_EACH: usize = 200;
/// The largest message.
const MESSAGE: usize = 4 << 20;
/// Half-open requests of that size, and how many of them a service holds at most of one caller's: half of what it has.
const LARGE: usize = 8;
const MOST: usize = 5;

const OFFERS: &str = "octroi.licensing.v1.OfferService/ListOffers";

/// A request whose body never ends has its answer in time, and then as before holds no place.
#[tokio::test]
async fn by_requests_that_never_end() {
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Licensing);
    let token = octroi.token("licensing.offers.read");
    let mut offers = octroi.operator().offers();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = connected(&url).await;
        let mut answers = Vec::new();
        for _ in 0..CALLS_EACH {
            let (answer, body) = begun(&mut client, &url, OFFERS, &deadline(&token)).await;
            answers.push(answer);
            held.push(body);
        }
        for answer in answers {
            let answer = answer.await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        }
        offers.list_offers(ListOffersRequest::default()).await.got();
    }
    assert_eq!(held.len(), CONNECTIONS * CALLS_EACH);
    octroi.finish().await;
}

/// A connection to a service.
pub async fn connected(url: &str) -> SendRequest<Bytes> {
    let address = url.trim_start_matches("http://");
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::Builder::new().handshake(socket).await.unwrap();
    tokio::spawn(connection);
    client
}

fn deadline(token: &str) -> [(&'static str, String); 2] {
    let token = format!("Bearer {token}");
    [
        ("authorization", token),
        ("grpc-timeout", "200m".to_owned()),
    ]
}

/// A call whose body does not end.
pub async fn begun(
    client: &mut SendRequest<Bytes>,
    url: &str,
    path: &str,
    headers: &[(&str, String)],
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut request = Request::post(format!("{url}/{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let mut ready = client.clone().ready().await.unwrap();
    ready
        .send_request(request.body(()).unwrap(), false)
        .unwrap()
}

/// Half-open requests hold so much and no more, whoever sends them; who sends little calls on meanwhile.
#[tokio::test]
async fn by_large_requests_that_never_end() {
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Licensing);
    // Named like an account, it is none.
    let token = octroi.token_named("accounts/other");
    let headers = [("authorization", format!("Bearer {token}"))];
    let mut offers = octroi.stranger().with_token(&token).offers();
    let mut held = Vec::new();
    let mut refusals = JoinSet::new();
    let whole = ListOffersRequest {
        page_token: "a".repeat(MESSAGE / 2),
        ..ListOffersRequest::default()
    };
    for _ in 0..LARGE {
        let mut client = connected(&url).await;
        let (answer, body) = begun(&mut client, &url, OFFERS, &headers).await;
        refusals.spawn(async move {
            let answer = answer.await.unwrap();
            Refused::of(&Status::from_header_map(answer.headers()).unwrap())
        });
        // All but the last byte.
        let prefix = [&[0][..], &u32::try_from(MESSAGE).unwrap().to_be_bytes()].concat();
        let most = [prefix, vec![0; MESSAGE - 1]].concat();
        held.push(sent(body, most.into()).await);
        offers.list_offers(ListOffersRequest::default()).await.got();
    }
    // As many as there is no room for.
    for _ in 0..LARGE - MOST {
        let refused = refusals.join_next().await.unwrap().unwrap();
        refused.is(Code::Unavailable, "OVERLOADED");
        assert!(refused.retry.is_some());
    }
    offers.list_offers(ListOffersRequest::default()).await.got();
    // Others have room for large ones, too.
    let mut other = octroi.bound_to("other").offers();
    let refused = other.list_offers(whole.clone()).await.refused();
    refused.names(&["page_token"]);
    // Who leaves makes room.
    drop(held);
    refusals.shutdown().await;
    eventually("there is room again", async || {
        let refused = offers.list_offers(whole.clone()).await.refused();
        (refused.reason != "OVERLOADED").then_some(())
    })
    .await;
    octroi.finish().await;
}

/// Sends as the windows allow; a refusal may come first.
async fn sent(mut body: SendStream<Bytes>, mut data: Bytes) -> SendStream<Bytes> {
    while !data.is_empty() {
        body.reserve_capacity(data.len());
        let Some(Ok(room)) = poll_fn(|context| body.poll_capacity(context)).await else {
            break;
        };
        if body.send_data(data.split_to(room), false).is_err() {
            break;
        }
    }
    body
}

/// Nor do strangers' requests stay, who need no token for health and reflection.
#[tokio::test]
async fn by_strangers() {
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Licensing);
    let mut client = connected(&url).await;
    let mut held = Vec::new();
    for path in [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let (answer, mut body) = begun(&mut client, &url, path, &[]).await;
        body.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
        held.push((path, answer, body));
    }
    for (path, answer, _body) in held {
        let (head, mut body) = answer.await.unwrap().into_parts();
        let mut headers = head.headers;
        if !headers.contains_key("grpc-status") {
            assert!(body.data().await.is_none(), "{path}");
            headers = body.trailers().await.unwrap().unwrap();
        }
        let status = Status::from_header_map(&headers).unwrap();
        Refused::of(&status).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    octroi.finish().await;
}
