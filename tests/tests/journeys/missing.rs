//! What is missing from a request is told alike by every method: by its field, as what must be given.

use octroi_api::{DESCRIPTORS, Method};
use octroi_tests::harness::{Installation, Refused, ServiceName, server};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::methods::with_everything;

/// A field that a request must have, and whether it is a message.
type Required = (String, bool);

/// The fields that are declared to be required, of every method's request.
fn required() -> Vec<(String, Vec<Required>)> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut all = Vec::new();
    for file in set.file {
        for service in &file.service {
            for method in &service.method {
                let (service, package) = (service.name(), file.package());
                let path = format!("/{package}.{service}/{}", method.name());
                let input = method.input_type().rsplit('.').next().unwrap();
                all.push((path, required_of(&file, input)));
            }
        }
    }
    all
}

fn required_of(file: &FileDescriptorProto, message: &str) -> Vec<Required> {
    let comments = &file.source_code_info.as_ref().unwrap().location;
    let messages = (0..).zip(&file.message_type);
    let mut required = Vec::new();
    for (at, message) in messages.filter(|(_, it)| it.name() == message) {
        for (field_at, field) in (0..).zip(&message.field) {
            let comment = comments.iter().find(|it| it.path == [4, at, 2, field_at]);
            let comment = comment.unwrap().leading_comments();
            if comment.trim_start().starts_with("Required.") {
                let is_message =
                    field.r#type() == Type::Message && field.label() != Label::Repeated;
                required.push((field.name().to_owned(), is_message));
            }
        }
    }
    required
}

#[tokio::test]
async fn every_field_that_is_required_is_named() {
    let octroi = Installation::start().await;
    let (acme, known) = with_everything(&octroi, "acme").await;
    let user = acme.by.with_session(&known.session);
    let mut seen = 0;
    for (path, required) in required() {
        let Some(method) = Method::find(&path).filter(|_| !required.is_empty()) else {
            continue;
        };
        let by = match method.scope {
            "service" => octroi.service(ServiceName::Licensing),
            _ => user.clone(),
        };
        // To itself no service delivers.
        let at = match method.area() {
            "event" => ServiceName::Billing,
            _ => server(method),
        };
        let status = by.call(at, &path, Vec::new()).await.unwrap_err();
        Refused::of(&status).is(Code::InvalidArgument, "INVALID_FIELDS");
        let details = status.get_error_details();
        let named = &details.bad_request().unwrap().field_violations;
        for (field, is_message) in required {
            // Only a new attempt's quote and method are judged, and an attempt is looked up first.
            if path.ends_with("/SettleOrder") && field == "quote" {
                continue;
            }
            let mut rules = named.iter().filter(|it| it.field == field);
            let rule = rules.next();
            let rule = rule.unwrap_or_else(|| panic!("{path}: {field} is not named: {named:?}"));
            if is_message && field != "update_mask" {
                assert_eq!(rule.description, "must be given", "{path}: {field}");
            }
            assert!(rule.description.starts_with("must "), "{path}: {rule:?}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
    octroi.finish().await;
}
