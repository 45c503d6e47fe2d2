//! What no log line may show is marked `debug_redact` in the contracts, and what is printed of their messages leaves it
//! out.

use std::collections::BTreeSet;
use std::fmt::Debug;

use octroi_api::billing::v1::{CreatePaymentMethodRequest, NewPaymentMethod, SettleOrderRequest};
use octroi_api::event::v1::{DeliverEventsRequest, Delivery};
use octroi_api::licensing::v1::{
    ActivateLicenseRequest, ChangeOwnPasswordRequest, ChangePasswordRequest, PayOrderRequest,
    SignInRequest, SignInResponse,
};
use octroi_api::notification::v1::{Email, ListEmailsResponse};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _,
    Value,
};

use crate::repository::none;

/// What the name of a secret contains.
const WORDS: [&str; 7] = [
    "password",
    "secret",
    "token",
    "session",
    "credential",
    "sealed",
    "private",
];
/// Fields that are called like a secret and are none, and why.
const NO_SECRET: [(&str, &str); 4] = [
    ("page_token", "where a list goes on, for who may read it"),
    ("next_page_token", "the same"),
    ("next_lines_page_token", "the same, of an invoice's lines"),
    ("resume_token", "the same, of the event log"),
];
/// What stands for a secret's value.
const VALUE: &str = "s3same";

/// What is printed of a message, plainly and in lines.
fn shown<M: Message + Default + Debug>(bytes: &[u8]) -> String {
    let message = M::decode(bytes).unwrap();
    format!("{message:?} {message:#?}")
}

type Shown = fn(&[u8]) -> String;

/// Each message that carries a secret or holds one that does.
const MESSAGES: &[(&str, Shown)] = &[
    (
        "billing.v1.CreatePaymentMethodRequest",
        shown::<CreatePaymentMethodRequest>,
    ),
    ("billing.v1.NewPaymentMethod", shown::<NewPaymentMethod>),
    ("billing.v1.SettleOrderRequest", shown::<SettleOrderRequest>),
    (
        "event.v1.DeliverEventsRequest",
        shown::<DeliverEventsRequest>,
    ),
    ("event.v1.Delivery", shown::<Delivery>),
    (
        "licensing.v1.ActivateLicenseRequest",
        shown::<ActivateLicenseRequest>,
    ),
    (
        "licensing.v1.ChangeOwnPasswordRequest",
        shown::<ChangeOwnPasswordRequest>,
    ),
    (
        "licensing.v1.ChangePasswordRequest",
        shown::<ChangePasswordRequest>,
    ),
    ("licensing.v1.PayOrderRequest", shown::<PayOrderRequest>),
    ("licensing.v1.SignInRequest", shown::<SignInRequest>),
    ("licensing.v1.SignInResponse", shown::<SignInResponse>),
    ("notification.v1.Email", shown::<Email>),
    (
        "notification.v1.ListEmailsResponse",
        shown::<ListEmailsResponse>,
    ),
];

fn messages() -> Vec<MessageDescriptor> {
    let pool = DescriptorPool::decode(octroi_api::DESCRIPTORS).unwrap();
    let all = pool.all_messages();
    all.filter(|message| message.package_name().starts_with("octroi."))
        .collect()
}

fn is_marked(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let marked = options.get_field_by_name("debug_redact").unwrap();
    *marked == Value::Bool(true)
}

/// The message with a value for each secret in it and in what it holds; nothing if there is none.
fn filled(descriptor: &MessageDescriptor) -> Option<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let value = match field.kind() {
            Kind::String if is_marked(&field) => Some(Value::String(VALUE.to_owned())),
            Kind::Bytes if is_marked(&field) => Some(Value::Bytes(VALUE.into())),
            Kind::Message(inner) => filled(&inner).map(Value::Message),
            _ => None,
        };
        if let Some(value) = value {
            let value = if field.is_list() {
                Value::List(vec![value])
            } else {
                value
            };
            message.set_field(&field, value);
        }
    }
    (message.encoded_len() > 0).then_some(message)
}

#[test]
fn fields_called_like_a_secret_are_marked() {
    let mut bare = Vec::new();
    let mut excused = BTreeSet::new();
    for field in messages().iter().flat_map(MessageDescriptor::fields) {
        let name = field.name();
        let told = matches!(field.kind(), Kind::String | Kind::Bytes);
        if is_marked(&field) || !told || !WORDS.iter().any(|word| name.contains(word)) {
            continue;
        }
        if NO_SECRET.iter().any(|(excused, _)| *excused == name) {
            excused.insert(name.to_owned());
        } else {
            bare.push(field.full_name().to_owned());
        }
    }
    none("secrets are marked debug_redact", bare);
    assert_eq!(excused.len(), NO_SECRET.len(), "excuses without a field");
}

#[test]
fn secrets_are_not_printed() {
    let filled: Vec<_> = messages().iter().filter_map(filled).collect();
    let names = filled
        .iter()
        .map(|message| message.descriptor().full_name().to_owned());
    let known = MESSAGES.iter().map(|(name, _)| format!("octroi.{name}"));
    assert_eq!(names.collect::<BTreeSet<_>>(), known.collect());
    let bytes = format!("{:?}", VALUE.as_bytes());
    let mut printed = Vec::new();
    for message in &filled {
        let descriptor = message.descriptor();
        let of = |(name, _): &&(&str, Shown)| descriptor.full_name().ends_with(name);
        let (name, shown) = MESSAGES.iter().find(of).unwrap();
        let shown = shown(&message.encode_to_vec());
        if shown.contains(VALUE) || shown.contains(&bytes) || !shown.contains("[REDACTED]") {
            printed.push(format!("{name}: {shown}"));
        }
    }
    none("no secret is printed", printed);
}
