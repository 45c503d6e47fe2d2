//! How the contracts are written, read from the descriptor set that reflection serves.

use std::collections::{BTreeSet, HashMap};

use octroi_api::{DESCRIPTORS, METHODS, Reach};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto,
};

use crate::repository::none;

/// Methods that change something and take no request id, and why.
const WITHOUT_REQUEST_ID: [(&str, &str); 6] = [
    (
        "SignIn",
        "its answer holds a secret, and no answer with one is kept",
    ),
    ("SignOut", "twice is once"),
    ("SettleOrder", "the order and its attempt name the charge"),
    ("DeliverEvents", "the inbox knows each aggregate's sequence"),
    ("SetClock", "twice is once, and the clock is a test's"),
    ("AdvanceClock", "the clock is a test's"),
];
const SERVICES: [&str; 3] = ["licensing", "billing", "notification"];
/// Lists of a handful that never grows.
const WITHOUT_PAGES: [&str; 1] = ["ListInstallers"];
/// What repeats in answers, but for the rows of lists, which `Page::cut` weighs: and why no answer outgrows what clients
/// take. What an account or an installation adds to without limit has no place here: it is a list.
const REPEATED: [(&str, &str); 18] = [
    (
        "AccountChanged.zones",
        "50 bytes for each time zone that a customer moved to",
    ),
    ("BillRun.failures", "the first 100"),
    ("BillRun.totals", "one a currency"),
    (
        "DeliverEventsResponse.outcomes",
        "one a delivery, which are 500 at most",
    ),
    ("Invoice.lines", "the first 100"),
    ("Invoice.mentions", "those that the law knows"),
    ("Invoice.taxes", "one a category and rate"),
    ("InvoiceLine.days", "a month's"),
    (
        "LicenseGroup.offers",
        "one an offer of the catalogue, 100 bytes each",
    ),
    ("LicenseGroupTerminated.reasons", "each reason once"),
    ("Offer.applications", "those of the catalogue"),
    ("OfferUsage.days", "a month's"),
    ("Order.lines", "20 at most"),
    ("OrderCompleted.lines", "20 at most"),
    ("PostalAddress.lines", "4 at most"),
    (
        "QueryUsageResponse.offers",
        "one an offer of the catalogue, 1 KB each",
    ),
    ("Quote.lines", "20 at most"),
    ("Termination.reasons", "each reason once"),
];
const READS: [&str; 6] = ["Get", "List", "Query", "Preview", "Quote", "Watch"];

fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let files: Vec<_> = set
        .file
        .into_iter()
        .filter(|file| file.package().starts_with("octroi."))
        .collect();
    assert!(!files.is_empty());
    files
}

/// Everything that is declared in a file: its path in the source information, and its name.
fn declared(file: &FileDescriptorProto) -> Vec<(Vec<i32>, String)> {
    let mut all = Vec::new();
    for (at, message) in (0..).zip(&file.message_type) {
        declared_message(vec![4, at], message, file.package(), &mut all);
    }
    for (at, declared) in (0..).zip(&file.enum_type) {
        declared_enum(vec![5, at], declared, file.package(), &mut all);
    }
    for (at, service) in (0..).zip(&file.service) {
        let name = format!("{}.{}", file.package(), service.name());
        for (method_at, method) in (0..).zip(&service.method) {
            all.push((
                vec![6, at, 2, method_at],
                format!("{name}/{}", method.name()),
            ));
        }
        all.push((vec![6, at], name));
    }
    all
}

fn declared_message(
    path: Vec<i32>,
    message: &DescriptorProto,
    within: &str,
    all: &mut Vec<(Vec<i32>, String)>,
) {
    let name = format!("{within}.{}", message.name());
    let below = |kind, at| [path.as_slice(), &[kind, at]].concat();
    for (at, field) in (0..).zip(&message.field) {
        all.push((below(2, at), format!("{name}.{}", field.name())));
    }
    for (at, nested) in (0..).zip(&message.nested_type) {
        declared_message(below(3, at), nested, &name, all);
    }
    for (at, nested) in (0..).zip(&message.enum_type) {
        declared_enum(below(4, at), nested, &name, all);
    }
    all.push((path, name));
}

fn declared_enum(
    path: Vec<i32>,
    declared: &EnumDescriptorProto,
    within: &str,
    all: &mut Vec<(Vec<i32>, String)>,
) {
    let name = format!("{within}.{}", declared.name());
    for (at, value) in (0..).zip(&declared.value) {
        all.push((
            [path.as_slice(), &[2, at]].concat(),
            format!("{name}.{}", value.name()),
        ));
    }
    all.push((path, name));
}

/// Every comment before a declaration, by its path.
fn comments(file: &FileDescriptorProto) -> HashMap<&[i32], &str> {
    let locations = &file
        .source_code_info
        .as_ref()
        .expect("source information")
        .location;
    locations
        .iter()
        .map(|location| (location.path.as_slice(), location.leading_comments().trim()))
        .collect()
}

fn methods() -> Vec<MethodDescriptorProto> {
    files()
        .into_iter()
        .flat_map(|file| file.service)
        .flat_map(|service| service.method)
        .collect()
}

/// A message of the set by its full name, with a dot before it as descriptors write it.
fn messages() -> HashMap<String, DescriptorProto> {
    files()
        .into_iter()
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.message_type
                .into_iter()
                .map(move |message| (format!(".{package}.{}", message.name()), message))
        })
        .collect()
}

fn field_type(message: &DescriptorProto, name: &str) -> Option<Type> {
    let field = message.field.iter().find(|field| field.name() == name)?;
    Some(field.r#type())
}

#[test]
fn everything_has_a_comment() {
    let mut bare = Vec::new();
    for file in files() {
        let comments = comments(&file);
        for (path, name) in declared(&file) {
            if comments
                .get(path.as_slice())
                .is_none_or(|comment| comment.is_empty())
            {
                bare.push(name);
            }
        }
    }
    none("every declaration has a comment", bare);
}

#[test]
fn fields_of_requests_say_whether_they_are_required() {
    let mut silent = Vec::new();
    for file in files() {
        let comments = comments(&file);
        for (path, name) in declared(&file) {
            let is_field = path.len() == 4 && path[0] == 4 && path[2] == 2;
            let in_request = name
                .rsplit_once('.')
                .is_some_and(|(message, _)| message.ends_with("Request"));
            let comment = comments.get(path.as_slice()).copied().unwrap_or_default();
            let internal = file.name().ends_with("event_service.proto");
            if is_field
                && in_request
                && !internal
                && !comment.starts_with("Required.")
                && !comment.starts_with("Optional.")
            {
                silent.push(name);
            }
        }
    }
    none("a request's field begins with Required or Optional", silent);
}

#[test]
fn every_method_has_a_scope_of_its_services_area() {
    let declared: BTreeSet<String> = files()
        .iter()
        .flat_map(|file| {
            file.service.iter().flat_map(|service| {
                service.method.iter().map(|method| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                })
            })
        })
        .collect();
    let scoped: BTreeSet<String> = METHODS
        .iter()
        .map(|method| method.path.to_owned())
        .collect();
    assert_eq!(declared, scoped);
    let mut foreign = Vec::new();
    for method in METHODS {
        // What every service serves is granted for one of them.
        let area = match method.area() {
            "event" => "{service}",
            area => area,
        };
        if method.scope != "service" && !method.scope.starts_with(&format!("{area}.")) {
            foreign.push(format!("{}: {}", method.path, method.scope));
        }
    }
    none("a scope begins with its service's name", foreign);
}

/// What a bound token may do follows from how a method names what it acts on.
#[test]
fn a_reach_fits_its_method() {
    let mut odd = Vec::new();
    for method in METHODS {
        let portal = method.scope == "licensing.portal";
        let installation = method.scope == "service" || method.area() == "testing";
        let reach = method.reach;
        if (reach == Reach::Session) != portal
            || (installation && reach != Reach::None)
            || (reach == Reach::Catalogue && !method.scope.ends_with(".read"))
        {
            odd.push(format!("{}: {reach:?}", method.path));
        }
        if method.callers.iter().any(|it| !SERVICES.contains(it)) {
            odd.push(format!("{}: {:?}", method.path, method.callers));
        }
    }
    none("a reach fits its method, and its callers are services", odd);
}

#[test]
fn reading_needs_no_right_to_write() {
    let mut odd = Vec::new();
    for method in METHODS {
        let name = method.path.rsplit('/').next().unwrap();
        let reads = READS.iter().any(|verb| name.starts_with(verb));
        if (reads && method.scope.ends_with(".write"))
            || (!reads && method.scope.ends_with(".read"))
        {
            odd.push(format!("{}: {}", method.path, method.scope));
        }
    }
    none("a scope fits its method", odd);
}

#[test]
fn what_changes_something_takes_a_request_id() {
    let messages = messages();
    let mut bare = Vec::new();
    for method in methods() {
        let name = method.name();
        let reads = READS.iter().any(|verb| name.starts_with(verb));
        let excused = WITHOUT_REQUEST_ID.iter().any(|(method, _)| *method == name);
        let has = field_type(&messages[method.input_type()], "request_id") == Some(Type::String);
        if has == (reads || excused) {
            bare.push(format!(
                "{name} {}",
                if has { "needs none" } else { "has none" }
            ));
        }
    }
    none("request_id is on every mutating method and no other", bare);
}

#[test]
fn every_list_has_pages() {
    let messages = messages();
    let mut bare = Vec::new();
    for method in methods() {
        if !method.name().starts_with("List") || WITHOUT_PAGES.contains(&method.name()) {
            continue;
        }
        let request = &messages[method.input_type()];
        let answer = &messages[method.output_type()];
        for (message, field, wanted) in [
            (request, "page_size", Type::Int32),
            (request, "page_token", Type::String),
            (request, "filter", Type::String),
            (request, "order_by", Type::String),
            (answer, "next_page_token", Type::String),
        ] {
            if field_type(message, field) != Some(wanted) {
                bare.push(format!("{}.{field}", message.name()));
            }
        }
    }
    none(
        "a list has page_size, page_token, filter, order_by and next_page_token",
        bare,
    );
}

#[test]
fn what_repeats_in_an_answer_is_a_page_or_has_a_bound() {
    let messages = messages();
    let mut repeated = BTreeSet::new();
    for method in methods() {
        let rows = method.name().starts_with("List");
        let mut seen = BTreeSet::new();
        let mut below = vec![method.output_type().to_owned()];
        while let Some(name) = below.pop() {
            let Some(message) = messages.get(&name) else {
                continue;
            };
            let is_list = rows && name == method.output_type();
            for field in &message.field {
                if field.label() == Label::Repeated && !is_list {
                    repeated.insert(format!("{}.{}", message.name(), field.name()));
                }
                if seen.insert(field.type_name().to_owned()) {
                    below.push(field.type_name().to_owned());
                }
            }
        }
    }
    let bounded: BTreeSet<String> = REPEATED
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(repeated, bounded);
}

#[test]
fn no_contract_knows_floating_point() {
    let floats: Vec<String> = messages()
        .iter()
        .flat_map(|(name, message)| {
            message
                .field
                .iter()
                .filter(|field| matches!(field.r#type(), Type::Double | Type::Float))
                .map(move |field| format!("{name}.{}", field.name()))
        })
        .collect();
    none("no floats on the wire", floats);
}

#[test]
fn contracts_import_only_what_the_compiler_brings() {
    let foreign: Vec<String> = files()
        .iter()
        .flat_map(|file| &file.dependency)
        .filter(|import| !import.starts_with("octroi/") && !import.starts_with("google/protobuf/"))
        .cloned()
        .collect();
    none("no third-party contract is imported", foreign);
}
