//! A call's span, metrics and line of the access log, from its arrival to its answer's last byte.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use octroi_api::Method;
use octroi_platform::call::About;
use tonic::{Code, Status};
use tracing::Span;
use uuid::Uuid;

use crate::admin::Admin;

pub(crate) struct Access {
    pub(crate) about: Arc<About>,
    /// Its status. Cancelled until another is known: then the caller left before the answer's end.
    pub(crate) code: Code,
    pub(crate) span: Span,
    admin: Arc<Admin>,
    /// A declared method, or "unknown".
    method: &'static str,
    quiet: bool,
    began: Instant,
}

impl Access {
    pub(crate) fn begin(admin: &Arc<Admin>, id: Uuid, path: &str, traceparent: &str) -> Self {
        let declared = Method::find(path);
        let method = declared.map_or("unknown", |method| method.path.trim_start_matches('/'));
        admin.metrics.began(method);
        Self {
            about: Arc::default(),
            code: Code::Cancelled,
            span: tracing::info_span!("call", service = admin.service, %id, method, traceparent),
            admin: Arc::clone(admin),
            method,
            // Deliveries of events are too many to log at info.
            quiet: declared
                .is_some_and(|method| method.scope == "service" && method.area() == "event"),
            began: Instant::now(),
        }
    }

    /// Takes the status from an answer's headers or trailers, if they have one.
    pub(crate) fn note(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.code = Code::from_bytes(code.as_bytes());
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let _in_call = self.span.enter();
        let took = self.began.elapsed();
        self.admin.metrics.ended(self.method, self.code, took);
        let (method, code) = (self.method, format!("{:?}", self.code));
        let caller = self
            .about
            .caller
            .get()
            .map(String::as_str)
            .unwrap_or_default();
        let account = self
            .about
            .account
            .get()
            .map(String::as_str)
            .unwrap_or_default();
        let request_id = self
            .about
            .request_id
            .get()
            .map(Uuid::to_string)
            .unwrap_or_default();
        let duration = took.as_secs_f64();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "access", method, code, duration, caller, account, request_id)
            };
        }
        if self.quiet {
            line!(debug)
        } else {
            line!(info)
        }
    }
}
