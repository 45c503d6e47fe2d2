//! The rules of stored data that `octroi verify` checks: what a check is, and those of the platform's own tables.

/// A rule and the query that checks it.
pub struct Check {
    /// What holds, in words.
    pub name: &'static str,
    /// A query of two columns for each row looked at: `what` names it, `broken` says whether the rule is broken. The
    /// setting `octroi.now` is business time.
    pub sql: &'static str,
}

/// Those of the event log, its deliveries and the kept requests; `{schema}` stands for the service's schema.
pub const CHECKS: &[Check] = &[EVENTS, POSITIONS, DELIVERIES, PROGRESS, IDEMPOTENCY, SEALED];

/// Of the event log: no event is missing.
pub const EVENTS: Check = Check {
    name: "events of an aggregate are numbered without gaps",
    sql: "
        SELECT aggregate AS what, min(sequence) <> 1 OR max(sequence) <> count(*) AS broken
        FROM {schema}.event GROUP BY account, aggregate",
};

/// Of the order in which events are listed.
pub const POSITIONS: Check = Check {
    name: "events are listed one by one, each aggregate's in sequence",
    sql: "
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
        FROM listed FULL JOIN {schema}.event_position given USING (account)",
};

/// Of the outbox: it drains. How long a delivery takes is machine time, which no test clock moves.
pub const DELIVERIES: Check = Check {
    name: "no delivery is parked, more than an hour old or without its event",
    sql: "
        SELECT concat_ws(' ', d.subscriber, d.aggregate, d.sequence, d.last_error) AS what,
               d.parked OR d.created_at < clock_timestamp() - interval '1 hour' OR e.id IS NULL AS broken
        FROM {schema}.delivery d
        LEFT JOIN {schema}.event e ON e.account = d.account AND e.id = d.event_id
            AND e.aggregate = d.aggregate AND e.sequence = d.sequence",
};

/// Of how far other services have told everything.
pub const PROGRESS: Check = Check {
    name: "no service has told of what is still to come",
    sql: "
        SELECT source AS what, complete_through > current_setting('octroi.now')::timestamptz AS broken
        FROM {schema}.intake_progress",
};

/// Of the kept requests.
pub const IDEMPOTENCY: Check = Check {
    name: "each request that was kept has its answer",
    sql: "
        SELECT concat_ws(' ', account, method, request_id) AS what, answer IS NULL AS broken FROM {schema}.idempotency",
};

/// Of the secrets that deliveries carry.
pub const SEALED: Check = Check {
    name: "sealed passwords wait for notification alone",
    sql: "
        SELECT concat_ws(' ', subscriber, aggregate, sequence) AS what, subscriber <> 'notification' AS broken
        FROM {schema}.delivery WHERE secret IS NOT NULL",
};
