//! What a database that is spread over nodes asks of a statement, each found on a cluster of Citus. A read that locks goes
//! to one node: it names the account of each account's table that it reads. What is due anywhere is read without locks,
//! and taken by its key.

use std::collections::{BTreeMap, BTreeSet};

use octroi::tables::{self, Kind};

use crate::repository::none;
use crate::sql::statements;

const LOCKS: [&str; 3] = ["FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE"];

#[test]
fn statements_can_be_spread() {
    let mut breaches = Vec::new();
    let (mut read, mut locking) = (0, 0);
    for schema in ["billing", "licensing", "notification", "platform"] {
        let spread = spread(schema);
        for statement in statements(schema) {
            let text = &statement.text;
            read += 1;
            locking += usize::from(locks(text));
            if let Some(what) = breach(text, &spread) {
                let name = text.lines().next().unwrap_or_default();
                breaches.push(format!("{}: {name}: {what}", statement.path));
            }
        }
    }
    assert!(
        read > 200 && locking > 20,
        "{read} statements and {locking} that lock were found, which are too few to be all"
    );
    none("statements can be spread over nodes", breaches);
}

/// The tables of a schema that are on nodes, without it.
fn spread(schema: &str) -> BTreeMap<String, Kind> {
    // Of the platform's own each schema has the same.
    let schema = match schema {
        "platform" => "billing",
        schema => schema,
    };
    tables::all()
        .into_iter()
        .filter(|(_, kind)| *kind != Kind::Installation)
        .filter_map(|(table, kind)| {
            let table = table.strip_prefix(schema)?.strip_prefix('.')?.to_owned();
            Some((table, kind))
        })
        .collect()
}

fn locks(statement: &str) -> bool {
    LOCKS.iter().any(|lock| statement.contains(lock))
}

/// A table that a statement reads.
struct Read<'a> {
    table: &'a str,
    alias: &'a str,
    /// The innermost brackets around it, and whether they follow LATERAL.
    scope: &'a str,
    is_lateral: bool,
}

fn breach(statement: &str, spread: &BTreeMap<String, Kind>) -> Option<String> {
    let reads = reads(statement, spread);
    let of_accounts = |read: &&Read<'_>| spread[read.table] == Kind::Account;
    let accounts = || reads.iter().filter(of_accounts);
    let names: BTreeSet<&str> = accounts()
        .flat_map(|read| [read.alias, read.table])
        .collect();
    for read in accounts() {
        if locks(statement) && !is_named(read, &names) {
            return Some(format!("{} is read on every node and locked", read.table));
        }
        if read.is_lateral && !follows(read, &names) {
            return Some(format!(
                "{} is read for rows of no account's table",
                read.table
            ));
        }
        let outer = reads
            .iter()
            .filter(|it| spread[it.table] == Kind::Reference && it.scope != read.scope);
        let refers = |it: &&Read<'_>| read.scope.contains(&format!("= {}.", it.alias));
        if let Some(outer) = outer.into_iter().find(refers) {
            return Some(format!(
                "{} is read for rows of {}",
                read.table, outer.table
            ));
        }
    }
    if let Some(table) = spread.keys().find(|it| updates(statement, it)) {
        let volatile = ["clock_timestamp()", "random()", "gen_random_uuid()"];
        if let Some(volatile) = volatile.iter().find(|it| statement.contains(**it)) {
            return Some(format!("{volatile} is another on each node of {table}"));
        }
        if in_case(statement)
            .any(|part| part.contains("now()") || part.contains("statement_timestamp()"))
        {
            return Some(format!(
                "an update of {table} asks for the time within CASE or coalesce"
            ));
        }
    }
    let is_update = spread.keys().any(|it| updates(statement, it));
    let plain = |rest: &str| rest.starts_with('$') || rest.starts_with("interval '");
    let flat = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if is_update && flat.split("now() + ").skip(1).any(|rest| !plain(rest)) {
        return Some("an update adds to the time what its rows say".to_owned());
    }
    if let Some((_, rest)) = statement.split_once("RETURNING ") {
        let returned = rest.split(" SELECT ").next().unwrap_or_default();
        if returned.contains("now()") {
            return Some("what it wrote is returned with the time".to_owned());
        }
    }
    let guards = statement.split("expect_rows(").skip(1);
    let mut guards = guards.filter_map(|rest| after_bracket(rest));
    guards
        .any(|rest| rest.starts_with(" AS "))
        .then(|| "a column has no type: expect_rows(…)::text".to_owned())
}

/// Whether a table's account is given as a value, or is that of another one that is, in the same brackets.
fn is_named(read: &Read<'_>, names: &BTreeSet<&str>) -> bool {
    let is_given = |name: &&&str| read.scope.contains(&format!(" {name}.account = $"));
    let mut given: BTreeSet<&str> = names.iter().filter(is_given).copied().collect();
    loop {
        let joins = |name: &&&str| {
            let mut given = given.iter();
            given.any(|it| {
                read.scope
                    .contains(&format!(" {name}.account = {it}.account"))
            })
        };
        let more: BTreeSet<&str> = names.iter().filter(joins).copied().collect();
        if more.is_subset(&given) {
            break;
        }
        given.extend(more);
    }
    let plain = [" account = $", "(account = $"];
    [read.alias, read.table]
        .iter()
        .any(|name| given.contains(name))
        || plain.iter().any(|it| read.scope.contains(it))
}

/// Whether a table within LATERAL is that of an account that is given, or of another account's table.
fn follows(read: &Read<'_>, names: &BTreeSet<&str>) -> bool {
    is_named(read, names)
        || names
            .iter()
            .any(|other| read.scope.contains(&format!("account = {other}.account")))
}

fn updates(statement: &str, table: &str) -> bool {
    [" ", "\n"]
        .iter()
        .any(|end| statement.contains(&format!("UPDATE {table}{end}")))
}

/// What stands in each CASE and in each coalesce.
fn in_case(statement: &str) -> impl Iterator<Item = &str> {
    let cases = statement.split("CASE ").skip(1);
    let cases = cases.map(|rest| rest.split(" END").next().unwrap_or_default());
    let coalesced = statement.split("coalesce(").skip(1);
    cases.chain(coalesced.map(|rest| {
        let end = after_bracket(rest).map_or(rest.len(), |after| rest.len() - after.len());
        &rest[..end]
    }))
}

/// What follows the bracket that closes a text.
fn after_bracket(text: &str) -> Option<&str> {
    let mut depth = 1;
    for (at, char) in text.char_indices() {
        depth += match char {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            return text.get(at + 1..);
        }
    }
    None
}

/// The tables that a statement reads, each with its alias.
fn reads<'a>(statement: &'a str, spread: &BTreeMap<String, Kind>) -> Vec<Read<'a>> {
    let mut found = Vec::new();
    let mut words = words(statement).peekable();
    while let Some((_, word)) = words.next() {
        if !["FROM", "JOIN", "USING"].contains(&word) {
            continue;
        }
        let Some((at, table)) = words.next_if(|(_, table)| spread.contains_key(*table)) else {
            continue;
        };
        words.next_if(|(_, word)| *word == "AS");
        let named = words.peek().map(|(_, word)| *word);
        let alias =
            named.filter(|word| word.chars().all(|it| it.is_ascii_lowercase() || it == '_'));
        let begin = opening(&statement[..at]);
        let scope = &statement[begin..];
        found.push(Read {
            table,
            alias: alias.unwrap_or(table),
            scope: match begin {
                0 => scope,
                _ => &scope[..scope.len() - after_bracket(scope).map_or(0, str::len)],
            },
            is_lateral: statement[..begin]
                .trim_end_matches(['(', ' ', '\n'])
                .ends_with("LATERAL"),
        });
    }
    found
}

/// Where the innermost bracket begins that is still open at the end of a text.
fn opening(text: &str) -> usize {
    let mut open = Vec::new();
    for (at, char) in text.char_indices() {
        match char {
            '(' => open.push(at + 1),
            ')' => drop(open.pop()),
            _ => {}
        }
    }
    open.pop().unwrap_or(0)
}

/// The words of a text, each with where it begins.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
    text.split(move |it| !is_part(it))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

#[test]
fn what_cannot_be_spread_is_seen() {
    let spread = BTreeMap::from([
        ("session".to_owned(), Kind::Account),
        ("license_group".to_owned(), Kind::Account),
        ("offer".to_owned(), Kind::Reference),
    ]);
    let bad = [
        "SELECT * FROM session WHERE expires_at < now() FOR UPDATE SKIP LOCKED",
        "SELECT * FROM license_group g CROSS JOIN LATERAL (SELECT FROM session WHERE session.account = g.account) s
         WHERE g.account = $1 FOR UPDATE OF g",
        "SELECT * FROM license_group g JOIN session s ON s.group_id = g.group_id WHERE g.account = $1 FOR SHARE",
        "WITH given AS (SELECT * FROM unnest($1::text[]) AS g (account))
         SELECT * FROM given g, LATERAL (SELECT FROM session s WHERE s.account = g.account LIMIT 1) last",
        "SELECT * FROM offer o WHERE EXISTS (SELECT FROM session s WHERE s.offer = o.offer)",
        "UPDATE session SET lease_until = clock_timestamp() WHERE account = $1",
        "UPDATE session s SET at = CASE WHEN s.over THEN now() ELSE s.at END WHERE s.account = $1",
        "UPDATE session s SET at = coalesce(s.at, now()) WHERE s.account = $1",
        "UPDATE session SET over = true WHERE account = $1 RETURNING at < now() AS late",
        "UPDATE session s SET at = now()
             + s.wait * interval '1 s' WHERE s.account = $1",
        "WITH done AS (UPDATE session SET over = true WHERE account = $1 RETURNING 1)
         SELECT expect_rows((SELECT count(*) FROM done), 1) AS guard",
    ];
    for statement in bad {
        assert!(breach(statement, &spread).is_some(), "{statement}");
    }
    let good = [
        "SELECT * FROM license_group g JOIN session s ON s.account = g.account WHERE g.account = $1 FOR SHARE",
        "SELECT * FROM license_group g, LATERAL (SELECT FROM session s WHERE s.account = g.account LIMIT 1) last",
        "SELECT * FROM license_group g JOIN LATERAL (SELECT FROM session WHERE account = $1) s ON true
         WHERE g.account = $1 FOR UPDATE OF g",
        "UPDATE session s SET at = now() + $2 * interval '1 s', due = to_timestamp(extract(epoch FROM now()) + s.wait)
         WHERE s.account = $1",
        "WITH s AS (UPDATE session SET over = true WHERE account = $1 RETURNING at) SELECT at < now() FROM s",
        "SELECT * FROM offer o WHERE o.offer IN (SELECT DISTINCT offer FROM session)",
    ];
    for statement in good {
        assert_eq!(breach(statement, &spread), None, "{statement}");
    }
}
