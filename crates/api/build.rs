//! Compiles the contracts without protoc: protox parses them, tonic-prost-build writes the Rust.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_reflect::{
    DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

/// What the names of methods that only read begin with.
const READS: [&str; 4] = ["Get", "List", "Query", "Preview"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    // protox's own encoding: decoding it through prost would drop our options, and tonic's writer drops the comments
    // that reflection shows.
    fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    let pool = compiler.descriptor_pool();
    fs::write(out.join("methods.rs"), methods(&pool)?)?;
    fs::write(out.join("event_types.rs"), event_types(&pool)?)?;
    fs::write(out.join("requests.rs"), requests(&pool)?)?;
    let secret = messages_with_secrets(&pool);
    fs::write(out.join("redacted.rs"), redacted(&secret)?)?;

    tonic_prost_build::configure()
        .btree_map(".")
        .codec_path("crate::codec::MessageCodec")
        .skip_debug(secret.iter().map(|message| message.full_name()))
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// Writes the table of methods and their options, so that serving needs no descriptor at run time and a method without a
/// scope, or without a reach, does not build.
fn methods(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let scope = extension(pool, "octroi.auth.v1.scope")?;
    let reach = extension(pool, "octroi.auth.v1.reach")?;
    let callers = extension(pool, "octroi.auth.v1.callers")?;
    let lasting = extension(pool, "octroi.type.v1.lasting")?;
    let mut rows = Vec::new();
    for method in pool
        .services()
        .flat_map(|it| it.methods().collect::<Vec<_>>())
    {
        let (options, name) = (method.options(), method.full_name());
        let scope = options.get_extension(&scope);
        let scope = scope.as_str().filter(|scope| !scope.is_empty());
        let scope = scope.ok_or_else(|| format!("{name} declares no scope"))?;
        let reach = match options.get_extension(&reach).as_enum_number() {
            Some(1) => "Own",
            Some(2) => "Session",
            Some(3) => "Catalogue",
            Some(4) => "None",
            _ => return Err(format!("{name} declares no reach").into()),
        };
        let callers = options.get_extension(&callers);
        let callers = callers.as_list().unwrap_or_default();
        let callers: Vec<_> = callers.iter().filter_map(Value::as_str).collect();
        if (scope == "service") == callers.is_empty() {
            return Err(
                format!("{name} is for services, or declares callers, but not both").into(),
            );
        }
        let lasting = *options.get_extension(&lasting) == Value::Bool(true);
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let reads = READS.iter().any(|verb| method.name().starts_with(verb));
        rows.push(format!(
            "Method {{ path: {path:?}, scope: {scope:?}, reach: Reach::{reach}, callers: &{callers:?}, \
             lasting: {lasting}, reads: {reads}, client_streaming: {}, server_streaming: {} }},",
            method.is_client_streaming(),
            method.is_server_streaming(),
        ));
    }
    rows.sort();
    Ok(format!(
        "/// Every declared method, ordered by path.\npub static METHODS: &[Method; {}] = &[\n{}\n];\n",
        rows.len(),
        rows.join("\n")
    ))
}

/// Writes where each method's request has resource names: in its own fields and in those of the resource that it
/// contains.
fn requests(pool: &DescriptorPool) -> Result<String, std::fmt::Error> {
    const NAMES: [&str; 3] = ["parent", "name", "license_group"];
    let methods = pool
        .services()
        .flat_map(|it| it.methods().collect::<Vec<_>>());
    let inputs: BTreeMap<_, _> = methods
        .map(|method| method.input())
        .map(|input| (input.full_name().to_owned(), input))
        .collect();
    let mut source = String::new();
    for (name, input) in inputs {
        let mut body = String::new();
        for field in input
            .fields()
            .filter(|field| !field.is_list() && !field.is_map())
        {
            match field.kind() {
                Kind::String if NAMES.contains(&field.name()) => {
                    writeln!(body, "found(&mut self.{});", field.name())?;
                }
                Kind::Message(inner) if field.containing_oneof().is_none() => {
                    let names = inner.fields().filter(|field| {
                        field.kind() == Kind::String && NAMES.contains(&field.name())
                    });
                    for inner in names {
                        let (outer, inner) = (field.name(), inner.name());
                        writeln!(
                            body,
                            "if let Some(it) = &mut self.{outer} {{ found(&mut it.{inner}); }}"
                        )?;
                    }
                }
                _ => {}
            }
        }
        let found = if body.is_empty() { "_found" } else { "found" };
        let path = name.trim_start_matches("octroi.").replace('.', "::");
        writeln!(
            source,
            "impl Request for {path} {{ fn names(&mut self, mut {found}: impl FnMut(&mut String)) {{ {body} }} }}"
        )?;
        if input.get_field_by_name("request_id").is_some() {
            writeln!(
                source,
                "impl Mutation for {path} {{ fn take_request_id(&mut self) -> String {{ take(&mut self.request_id) }} }}"
            )?;
        }
        if input.get_field_by_name("page_token").is_some() {
            let rows = match input.get_field_by_name("view") {
                Some(_) => "&Self { view: 0, ..self.clone() }",
                None => "self",
            };
            writeln!(
                source,
                "impl Listing for {path} {{
                    fn chooses(&self) -> Vec<u8> {{ prost::Message::encode_to_vec({rows}) }}
                    fn take_paging(&mut self) -> Paging {{ Paging {{
                    size: take(&mut self.page_size), token: take(&mut self.page_token),
                    filter: self.filter.clone(), order_by: self.order_by.clone() }} }} }}"
            )?;
        }
    }
    Ok(source.replace("mut _found", "_found"))
}

/// Writes the table of the types of events. A payload does not build without a type that names its subscribers.
fn event_types(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    const SERVICES: [&str; 3] = ["billing", "licensing", "notification"];
    const NAMES: [&str; 4] = ["invoice", "license_group", "order", "payment"];
    let option = extension(pool, "octroi.event.v1.event_type")?;
    let event = pool.get_message_by_name("octroi.event.v1.Event");
    let event = event.ok_or("octroi.event.v1.Event is not declared")?;
    let (mut rows, mut variants, mut names) = (String::new(), String::new(), String::new());
    let fields = event
        .oneofs()
        .flat_map(|it| it.fields().collect::<Vec<_>>());
    for (at, field) in fields.enumerate() {
        let options = field.options();
        let given = options.get_extension(&option);
        let of = |what| given.as_message()?.get_field_by_name(what);
        let text = |what| Some(of(what)?.as_str()?.to_owned());
        let name = text("name").unwrap_or_default();
        let source = text("source").unwrap_or_default();
        let subscribers = of("subscribers");
        let subscribers = subscribers.as_ref().and_then(|it| it.as_list());
        let subscribers = subscribers.unwrap_or_default().iter();
        let subscribers: Vec<_> = subscribers.filter_map(Value::as_str).collect();
        let holds = of("holds_everyone").is_some_and(|it| *it == Value::Bool(true));
        let wrong = |what: &str| Err(format!("{} {what}", field.full_name()).into());
        if !SERVICES.contains(&source.as_str()) || !name.starts_with(&format!("{source}.")) {
            return wrong(
                "declares no event_type whose name begins with the service that is its source",
            );
        }
        let told = match subscribers.as_slice() {
            [] => return wrong("names no subscribers"),
            ["none"] => &[],
            some => some,
        };
        if let Some(other) = told
            .iter()
            .find(|it| **it == source || !SERVICES.contains(*it))
        {
            return wrong(&format!("is for {other:?}, which is no other service"));
        }
        writeln!(
            rows,
            "EventType {{ name: {name:?}, source: {source:?}, subscribers: &{told:?}, holds_everyone: {holds} }},"
        )?;
        let words = field.name().split('_');
        let words = words.map(|word| word[..1].to_uppercase() + &word[1..]);
        let variant = words.collect::<String>();
        writeln!(variants, "Self::{variant}(_) => {at},")?;
        let Kind::Message(payload) = field.kind() else {
            return wrong("is no message");
        };
        let of_it = payload.fields().filter(|it| NAMES.contains(&it.name()));
        let of_it: Vec<_> = of_it.map(|it| format!("&it.{}", it.name())).collect();
        let it = if of_it.is_empty() { "_" } else { "it" };
        writeln!(
            names,
            "Self::{variant}({it}) => vec![{}],",
            of_it.join(", ")
        )?;
    }
    Ok(format!(
        "/// Every declared type of event.
        pub static EVENT_TYPES: &[EventType] = &[{rows}];
        impl event::v1::event::Payload {{
            /// The type of the events that carry it.
            pub fn event_type(&self) -> &'static EventType {{ &EVENT_TYPES[match self {{ {variants} }}] }}

            /// The account's resources that it names.
            pub fn names(&self) -> Vec<&str> {{ match self {{ {names} }} }}
        }}"
    ))
}

/// The messages that have a field marked `debug_redact`.
fn messages_with_secrets(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    pool.all_messages()
        .filter(|message| message.fields().any(|field| is_secret(&field)))
        .collect()
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let redact = field
        .options()
        .get_field_by_name("debug_redact")
        .map(|value| *value == Value::Bool(true));
    redact.unwrap_or_default()
}

/// Writes the Debug implementation of messages with secrets: as derived, but without the values of fields marked
/// `debug_redact`.
fn redacted(messages: &[MessageDescriptor]) -> Result<String, Box<dyn Error>> {
    let mut source = String::new();
    for message in messages {
        let (name, path) = (message.name(), message.full_name());
        let flat =
            message.parent_message().is_none() && message.oneofs().all(|it| it.is_synthetic());
        if !flat {
            return Err(
                format!("{path}: debug_redact is for messages without nesting and oneof").into(),
            );
        }
        let mut body = String::new();
        for field in message.fields() {
            let name = field.name();
            let value = match field.kind() {
                _ if is_secret(&field) => "&format_args!(\"[REDACTED]\")".to_owned(),
                Kind::Enum(_) if !field.is_list() => format!("&self.{name}()"),
                _ => format!("&self.{name}"),
            };
            write!(body, ".field({name:?}, {value})")?;
        }
        let path = path.trim_start_matches("octroi.").replace('.', "::");
        writeln!(
            source,
            "impl std::fmt::Debug for {path} {{ fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{
                f.debug_struct({name:?}){body}.finish()
            }} }}"
        )?;
    }
    Ok(source)
}

fn extension(pool: &DescriptorPool, name: &str) -> Result<ExtensionDescriptor, String> {
    pool.get_extension_by_name(name)
        .ok_or_else(|| format!("{name} is not declared"))
}
