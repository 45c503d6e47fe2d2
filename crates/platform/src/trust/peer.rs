//! Calls to the other services: with our own token, a deadline, and the trace context of what makes them.

use std::sync::Arc;

use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::auth::ServiceToken;
use crate::call::TRACEPARENT;
use crate::error::Error;

/// A channel to another service.
pub type Peer = InterceptedService<Channel, Credentials>;

/// Adds our token to each call, a deadline of ten seconds where none is set, and the trace context.
#[derive(Clone)]
pub struct Credentials(Arc<ServiceToken>);

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.0.get()?;
        let bearer = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Status::internal("the token is not a header"))?;
        let metadata = request.metadata_mut();
        metadata.insert("authorization", bearer);
        if !metadata.contains_key("grpc-timeout") {
            metadata.insert("grpc-timeout", MetadataValue::from_static("10S"));
        }
        if let Ok(traceparent) = TRACEPARENT.try_with(|it| MetadataValue::try_from(it))
            && let Ok(traceparent) = traceparent
            && !traceparent.is_empty()
        {
            metadata.insert("traceparent", traceparent);
        }
        Ok(request)
    }
}

/// A channel to `url`, connected when it is first used and again whenever it broke.
///
/// # Errors
/// [`Error::Internal`] when the URL is not valid.
pub fn peer(url: &str, token: Arc<ServiceToken>) -> Result<Peer, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| Error::Internal(error.into()))?
        .connect_timeout(std::time::Duration::from_secs(2))
        .timeout(std::time::Duration::from_secs(15))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(std::time::Duration::from_secs(30));
    Ok(InterceptedService::new(
        endpoint.connect_lazy(),
        Credentials(token),
    ))
}
