//! The event log, its deliveries, and the records of requests: the same in every service's schema.

use super::Check;

pub(super) const SCHEMAS: [&str; 3] = ["licensing", "billing", "notification"];

/// Which service's events go to which.
pub(super) const ROUTES: [(&str, &str); 4] = [
    ("licensing", "billing"),
    ("licensing", "notification"),
    ("billing", "licensing"),
    ("billing", "notification"),
];

/// The checks of each schema, and of each way that events take.
pub(super) fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for schema in SCHEMAS {
        let mut add = |name: &str, sql: &str| {
            checks.push(Check {
                name: format!("{schema}: {name}"),
                sql: sql.replace("{schema}", schema),
            });
        };
        add("events of an aggregate are numbered without gaps", EVENTS);
        add(
            "events are listed one by one, each aggregate's in sequence",
            POSITIONS,
        );
        add("no delivery is parked or more than an hour old", DELIVERIES);
        add("each request that was kept has its answer", IDEMPOTENCY);
        add("sealed passwords wait for notification alone", SEALED);
    }
    for (source, subscriber) in ROUTES {
        checks.push(Check {
            name: inbox_name(source, subscriber),
            sql: INBOX
                .replace("{source}", source)
                .replace("{subscriber}", subscriber),
        });
    }
    checks
}

/// What the check of a way that events take is called.
pub(super) fn inbox_name(source: &str, subscriber: &str) -> String {
    format!("{source} to {subscriber}: each event was applied once or is on its way")
}

const EVENTS: &str = "
    SELECT aggregate AS what, min(sequence) <> 1 OR max(sequence) <> count(*) AS broken
    FROM {schema}.event GROUP BY account, aggregate";

const POSITIONS: &str = "
    WITH event AS (
        SELECT account, position, lag(sequence) OVER aggregate AS earlier, lag(position) OVER aggregate AS before
        FROM {schema}.event WINDOW aggregate AS (PARTITION BY account, aggregate ORDER BY sequence)
    ), listed AS (
        SELECT account, count(position) AS places, coalesce(max(position), 0) AS last,
               coalesce(bool_or(earlier IS NOT NULL AND (before < position) IS NOT TRUE)
                        FILTER (WHERE position IS NOT NULL), false) AS out_of_sequence
        FROM event GROUP BY account
    )
    SELECT account AS what,
           listed.account IS NULL OR places <> listed.last OR out_of_sequence
           OR listed.last <> coalesce(given.last, 0) OR coalesce(given.giving, false) AS broken
    FROM listed FULL JOIN {schema}.event_position given USING (account)";

// How long a delivery takes is machine time, which no test clock moves.
const DELIVERIES: &str = "
    SELECT concat_ws(' ', d.subscriber, d.aggregate, d.sequence, d.last_error) AS what,
           d.parked OR d.created_at < clock_timestamp() - interval '1 hour' AS broken
    FROM {schema}.delivery d";

const IDEMPOTENCY: &str = "
    SELECT concat_ws(' ', account, method, request_id) AS what, answer IS NULL AS broken FROM {schema}.idempotency";

const SEALED: &str = "
    SELECT concat_ws(' ', subscriber, aggregate, sequence) AS what, subscriber <> 'notification' AS broken
    FROM {schema}.delivery WHERE secret IS NOT NULL";

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
