//! Callers who keep calls open keep nobody else out.

use h2::client::{ResponseFuture, SendRequest};
use octroi_api::licensing::v1::ListOffersRequest;
use octroi_tests::harness::{Answer as _, Installation, ServiceName};
use tokio::net::TcpStream;
use tonic::codegen::http::Request;
use tonic::{Code, Status};

const CONNECTIONS: usize = 3;
/// Together more than a service works on at once.
const CALLS_EACH: usize = 200;

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
            let (answer, body) = begun(&mut client, &url, &token).await;
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

async fn connected(url: &str) -> SendRequest<&'static [u8]> {
    let address = url.trim_start_matches("http://");
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::Builder::new().handshake(socket).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A call with a deadline whose body does not end.
async fn begun(
    client: &mut SendRequest<&'static [u8]>,
    url: &str,
    token: &str,
) -> (ResponseFuture, h2::SendStream<&'static [u8]>) {
    let request = Request::post(format!("{url}/octroi.licensing.v1.OfferService/ListOffers"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "200m")
        .body(())
        .unwrap();
    let mut ready = client.clone().ready().await.unwrap();
    ready.send_request(request, false).unwrap()
}
