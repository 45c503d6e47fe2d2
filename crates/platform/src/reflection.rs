//! Reflection, from which grpcurl learns the contracts: v1, and v1alpha for older clients.
//!
//! Every service of a process and both versions share one index of the contracts, made when somebody first asks.
//! tonic-reflection's own server makes an index and a copy of every contract for each of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Uri;
use prost::{DecodeError, Message as _};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::server_reflection_server::{
    ServerReflection, ServerReflectionServer,
};
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use tower::Service;

/// Every contract that a service may show: ours, and those of what it serves and answers besides.
const CONTRACTS: [&[u8]; 5] = [
    octroi_api::DESCRIPTORS,
    tonic_types::pb::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

static INDEX: LazyLock<Result<Index, DecodeError>> = LazyLock::new(|| Index::of(&CONTRACTS));

/// Adds reflection to a service's routes; `names` are the gRPC services that it tells of, its own reflection aside.
pub(crate) fn add_reflection(routes: Routes, names: &[&str]) -> Routes {
    let v1 = <ServerReflectionServer<Reflection> as NamedService>::NAME;
    let names = names
        .iter()
        .chain([&v1, &Alpha::NAME])
        .map(|name| (*name).to_owned())
        .collect();
    let server = ServerReflectionServer::new(Reflection { names });
    routes
        .add_service(server.clone())
        .add_service(Alpha(server))
}

/// The contracts by file and by the names that they declare. The bytes are those of the program itself, so that the
/// options that prost does not know are kept.
struct Index {
    files: HashMap<String, Bytes>,
    symbols: HashMap<String, Bytes>,
}

/// A `google.protobuf.FileDescriptorSet` whose files stay encoded.
#[derive(prost::Message)]
struct Files {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

impl Index {
    fn of(sets: &[&'static [u8]]) -> Result<Self, DecodeError> {
        let mut index = Self {
            files: HashMap::new(),
            symbols: HashMap::new(),
        };
        for set in sets {
            for encoded in Files::decode(Bytes::from_static(set))?.file {
                let file = FileDescriptorProto::decode(encoded.as_ref())?;
                index.file(&file, &encoded);
            }
        }
        Ok(index)
    }

    fn file(&mut self, file: &FileDescriptorProto, encoded: &Bytes) {
        if self.files.contains_key(file.name()) {
            return;
        }
        self.files.insert(file.name().to_owned(), encoded.clone());
        let package = file.package();
        for message in &file.message_type {
            self.message(package, message, encoded);
        }
        for values in &file.enum_type {
            self.values(package, values, encoded);
        }
        for service in &file.service {
            let name = self.symbol(package, service.name(), encoded);
            for method in &service.method {
                self.symbol(&name, method.name(), encoded);
            }
        }
    }

    fn message(&mut self, parent: &str, message: &DescriptorProto, encoded: &Bytes) {
        let name = self.symbol(parent, message.name(), encoded);
        for nested in &message.nested_type {
            self.message(&name, nested, encoded);
        }
        for values in &message.enum_type {
            self.values(&name, values, encoded);
        }
        for field in &message.field {
            self.symbol(&name, field.name(), encoded);
        }
        for oneof in &message.oneof_decl {
            self.symbol(&name, oneof.name(), encoded);
        }
    }

    fn values(&mut self, parent: &str, values: &EnumDescriptorProto, encoded: &Bytes) {
        let name = self.symbol(parent, values.name(), encoded);
        for value in &values.value {
            self.symbol(&name, value.name(), encoded);
        }
    }

    /// Notes where a name is declared; answers it in full.
    fn symbol(&mut self, parent: &str, name: &str, encoded: &Bytes) -> String {
        let name = format!("{parent}.{name}");
        self.symbols.insert(name.clone(), encoded.clone());
        name
    }
}

/// What one service tells of itself.
#[derive(Clone)]
struct Reflection {
    names: Arc<[String]>,
}

impl Reflection {
    fn answer(&self, request: &ServerReflectionRequest) -> Result<MessageResponse, Status> {
        let index = INDEX.as_ref().map_err(|error| {
            tracing::error!(%error, "the program's own contracts cannot be read");
            Status::internal("the contracts cannot be read")
        })?;
        match &request.message_request {
            Some(MessageRequest::FileByFilename(name)) => found(&index.files, name),
            Some(MessageRequest::FileContainingSymbol(name)) => found(&index.symbols, name),
            Some(MessageRequest::FileContainingExtension(_)) => {
                Err(Status::not_found("extensions are not shown"))
            }
            // No number rather than a refusal: grpcurl asks this of every message and gives up on a refusal.
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => Ok(
                MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number: Vec::new(),
                }),
            ),
            Some(MessageRequest::ListServices(_)) => {
                let service = |name: &String| ServiceResponse { name: name.clone() };
                Ok(MessageResponse::ListServicesResponse(ListServiceResponse {
                    service: self.names.iter().map(service).collect(),
                }))
            }
            None => Err(Status::invalid_argument("nothing is asked")),
        }
    }
}

fn found(encoded: &HashMap<String, Bytes>, name: &str) -> Result<MessageResponse, Status> {
    let encoded = encoded
        .get(name)
        .ok_or_else(|| Status::not_found(format!("there is no {name:?}")))?;
    Ok(MessageResponse::FileDescriptorResponse(
        FileDescriptorResponse {
            file_descriptor_proto: vec![encoded.to_vec()],
        },
    ))
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
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            let answer = reflection.answer(&request).unwrap_or_else(|status| {
                MessageResponse::ErrorResponse(ErrorResponse {
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
    fn every_kind_of_name_is_found_where_it_is_declared() {
        let index = Index::of(&CONTRACTS).unwrap();
        let file = |name: &str| {
            let encoded = index.symbols.get(name)?;
            let file = FileDescriptorProto::decode(encoded.as_ref()).unwrap();
            Some(file.name().to_owned())
        };
        for (name, declared) in [
            ("octroi.billing.v1.AccountService", "octroi/billing/v1/"),
            (
                "octroi.billing.v1.AccountService.GetAccount",
                "octroi/billing/v1/",
            ),
            ("octroi.billing.v1.Account.legal_name", "octroi/billing/v1/"),
            ("octroi.billing.v1.Invoice.State", "octroi/billing/v1/"),
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
        assert_eq!(file("octroi.billing.v1.Account.nonsense"), None);
    }

    #[test]
    fn every_import_is_there() {
        let index = Index::of(&CONTRACTS).unwrap();
        for (name, encoded) in &index.files {
            for import in FileDescriptorProto::decode(encoded.as_ref())
                .unwrap()
                .dependency
            {
                assert!(index.files.contains_key(&import), "{name} imports {import}");
            }
        }
    }
}
