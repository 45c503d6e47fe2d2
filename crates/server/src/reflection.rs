//! Server reflection for clients such as grpcurl: v1, and v1alpha for older ones.

use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::server::{Builder, Error};

use crate::message::{self, PREFIX};

/// Descriptors of all contracts: ours, those of health and reflection, and those of error details.
const CONTRACTS: [&[u8]; 5] = [
    octroi_api::DESCRIPTORS,
    tonic_types::pb::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// Adds reflection to a service's routes; `names` are the gRPC services that it lists beside its own.
pub(crate) fn add_reflection(routes: Routes, names: &[&str]) -> Result<Routes, Error> {
    let own =
        ["v1", "v1alpha"].map(|version| format!("grpc.reflection.{version}.ServerReflection"));
    let builder = || {
        let sets = CONTRACTS.iter().fold(Builder::configure(), |builder, set| {
            builder.register_encoded_file_descriptor_set(set)
        });
        let names = names.iter().copied().chain(own.iter().map(String::as_str));
        names.fold(sets, Builder::with_service_name)
    };
    Ok(routes
        .add_service(builder().build_v1()?.send_compressed(Gzip))
        .add_service(builder().build_v1alpha()?.send_compressed(Gzip)))
}

/// The messages of a reflection request, the same in both versions, up to the first that cannot be decoded.
pub(crate) fn readable(body: Body) -> Body {
    Body::new(StreamBody::new(body.into_data_stream().map(|message| {
        let message = message?;
        ServerReflectionRequest::decode(message.slice(PREFIX..))
            .map_err(|error| message::undecodable(&error))?;
        Ok::<_, tonic::Status>(Frame::data(message))
    })))
}
