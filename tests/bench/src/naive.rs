//! The servers that Octroi is measured beside: one that answers what it was sent, and one that reads the same row with
//! the same statement and checks nothing.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use jiff::Timestamp;
use octroi_api::licensing::v1::{DeviceCounters, GetLicenseRequest, License, LicenseUser};
use octroi_platform::time::to_proto;
use tokio::net::TcpListener;
use tokio_postgres::{Config, NoTls, Row};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

type Answering<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

/// The path of the echo.
pub const ECHO: &str = "/octroi.licensing.v1.LicenseService/Echo";

/// Serves both.
#[derive(Clone)]
pub struct Naive {
    pool: Pool,
    sql: Arc<str>,
}

impl Naive {
    /// Starts it, over a database, with the statement that reads a licence.
    pub async fn start(database: Config, connections: usize, sql: String) -> SocketAddr {
        let manager = Manager::from_config(
            database,
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(connections)
            .build()
            .unwrap();
        let sql = sql.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(Self { pool, sql })
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(served);
        address
    }
}

impl NamedService for Naive {
    const NAME: &'static str = "octroi.licensing.v1.LicenseService";
}

impl Service<http::Request<Body>> for Naive {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let naive = self.clone();
        Box::pin(async move {
            Ok(if request.uri().path() == ECHO {
                Grpc::new(ProstCodec::default()).unary(Echo, request).await
            } else {
                Grpc::new(ProstCodec::default()).unary(naive, request).await
            })
        })
    }
}

struct Echo;

impl UnaryService<GetLicenseRequest> for Echo {
    type Response = GetLicenseRequest;
    type Future = Answering<Response<GetLicenseRequest>>;

    fn call(&mut self, request: Request<GetLicenseRequest>) -> Self::Future {
        Box::pin(async { Ok(Response::new(request.into_inner())) })
    }
}

impl UnaryService<GetLicenseRequest> for Naive {
    type Response = License;
    type Future = Answering<Response<License>>;

    fn call(&mut self, request: Request<GetLicenseRequest>) -> Self::Future {
        let naive = self.clone();
        Box::pin(async move {
            let name = request.into_inner().name;
            let ids: Vec<&str> = name.split('/').skip(1).step_by(2).collect();
            let number: i32 = ids[2].parse().unwrap();
            let client = naive.pool.get().await.unwrap();
            let statement = client.prepare_cached(&naive.sql).await.unwrap();
            let row = client
                .query_opt(&statement, &[&ids[0], &ids[1], &number])
                .await
                .unwrap();
            let row = row.ok_or_else(|| Status::not_found("no such licence"))?;
            Ok(Response::new(license(name, &row)))
        })
    }
}

fn license(name: String, row: &Row) -> License {
    let time = |column: &str| row.get::<_, Option<Timestamp>>(column).map(to_proto);
    let state = match row.get("state") {
        "UNASSIGNED" => 1,
        "ACTIVE" => 2,
        _ => 3,
    };
    let user = row
        .get::<_, Option<String>>("first_name")
        .map(|first_name| LicenseUser {
            first_name,
            last_name: row.get("last_name"),
        });
    License {
        name,
        offer: format!("offers/{}", row.get::<_, &str>("offer")),
        state,
        user,
        activation_email: row
            .get::<_, Option<String>>("activation_email")
            .unwrap_or_default(),
        password_change_required: row
            .get::<_, Option<bool>>("password_change_required")
            .unwrap_or_default(),
        delete_at_renewal: row.get("delete_at_renewal"),
        devices: Some(DeviceCounters {
            computers: row.get("computers"),
            tablets: row.get("tablets"),
            smartphones: row.get("smartphones"),
            computer_limit: row.get("computer_limit"),
            tablet_limit: row.get("tablet_limit"),
            smartphone_limit: row.get("smartphone_limit"),
        }),
        activate_time: time("activated_at"),
        create_time: time("created_at"),
        update_time: time("updated_at"),
        delete_time: time("deleted_at"),
        etag: row.get::<_, i64>("version").to_string(),
    }
}
