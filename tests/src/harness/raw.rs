//! Calls by path and bytes, for tests that treat every method alike.

use octroi::system::ServiceName;
use octroi_api::Method;
use prost::bytes::{Buf as _, BufMut as _};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status};

use super::caller::Caller;

/// The service that serves a method; licensing stands for those that every service serves.
#[must_use]
pub fn server(method: &Method) -> ServiceName {
    match method.area() {
        "billing" => ServiceName::Billing,
        "notification" => ServiceName::Notification,
        _ => ServiceName::Licensing,
    }
}

impl Caller {
    /// Calls a method of a service with an encoded message, and returns the encoded answer.
    pub async fn call(
        &self,
        service: ServiceName,
        path: &str,
        message: Vec<u8>,
    ) -> Result<Response<Vec<u8>>, Status> {
        let mut client = Grpc::new(self.line(service));
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = path.parse().unwrap();
        client.unary(Request::new(message), path, Bytes).await
    }
}

/// A codec that leaves messages encoded.
#[derive(Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}
