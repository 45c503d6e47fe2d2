//! Metrics and health in plain HTTP on a port of their own, for an operator's monitoring. They are served while the
//! service starts and while it drains, too.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::connection::accept;
use crate::metrics::Metrics;

/// How many connections at once, and how long each may take; its request's headers have less time.
const AT_ONCE: usize = 256;
const PATIENCE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(1);
/// How many of them may be scrapes, so that health probes are answered; more are refused.
const SCRAPES: usize = 16;

pub(crate) struct Admin {
    pub(crate) service: &'static str,
    pub(crate) metrics: Metrics,
    /// Whether calls may be sent here: not before the service has started, nor once it is draining.
    pub(crate) ready: AtomicBool,
    scrapes: Semaphore,
}

impl Admin {
    pub(crate) fn new(service: &'static str) -> Self {
        Self {
            service,
            metrics: Metrics::new(service),
            ready: AtomicBool::new(false),
            scrapes: Semaphore::new(SCRAPES),
        }
    }

    /// Answers one request a connection, until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let (socket, _, place) = accept(&listener, &room).await;
            let admin = Arc::clone(&self);
            let serving = async move {
                let _place = place;
                let answers = service_fn(|request| admin.answer(request));
                let mut http = http1::Builder::new();
                let http = http.timer(TokioTimer::new()).header_read_timeout(HEADERS);
                let serving = http.keep_alive(false);
                let serving = serving.serve_connection(TokioIo::new(socket), answers);
                let _ = timeout(PATIENCE, serving).await;
            };
            tokio::spawn(serving.in_current_span());
        }
    }

    async fn scrape(&self) -> anyhow::Result<String> {
        let _place = self.scrapes.try_acquire()?;
        self.metrics.scrape().await
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let (status, text) = match request.uri().path() {
            "/metrics" | "/healthz" | "/readyz" if !reads => {
                (StatusCode::METHOD_NOT_ALLOWED, String::new())
            }
            "/metrics" => match self.scrape().await {
                Ok(text) => (StatusCode::OK, text),
                Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            },
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, String::new()),
        };
        let mut answer = Response::new(Full::new(text.into()));
        *answer.status_mut() = status;
        let text = http::HeaderValue::from_static(prometheus_text::CONTENT_TYPE);
        answer.headers_mut().insert(CONTENT_TYPE, text);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let reads = http::HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(ALLOW, reads);
        }
        Ok(answer)
    }
}
