//! The event logs of the three schemas, and what travels between them.

use octroi_platform::check::{self, Check};

use super::Rule;

pub(super) const SCHEMAS: [&str; 3] = ["licensing", "billing", "notification"];

/// Source and subscriber.
pub(super) const ROUTES: [(&str, &str); 4] = [
    ("licensing", "billing"),
    ("licensing", "notification"),
    ("billing", "licensing"),
    ("billing", "notification"),
];

/// The checks of each schema's event log, and of each route.
pub(super) fn rules() -> Vec<Rule> {
    let own = SCHEMAS
        .iter()
        .flat_map(|schema| check::CHECKS.iter().map(|check| of(schema, check)));
    let travelled = ROUTES.iter().map(|(source, subscriber)| Rule {
        name: inbox_name(source, subscriber),
        sql: INBOX
            .replace("{source}", source)
            .replace("{subscriber}", subscriber),
    });
    own.chain(travelled).collect()
}

/// A check of the platform's own tables, in one schema.
pub(super) fn of(schema: &str, check: &Check) -> Rule {
    Rule {
        name: format!("{schema}: {}", check.name),
        sql: check.sql.replace("{schema}", schema),
    }
}

/// The name of the check of a route.
pub(super) fn inbox_name(source: &str, subscriber: &str) -> String {
    format!("{source} to {subscriber}: each event was applied once or is on its way")
}

// A delivery that was applied and not yet acknowledged counts on both sides, so the inbox lies between the first
// undelivered event and the last one.
const INBOX: &str = "
    WITH sent AS (
        SELECT e.account, e.aggregate, max(e.sequence) AS last,
               min(e.sequence) FILTER (WHERE d.event_id IS NOT NULL) AS first_undelivered,
               count(d.event_id) AS undelivered
        FROM {source}.event e
        LEFT JOIN {source}.delivery d
            ON d.account = e.account AND d.subscriber = '{subscriber}' AND d.aggregate = e.aggregate
           AND d.sequence = e.sequence
        GROUP BY e.account, e.aggregate
    ), applied AS (
        SELECT account, aggregate, sequence FROM {subscriber}.inbox WHERE source = '{source}'
    )
    SELECT aggregate AS what,
           sent.account IS NULL
           OR coalesce(applied.sequence, 0) > sent.last
           OR coalesce(applied.sequence, 0) < coalesce(sent.first_undelivered - 1, sent.last)
           OR sent.undelivered > 0 AND sent.undelivered <> sent.last - sent.first_undelivered + 1 AS broken
    FROM sent FULL JOIN applied USING (account, aggregate)";
