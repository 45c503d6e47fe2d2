//! What a distributed database asks of a read that locks: it names the account of each account's table that it reads, so
//! that it goes to one node. What is due anywhere is read without locks, and taken by its key.

use std::collections::BTreeSet;

use octroi::tables::{self, Kind};

use crate::repository::{none, sources};

const LOCKS: [&str; 3] = ["FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE"];

#[test]
fn a_locking_read_names_its_account() {
    let mut breaches = Vec::new();
    let mut read = 0;
    for schema in ["billing", "licensing", "notification", "platform"] {
        let led = led_by_account(schema);
        for file in sources(&format!("crates/{schema}/src"), ".rs") {
            let code: Vec<&str> = file.code_without_tests().map(|(_, line)| line).collect();
            for statement in statements(&code.join("\n")) {
                if !LOCKS.iter().any(|lock| statement.contains(lock)) {
                    continue;
                }
                read += 1;
                if let Some(what) = breach(&statement, &led) {
                    breaches.push(format!("{}: {what}", file.path));
                }
            }
        }
    }
    assert!(
        read > 20,
        "{read} locking reads were found, which are too few to be all"
    );
    none("a locking read names its account in each table", breaches);
}

/// What of a statement would go to more than one node.
fn breach(statement: &str, led: &BTreeSet<String>) -> Option<String> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    for (at, pair) in words.windows(2).enumerate() {
        let [place, table] = pair else { continue };
        if !["FROM", "JOIN"].contains(place) || !led.contains(*table) {
            continue;
        }
        // An alias, or what follows the table where it has none.
        let alias = words.get(at + 2).copied().unwrap_or_default();
        let value = |name: &str| format!("{name}account = $");
        let named = [
            value(&format!("{alias}.")),
            value(&format!("{table}.")),
            format!(" {}", value("")),
            // Joined to one that is named. Within a LATERAL that is too late.
            format!("{alias}.account = g.account"),
            format!("{alias}.account = l.account"),
        ];
        if !named.iter().any(|text| statement.contains(text)) {
            return Some(format!(
                "{table} of {:?}",
                words.get(..12).unwrap_or(&words)
            ));
        }
        let lateral = statement.split("LATERAL").nth(1);
        if lateral.is_some_and(|inner| !inner.contains("account = $")) {
            return Some(format!(
                "a LATERAL of {:?}",
                words.get(..12).unwrap_or(&words)
            ));
        }
    }
    None
}

/// The statements of a file: its items, each with the text that its macro gives it.
fn statements(code: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in code.lines() {
        let start = line.trim_start();
        let begins = ["pub ", "pub(", "const ", "async fn ", "fn ", "macro_rules!"];
        if items.is_empty() || begins.iter().any(|word| start.starts_with(word)) {
            items.push(String::new());
        }
        let item = items.last_mut().unwrap();
        item.push_str(line);
        item.push('\n');
    }
    let is_macro = |item: &&String| item.starts_with("macro_rules! select");
    let around = items.iter().find(is_macro).cloned().unwrap_or_default();
    items
        .iter()
        .filter(|item| !item.starts_with("macro_rules!"))
        .map(|item| match item.contains("select!(") {
            true => format!("{item}{around}").replace('"', " "),
            false => item.replace('"', " "),
        })
        .collect()
}

/// The tables of a schema that are led by the account.
fn led_by_account(schema: &str) -> BTreeSet<String> {
    let schema = if schema == "platform" {
        "billing"
    } else {
        schema
    };
    tables::all()
        .into_iter()
        .filter(|(_, kind)| *kind == Kind::Account)
        .filter_map(|(table, _)| Some(table.strip_prefix(schema)?.strip_prefix('.')?.to_owned()))
        .collect()
}

#[test]
fn what_goes_to_many_nodes_is_seen() {
    let led = BTreeSet::from(["session".to_owned(), "license_group".to_owned()]);
    let bad = [
        "SELECT * FROM session WHERE expires_at < now() FOR UPDATE SKIP LOCKED",
        "SELECT * FROM license_group g CROSS JOIN LATERAL (SELECT FROM session WHERE session.account = g.account) s
         WHERE g.account = $1 FOR UPDATE OF g",
        "SELECT * FROM license_group g JOIN session s ON s.group_id = g.group_id WHERE g.account = $1 FOR SHARE",
    ];
    for statement in bad {
        assert!(breach(statement, &led).is_some(), "{statement}");
    }
    let good = "SELECT * FROM license_group g JOIN session s ON s.account = g.account WHERE g.account = $1 FOR SHARE";
    assert_eq!(breach(good, &led), None);
}
