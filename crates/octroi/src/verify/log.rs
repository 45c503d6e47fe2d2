//! Checks of the three event logs, and of the deliveries between the services.

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
    let delivered = ROUTES.iter().map(|(source, subscriber)| Rule {
        name: inbox_name(source, subscriber),
        sql: INBOX
            .replace("{source}", source)
            .replace("{subscriber}", subscriber),
    });
    own.chain(delivered).collect()
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

// A delivery that was applied and not yet acknowledged counts on both sides, so the inbox's sequence is between the
// last event whose delivery is done and the last event. An earlier release's inbox may be past that, since it took
// every event.
const INBOX: &str = "
    WITH event AS (
        SELECT account, aggregate, sequence, '{subscriber}' = ANY (subscribers) AS sent,
               max(sequence) FILTER (WHERE '{subscriber}' = ANY (subscribers)) OVER (
                   PARTITION BY account, aggregate ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
               ) AS previous
        FROM {source}.event
    ), sent AS (
        SELECT e.account, e.aggregate, max(e.sequence) AS last,
               coalesce(max(e.sequence) FILTER (WHERE e.sent AND d.account IS NULL), 0) AS delivered,
               min(d.sequence) AS undelivered,
               bool_or(d.account IS NOT NULL AND (NOT e.sent OR d.previous_sequence <> coalesce(e.previous, 0)))
               AS misrouted
        FROM event e
        LEFT JOIN {source}.delivery d
            ON d.account = e.account AND d.subscriber = '{subscriber}' AND d.aggregate = e.aggregate
           AND d.sequence = e.sequence
        GROUP BY e.account, e.aggregate
    ), applied AS (
        SELECT account, aggregate, sequence FROM {subscriber}.inbox WHERE source = '{source}'
    )
    SELECT aggregate AS what,
           sent.account IS NULL OR sent.misrouted
           OR coalesce(applied.sequence, 0) NOT BETWEEN sent.delivered AND sent.last
           OR coalesce(sent.undelivered < sent.delivered, false) AS broken
    FROM sent FULL JOIN applied USING (account, aggregate)";
