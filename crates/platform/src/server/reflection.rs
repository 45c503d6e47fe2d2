//! Reflection, from which grpcurl learns the contracts: v1, and v1alpha for older clients.
//!
//! Every service of a process and both versions share one index of the contracts, made when somebody first asks.
//! tonic-reflection's own server makes an index and a copy of every contract for each of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::iter;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Uri;
use prost::{DecodeError, Message as _};
use prost_types::FileDescriptorProto;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Asked;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;
use tonic_reflection::pb::v1::server_reflection_server::{
    ServerReflection, ServerReflectionServer,
};
use tonic_reflection::pb::v1::{self, ServerReflectionRequest, ServerReflectionResponse};
use tower::Service;

use crate::held::late;
use crate::limits::{STRANGERS_DEADLINE, STRANGERS_MESSAGE};
use crate::message::unreadable;

/// Every contract that a service may show: ours, and those of what it serves and answers besides.
const CONTRACTS: [&[u8]; 5] = [
    octroi_api::DESCRIPTORS,
    tonic_types::pb::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

static INDEX: LazyLock<Result<Index, DecodeError>> = LazyLock::new(|| index(&CONTRACTS));

/// Adds reflection to a service's routes; `names` are the gRPC services that it tells of, its own reflection aside.
pub(crate) fn add_reflection(routes: Routes, names: &[&str]) -> Routes {
    let v1 = <ServerReflectionServer<Reflection> as NamedService>::NAME;
    let names = names
        .iter()
        .chain([&v1, &Alpha::NAME])
        .map(|name| (*name).to_owned())
        .collect();
    // Streams, which the gate does not read.
    let server = ServerReflectionServer::new(Reflection { names })
        .max_decoding_message_size(STRANGERS_MESSAGE)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    routes
        .add_service(server.clone())
        .add_service(Alpha(server))
}

/// The contracts by the file's name and by what they declare at their top. The bytes are those of the program itself, so
/// that the options that prost does not know are kept.
type Index = HashMap<String, Bytes>;

/// A `google.protobuf.FileDescriptorSet` whose files stay encoded.
#[derive(prost::Message)]
struct Files {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

fn index(sets: &[&'static [u8]]) -> Result<Index, DecodeError> {
    let mut index = Index::new();
    for set in sets {
        for encoded in Files::decode(Bytes::from_static(set))?.file {
            let file = FileDescriptorProto::decode(encoded.as_ref())?;
            let messages = file.message_type.iter().map(|message| message.name());
            let enums = file.enum_type.iter().map(|values| values.name());
            let services = file.service.iter().map(|service| service.name());
            for name in messages.chain(enums).chain(services) {
                index.insert(format!("{}.{name}", file.package()), encoded.clone());
            }
            index.insert(file.name().to_owned(), encoded);
        }
    }
    Ok(index)
}

/// The contract that declares a name: that of the name itself, or of what it lies in, as a method lies in its service.
fn declaring<'a>(index: &'a Index, name: &str) -> Option<&'a Bytes> {
    let parents = name.rmatch_indices('.').map(|(at, _)| &name[..at]);
    iter::once(name)
        .chain(parents)
        .find_map(|name| index.get(name))
}

/// What one service tells of itself.
#[derive(Clone)]
struct Reflection {
    names: Arc<[String]>,
}

impl Reflection {
    fn answer(&self, asked: Option<&Asked>) -> Result<Answer, Status> {
        let index = INDEX.as_ref().map_err(|error| {
            tracing::error!(%error, "the program's own contracts cannot be read");
            Status::internal("the contracts cannot be read")
        })?;
        let (name, found) = match asked {
            Some(Asked::FileByFilename(name)) => (name, index.get(name)),
            Some(Asked::FileContainingSymbol(name)) => (name, declaring(index, name)),
            Some(Asked::FileContainingExtension(extension)) => (&extension.containing_type, None),
            // No number rather than a refusal: grpcurl asks this of every message and gives up on a refusal.
            Some(Asked::AllExtensionNumbersOfType(_)) => {
                return Ok(Answer::AllExtensionNumbersResponse(Default::default()));
            }
            Some(Asked::ListServices(_)) => {
                let service = |name: &String| v1::ServiceResponse { name: name.clone() };
                let service = self.names.iter().map(service).collect();
                return Ok(Answer::ListServicesResponse(v1::ListServiceResponse {
                    service,
                }));
            }
            None => return Err(Status::invalid_argument("nothing is asked")),
        };
        let found = found.ok_or_else(|| Status::not_found(format!("there is no {name:?}")))?;
        let file_descriptor_proto = vec![found.to_vec()];
        let file = v1::FileDescriptorResponse {
            file_descriptor_proto,
        };
        Ok(Answer::FileDescriptorResponse(file))
    }
}

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream =
        Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let reflection = self.clone();
        let requests = request.into_inner().timeout(STRANGERS_DEADLINE);
        let answers = requests.map(move |request| {
            let request = request
                .map_err(|_| late("nothing was asked in time"))?
                .map_err(|status| unreadable(&status))?;
            let answer = reflection.answer(request.message_request.as_ref());
            let answer = answer.unwrap_or_else(|status| {
                Answer::ErrorResponse(v1::ErrorResponse {
                    error_code: status.code().into(),
                    error_message: status.message().to_owned(),
                })
            });
            Ok(ServerReflectionResponse {
                valid_host: request.host.clone(),
                original_request: Some(request),
                message_response: Some(answer),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The same under the name of v1alpha, whose messages look the same on the wire.
#[derive(Clone)]
struct Alpha(ServerReflectionServer<Reflection>);

impl NamedService for Alpha {
    const NAME: &'static str = "grpc.reflection.v1alpha.ServerReflection";
}

impl Service<http::Request<Body>> for Alpha {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <ServerReflectionServer<Reflection> as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path().replacen(".v1alpha.", ".v1.", 1);
        if let Ok(uri) = Uri::try_from(path) {
            *request.uri_mut() = uri;
        }
        self.0.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_where_it_is_declared() {
        let index = index(&CONTRACTS).unwrap();
        let file = |name: &str| {
            let encoded = declaring(&index, name)?;
            let file = FileDescriptorProto::decode(encoded.as_ref()).unwrap();
            Some(file.name().to_owned())
        };
        for (name, declared) in [
            (
                "octroi.billing.v1.AccountService.GetAccount",
                "octroi/billing/v1/",
            ),
            ("octroi.billing.v1.Account.legal_name", "octroi/billing/v1/"),
            (
                "octroi.billing.v1.Invoice.State.STATE_PAID",
                "octroi/billing/v1/",
            ),
            ("google.rpc.ErrorInfo", ""),
            ("grpc.health.v1.Health", ""),
            ("grpc.reflection.v1alpha.ServerReflection", ""),
        ] {
            let found = file(name).unwrap_or_else(|| panic!("{name} is not found"));
            assert!(found.starts_with(declared), "{name}: {found}");
        }
        assert_eq!(file("octroi.billing.v1.Nonsense"), None);
        for encoded in index.values() {
            let file = FileDescriptorProto::decode(encoded.as_ref()).unwrap();
            for import in &file.dependency {
                assert!(
                    index.contains_key(import),
                    "{} imports {import}",
                    file.name()
                );
            }
        }
    }
}
