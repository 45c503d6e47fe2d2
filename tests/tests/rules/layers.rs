//! What each layer may know of the others and of the world.

use crate::repository::{Source, none, read, sources};

const SERVICES: [&str; 3] = ["licensing", "billing", "notification"];

/// The files of one layer in all three services.
fn layer(name: &str) -> Vec<Source> {
    let files: Vec<Source> = SERVICES
        .iter()
        .flat_map(|service| sources(&format!("crates/{service}/src/{name}"), ".rs"))
        .collect();
    assert!(files.len() > SERVICES.len(), "no layer {name}");
    files
}

fn without(files: &[Source], forbidden: &[&str]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files {
        for (number, line) in file.code() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                breaches.push(format!("{}:{number}: {word}", file.path));
            }
        }
    }
    breaches
}

#[test]
fn the_domain_knows_no_io_no_clock_no_wire() {
    let forbidden = [
        "async ",
        ".await",
        "tokio",
        "tonic",
        "deadpool",
        "octroi_api",
        "prost",
        "refinery",
        "lettre",
        "tracing",
        "std::fs",
        "std::io",
        "std::env",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant",
        "::now()",
        "now_v7",
        "new_v4",
        "rand::",
        "crate::app",
        "crate::grpc",
        "crate::store",
    ];
    let mut files = layer("domain");
    files.extend(sources("crates/calendar/src", ".rs"));
    none(
        "domain/ and the calendar are pure",
        without(&files, &forbidden),
    );
}

#[test]
fn the_domain_takes_of_the_platform_only_what_is_pure() {
    let mut breaches = Vec::new();
    for file in layer("domain") {
        for (number, line) in file.code() {
            for taken in line.split("octroi_platform::").skip(1) {
                if !["name", "error", "refusal", "text"]
                    .iter()
                    .any(|pure| taken.starts_with(pure))
                {
                    breaches.push(format!("{}:{number}: {}", file.path, line.trim()));
                }
            }
        }
    }
    none("domain/ uses name, error, refusal and text alone", breaches);
}

#[test]
fn the_store_knows_neither_the_wire_nor_the_clock() {
    let forbidden = [
        "tonic",
        "octroi_api",
        "crate::app",
        "crate::grpc",
        "::now()",
        "now_v7",
        "new_v4",
    ];
    none(
        "store/ is SQL and rows",
        without(&layer("store"), &forbidden),
    );
}

#[test]
fn use_cases_know_no_methods() {
    none(
        "app/ is called by grpc/",
        without(&layer("app"), &["tonic", "crate::grpc"]),
    );
}

#[test]
fn methods_know_no_sql() {
    let forbidden = ["tokio_postgres", "SELECT ", "INSERT ", "UPDATE ", "DELETE "];
    none(
        "grpc/ converts and calls",
        without(&layer("grpc"), &forbidden),
    );
}

/// `open`, `command` and `Page::open` read a request whole: every bad field is named, and a name that the caller may not
/// see is never handed out.
#[test]
fn requests_are_read_in_one_way() {
    let forbidden = [
        "Call::open",
        "Violations::default",
        "may_see",
        "take_paging",
        // Names come from `Fields`.
        "::parse(&it.",
        "AccountId::new(it",
        "Id::of(",
    ];
    none(
        "grpc/ reads requests through the platform",
        without(&layer("grpc"), &forbidden),
    );
    let forbidden = ["may_see", "caller.account"];
    let mut breaches = without(&layer("app"), &forbidden);
    // Accounts themselves are listed by whoever may see all or one; a session names its own.
    breaches.retain(|breach| {
        !["account.rs", "session.rs"]
            .iter()
            .any(|file| breach.contains(file))
    });
    none("app/ is handed names that the caller may see", breaches);
}

/// What runs the process is for `lib.rs`, `main.rs` and `settings.rs`.
#[test]
fn layers_know_nothing_of_the_process() {
    let layers = ["grpc", "app", "domain", "store"];
    let files: Vec<Source> = layers.into_iter().flat_map(layer).collect();
    none(
        "a service's layers are written with the platform",
        without(&files, &["octroi_server"]),
    );
}

/// One word for one idea: who knows one service knows all.
#[test]
fn the_services_speak_one_dialect() {
    let forbidden = [
        " as pb;",
        "Error as Platform",
        "Error as Shared",
        "fn told",
        "fn wire(",
        "reply: fn",
        "fn of_parent",
        "fn to_wire(",
        "self as store",
        "const GET: &str",
    ];
    let mut files = Vec::new();
    for service in SERVICES {
        files.extend(sources(&format!("crates/{service}/src"), ".rs"));
    }
    let mut breaches = without(&files, &forbidden);
    for file in &files {
        for (number, line) in file.code() {
            if line.contains("fn audited(") && !line.contains("fn audited(&self)") {
                breaches.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("the services speak one dialect", breaches);
}

/// What serves a service and what does its work are structs of named fields, which the start fills in.
#[test]
fn structs_are_made_in_one_way() {
    let mut breaches = Vec::new();
    for file in layer("grpc") {
        for (number, line) in file.code() {
            let name = line
                .split("struct ")
                .nth(1)
                .and_then(|it| it.split([' ', '(']).next());
            let is_api = name.is_some_and(|name| name.ends_with("Api"));
            if is_api && !(line.starts_with("pub(crate) struct ") && line.ends_with('{')) {
                breaches.push(format!("{}:{number}: {line}", file.path));
            }
        }
    }
    let mut layers = layer("grpc");
    layers.extend(layer("app"));
    breaches.extend(without(&layers, &["fn new(db: Db"]));
    none("structs have named fields, and no constructor", breaches);
}

/// A statement is a constant, or beside the one function that runs it; a page is handed on whole.
#[test]
fn statements_are_constants() {
    let mut breaches = without(&layer("store"), &["after, limit)", "(after, most)"]);
    for file in layer("store") {
        if file
            .text
            .split("format!(")
            .skip(1)
            .any(|made| made.trim_start().starts_with("\"--"))
        {
            breaches.push(format!("{}: a statement is put together", file.path));
        }
    }
    breaches.extend(without(&layer("app"), &["limit: i64"]));
    none("statements are constants", breaches);
}

/// [`octroi_platform::Refusal`] alone makes them: whatever it says has a reason and can be read by every client.
#[test]
fn methods_make_no_status_by_themselves() {
    let forbidden = [
        "Status::new",
        "Status::with_",
        "Status::invalid_argument",
        "Status::not_found",
        "Status::failed_precondition",
        "Status::permission_denied",
        "Status::internal",
        "Status::unavailable",
    ];
    none(
        "refusals are made by the platform",
        without(&layer("grpc"), &forbidden),
    );
}

#[test]
fn every_statement_names_its_function() {
    let keywords = [
        "SELECT ",
        "INSERT INTO ",
        "UPDATE ",
        "DELETE FROM ",
        "WITH ",
    ];
    let mut breaches = Vec::new();
    // `verify` runs the checks, each named in its report.
    let checks = |file: &Source| file.path.contains("/store/check");
    for file in layer("store").iter().filter(|file| !checks(file)) {
        let pieces: Vec<&str> = file.text.split('"').collect();
        for pair in pieces.windows(2) {
            // A macro for what several statements select is given the name.
            let [before, literal] = pair else { continue };
            if before.trim_end().ends_with("$name,") {
                continue;
            }
            let literal = literal.trim_start_matches([' ', '\n', '\\']);
            if keywords.iter().any(|keyword| literal.starts_with(keyword)) {
                let line = literal.lines().next().unwrap_or_default();
                breaches.push(format!("{}: {line}", file.path));
            }
        }
    }
    none(
        "a statement's first line is -- and its function's name",
        breaches,
    );
}

/// `verify` runs those that are listed; a breach is planted for each of them.
#[test]
fn every_check_is_listed() {
    let listed = [
        ("licensing/src/store", octroi_licensing::check::CHECKS.len()),
        ("billing/src/store", octroi_billing::check::CHECKS.len()),
        (
            "notification/src/store",
            octroi_notification::check::CHECKS.len(),
        ),
        ("platform/src", octroi_platform::check::CHECKS.len()),
    ];
    for (below, listed) in listed {
        let files = sources(&format!("crates/{below}"), ".rs");
        let declared: usize = files
            .iter()
            .map(|file| file.text.matches(": Check = ").count())
            .sum();
        assert_eq!(declared, listed, "checks of crates/{below}");
    }
}

#[test]
fn no_service_depends_on_another() {
    let mut breaches = Vec::new();
    let manifest = |name: &str| read(&format!("crates/{name}/Cargo.toml"));
    for service in SERVICES {
        for other in SERVICES.iter().filter(|other| **other != service) {
            if manifest(service).contains(&format!("octroi-{other}")) {
                breaches.push(format!("{service} depends on {other}"));
            }
        }
    }
    for (below, above) in [
        ("api", &["platform", "server", "calendar"][..]),
        ("platform", &["server", "calendar"]),
        ("server", &["calendar"]),
    ] {
        for other in SERVICES.iter().chain(above) {
            if manifest(below).contains(&format!("octroi-{other}")) {
                breaches.push(format!("{below} depends on {other}"));
            }
        }
    }
    if manifest("calendar").contains("\noctroi-") {
        breaches.push("calendar depends on another crate of ours".to_owned());
    }
    none("services meet in proto/ alone", breaches);
}

#[test]
fn money_and_usage_know_no_floating_point() {
    let mut breaches = Vec::new();
    for service in ["billing", "licensing"] {
        for file in sources(&format!("crates/{service}/src"), ".rs") {
            for (number, line) in file.code() {
                let floats = ["f32", "f64", "double precision", "::real", "::float"];
                let words = line
                    .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':' || c == ' '));
                if words
                    .flat_map(|part| part.split(' '))
                    .any(|word| floats.contains(&word))
                    || line.contains("double precision")
                {
                    breaches.push(format!("{}:{number}: {}", file.path, line.trim()));
                }
            }
        }
    }
    none("no floats in billing or licensing", breaches);
}

#[test]
fn what_the_services_share_knows_no_business_noun() {
    // `account` is the tenant of every row; names of other services are where they answer.
    let nouns = [
        "invoice", "invoices", "license", "licenses", "licence", "licences", "seat", "seats",
        "offer", "offers", "price", "prices", "payment", "payments", "quote", "quotes", "device",
        "devices",
    ];
    let mut breaches = Vec::new();
    let mut files = sources("crates/platform/src", ".rs");
    files.extend(sources("crates/server/src", ".rs"));
    for file in files {
        for (number, line) in file.code_without_tests() {
            let words = words(line);
            for noun in nouns
                .iter()
                .filter(|noun| words.iter().any(|word| word == **noun))
            {
                breaches.push(format!("{}:{number}: {noun}", file.path));
            }
        }
    }
    none(
        "crates/platform and crates/server hold no noun of the business",
        breaches,
    );
}

/// The words of a line of code, identifiers taken apart.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut capital = false;
    for letter in line.chars() {
        if !letter.is_alphabetic() || letter.is_uppercase() && !capital {
            words.push(String::new());
        }
        capital = letter.is_uppercase();
        if letter.is_alphabetic() {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
    }
    words
}

/// The platform's folders, each with those that it may know beside itself.
const FOLDERS: [(&str, &[&str]); 4] = [
    ("value", &[]),
    ("trust", &["value"]),
    ("db", &["value"]),
    ("event", &["value", "trust", "db"]),
];

/// Each file of a crate, but for its `lib.rs`, with its folder and the modules of the crate that it names, tests aside.
fn modules(of: &str) -> Vec<(String, String, Vec<String>)> {
    let below = format!("crates/{of}/src/");
    let mut files = Vec::new();
    for file in sources(&below, ".rs") {
        let path = file.path.trim_start_matches(&below);
        if path == "lib.rs" {
            continue;
        }
        let path = path.trim_end_matches(".rs");
        let (folder, name) = path.split_once('/').unwrap_or(("", path));
        let module = if name == "mod" { folder } else { name };
        let named = file.code_without_tests().flat_map(|(_, line)| {
            let named = line.split("crate::").skip(1);
            named.map(|path| {
                path.split(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .next()
            })
        });
        let named = named.flatten().map(str::to_owned).collect();
        files.push((folder.to_owned(), module.to_owned(), named));
    }
    files
}

#[test]
fn the_platforms_folders_lie_upon_each_other() {
    let files = modules("platform");
    let mut breaches = Vec::new();
    for (folder, module, named) in &files {
        let (_, below) = FOLDERS.iter().find(|(name, _)| name == folder).unwrap();
        for other in named {
            let there = files.iter().find(|(_, module, _)| module == other);
            let Some((there, ..)) = there else { continue };
            if there != folder && !below.contains(&there.as_str()) {
                breaches.push(format!("{folder}/{module} knows {there}/{other}"));
            }
        }
    }
    none("value < trust, db < event", breaches);
}

/// Files are taken away that know none of those left, until none is or all that are left know each other.
#[test]
fn no_shared_files_know_each_other_in_a_circle() {
    for name in ["platform", "server"] {
        no_circle_in(name);
    }
}

fn no_circle_in(name: &str) {
    let mut files = modules(name);
    assert!(files.len() > 12);
    loop {
        let left: Vec<String> = files.iter().map(|(_, module, _)| module.clone()).collect();
        files.retain(|(_, module, named)| {
            named
                .iter()
                .any(|other| other != module && left.contains(other))
        });
        if files.len() == left.len() {
            break;
        }
    }
    let circle = files
        .into_iter()
        .map(|(folder, module, _)| format!("crates/{name}: {folder}/{module}"));
    none("files know each other in one direction", circle.collect());
}
