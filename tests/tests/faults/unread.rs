//! Callers who do not read what they asked for keep nobody else out, and are not waited for.

use std::time::Duration;

use h2::client::{Connection, SendRequest};
use octroi_api::billing::v1::{Account, GetAccountRequest, UpdateAccountRequest};
use octroi_api::licensing::v1::ListOffersRequest;
use octroi_tests::harness::{Answer as _, Installation, Options, Refused, ServiceName};
use prost::Message as _;
use prost::bytes::Bytes;
use prost_types::FieldMask;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::codegen::http::{HeaderMap, Request, StatusCode};
use tonic::{Code, Status};

use crate::held::begun;

const CONNECTIONS: usize = 3;
/// Together more than a service works on at once.
const CALLS_EACH: usize = 200;
/// Fewer than wait for one caller.
const AT_ONCE: usize = 50;
/// Far longer than an answer may stay unread after its deadline.
const PATIENCE: Duration = Duration::from_secs(90);

const OFFERS: &str = "octroi.licensing.v1.OfferService/ListOffers";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// An empty message.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);

/// A connection of a caller who takes no byte of any answer.
async fn deaf(url: &str) -> (SendRequest<Bytes>, Connection<TcpStream, Bytes>) {
    taking(url, 0).await
}

/// A connection of a caller who takes so many bytes of each.
async fn taking(url: &str, bytes: u32) -> (SendRequest<Bytes>, Connection<TcpStream, Bytes>) {
    let socket = TcpStream::connect(url.trim_start_matches("http://")).await;
    let mut client = h2::client::Builder::new();
    client.initial_window_size(bytes);
    client.handshake(socket.unwrap()).await.unwrap()
}

fn token(octroi: &Installation) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {}", octroi.token("*")))]
}

/// The code of an answer that has no body.
fn code(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

#[tokio::test]
async fn take_no_places() {
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Licensing);
    let headers = token(&octroi);
    let mut offers = octroi.operator().offers();
    let mut connections = JoinSet::new();
    let mut unread = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut client, connection) = deaf(&url).await;
        connections.spawn(connection);
        for _ in 0..CALLS_EACH / AT_ONCE {
            let mut answers = Vec::new();
            for _ in 0..AT_ONCE {
                let (answer, mut body) = begun(&mut client, &url, OFFERS, &headers).await;
                body.send_data(EMPTY, true).unwrap();
                answers.push(answer);
            }
            for answer in answers {
                let answer = answer.await.unwrap();
                assert_eq!(code(answer.headers()), None, "it is answered");
                unread.push(answer);
            }
        }
        offers.list_offers(ListOffersRequest::default()).await.got();
    }
    assert_eq!(unread.len(), CONNECTIONS * CALLS_EACH);
    drop((unread, connections));
    octroi.finish().await;
}

/// The connection ends on which an answer stays after its deadline, whether or not it was begun to be read.
#[tokio::test]
async fn are_left_after_their_deadline() {
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Licensing);
    let [token] = token(&octroi);
    let headers = [token, ("grpc-timeout", "2S".to_owned())];
    let (mut ends, mut unread) = (JoinSet::new(), Vec::new());
    for window in [0, 1] {
        let (mut client, connection) = taking(&url, window).await;
        ends.spawn(async move { drop(timeout(PATIENCE, connection).await.expect("it is closed")) });
        // On a busy machine it may be late.
        let answer = loop {
            let (answer, mut body) = begun(&mut client, &url, OFFERS, &headers).await;
            body.send_data(EMPTY, true).unwrap();
            let answer = answer.await.unwrap();
            if code(answer.headers()).is_none() {
                break answer;
            }
        };
        unread.push((client, answer));
    }
    ends.join_all().await;
    drop(unread);
    octroi.finish().await;
}

/// Who has no token may open few calls on a connection.
#[tokio::test]
async fn strangers_have_few_calls() {
    const FEW: usize = 16;
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Licensing);
    let (mut client, connection) = deaf(&url).await;
    tokio::spawn(connection);
    let mut open = Vec::new();
    for _ in 0..FEW {
        let (answer, body) = begun(&mut client, &url, REFLECTION, &[]).await;
        open.push((answer.await.unwrap(), body));
    }
    let (answer, _body) = begun(&mut client, &url, REFLECTION, &[]).await;
    let answer = answer.await.unwrap();
    let refused = Refused::of(&Status::from_header_map(answer.headers()).unwrap());
    refused.is(Code::Unavailable, "OVERLOADED");
    drop(open);
    octroi.finish().await;
}

/// What comes after its deadline is not begun.
#[tokio::test]
async fn nothing_begins_after_its_deadline() {
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Billing);
    let (mut client, connection) = deaf(&url).await;
    tokio::spawn(connection);
    let [token] = token(&octroi);
    let headers = [token, ("grpc-timeout", "0n".to_owned())];
    let acme = octroi.customer("acme").await;
    let update = UpdateAccountRequest {
        account: Some(Account {
            name: acme.name(),
            legal_name: "Late SAS".to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["legal_name".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    let message = update.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    let path = "octroi.billing.v1.AccountService/UpdateAccount";
    let (answer, mut body) = begun(&mut client, &url, path, &headers).await;
    body.send_data(framed.into(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(code(answer.headers()), Some(Code::DeadlineExceeded));
    let get = GetAccountRequest { name: acme.name() };
    let account = acme.by.accounts().get_account(get).await.got();
    assert_ne!(account.legal_name, "Late SAS");
    octroi.finish().await;
}

/// What is no call of gRPC's is told so in HTTP.
#[tokio::test]
async fn what_is_no_call_is_not_served() {
    let octroi = Installation::start().await;
    let url = octroi.plan().url(ServiceName::Licensing);
    let (client, connection) = deaf(&url).await;
    tokio::spawn(connection);
    for (method, kind, status) in [
        (
            "GET",
            Some("application/grpc"),
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            "POST",
            Some("application/json"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            "POST",
            Some("application/grpc-web"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        ("POST", None, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("POST", Some("application/grpc+proto"), StatusCode::OK),
    ] {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{url}/{OFFERS}"));
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let mut client = client.clone().ready().await.unwrap();
        let (answer, _) = client
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        assert_eq!(answer.await.unwrap().status(), status, "{method} {kind:?}");
    }
    octroi.finish().await;
}

/// Who asks for health is answered beside as many as never end their question.
#[tokio::test]
async fn half_a_question_holds_up_no_probe() {
    const HALF: usize = 64;
    let octroi = Installation::with(Options {
        watched: true,
        ..Options::default()
    })
    .await;
    let watched = octroi.watched(ServiceName::Licensing);
    let mut asking = Vec::new();
    for _ in 0..HALF {
        let mut socket = TcpStream::connect(watched.0).await.unwrap();
        socket.write_all(b"GET /readyz HTTP/1.1\r\n").await.unwrap();
        asking.push(socket);
    }
    let probe = timeout(Duration::from_secs(8), watched.get("/readyz")).await;
    assert_eq!(probe.expect("it is answered").0, 200);
    // Nor are they waited for.
    for mut socket in asking {
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    octroi.finish().await;
}
