//! What a transaction leaves behind beside its writes: facts with their deliveries, and who changed what. Each kind is
//! one statement, however many there are.

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::call::Call;
use crate::db::Params;
use crate::new_event::{NewEvent, key};
use crate::params;

/// How many events one statement appends.
pub(crate) const APPENDED_AT_ONCE: usize = 5_000;
/// So many events, and more, are planned for as they are: a plan kept from when there were few would look at all events
/// for each.
pub(crate) const MANY: usize = 64;

/// A change for the audit.
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) resource: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// Values for [`AUDIT`], which adds a row for each.
pub(crate) fn audited(changes: Vec<Change>, call: &Call) -> Params {
    let mut params = params![
        call.caller.subject.clone(),
        call.method.to_owned(),
        call.remote.clone(),
        call.request_id(),
    ];
    let (mut accounts, mut ids, mut resources) = (Vec::new(), Vec::new(), Vec::new());
    let mut instants = Vec::new();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for change in changes {
        accounts.push(account_of(&change.resource).to_owned());
        ids.push(Uuid::now_v7());
        instants.push(change.at);
        resources.push(change.resource);
        before.push(change.before);
        after.push(change.after);
    }
    params.extend(params![accounts, ids, instants, resources, before, after]);
    params
}

/// The account id that a resource name begins with, or "-" where there is none.
fn account_of(resource: &str) -> &str {
    let mut segments = resource.split('/');
    match (segments.next(), segments.next()) {
        (Some("accounts"), Some(account)) if !account.is_empty() => account,
        _ => "-",
    }
}

/// Values for [`APPEND`], but its last, and for [`APPEND_FIRST`].
pub(crate) fn appended(events: &[NewEvent], call: &Call, recorded: Timestamp) -> Params {
    let column = |get: fn(&NewEvent) -> String| events.iter().map(get).collect::<Vec<_>>();
    let secrets: Vec<_> = events
        .iter()
        .flat_map(|event| {
            event
                .secrets
                .iter()
                .map(move |(to, secret)| (event.id, to, secret))
        })
        .collect();
    params![
        column(|event| key(&event.account, &event.aggregate).to_owned()),
        events.iter().map(|event| event.id).collect::<Vec<_>>(),
        column(|event| event.payload.event_type().name.to_owned()),
        column(|event| event.aggregate.clone()),
        events
            .iter()
            .map(|event| event.effective)
            .collect::<Vec<_>>(),
        recorded,
        events
            .iter()
            .map(|event| event.body(call, recorded))
            .collect::<Vec<_>>(),
        column(|event| event.payload.event_type().subscribers.join(",")),
        events
            .iter()
            .map(|event| !event.account.is_empty() || event.payload.event_type().holds_everyone)
            .collect::<Vec<_>>(),
        secrets.iter().map(|(event, ..)| *event).collect::<Vec<_>>(),
        secrets
            .iter()
            .map(|(_, to, _)| (**to).to_owned())
            .collect::<Vec<_>>(),
        secrets
            .iter()
            .map(|(.., secret)| (*secret).clone())
            .collect::<Vec<_>>(),
    ]
}

/// The account that all events are kept under, if it is one.
pub(crate) fn one_account(events: &[NewEvent]) -> Option<&str> {
    let mut accounts = events
        .iter()
        .map(|event| key(&event.account, &event.aggregate));
    let first = accounts.next()?;
    accounts.all(|other| other == first).then_some(first)
}

pub(crate) const AUDIT: &str = "-- audit
    INSERT INTO audit (account, id, at, actor, method, resource, remote, request_id, before, after)
    SELECT account, id, at, $1, $2, resource, $3, $4, before, after
    FROM unnest($5::text[], $6::uuid[], $7::timestamptz[], $8::text[], $9::jsonb[], $10::jsonb[])
        AS change (account, id, at, resource, before, after)";

/// Events of one account, `$13`. One index look-up per aggregate: its last event tells the last that went to each
/// subscriber. No CTE is joined with another, since their sizes are guessed.
pub(crate) const APPEND: &str = "-- append
    WITH given AS (
        SELECT account, id, type, aggregate, effective_at, body, string_to_array(subscribers, ',') AS subscribers, holds,
               row_number() OVER (PARTITION BY account, aggregate ORDER BY place) AS place
        FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $7::bytea[], $8::text[],
                    $9::boolean[])
             WITH ORDINALITY AS g (account, id, type, aggregate, effective_at, body, subscribers, holds, place)
    ), numbered AS (
        SELECT g.*, coalesce(first_value(l.sequence) OVER aggregate, 0) + g.place AS sequence,
               coalesce(first_value(l.routed) OVER aggregate, '{}') AS routed
        FROM given g LEFT JOIN LATERAL (
            SELECT e.sequence, coalesce(e.last_routed, (
                SELECT jsonb_object_agg(s.name, h.sequence ORDER BY h.sequence)
                FROM event h CROSS JOIN unnest(h.subscribers) AS s (name)
                WHERE h.account = $13 AND h.aggregate = g.aggregate)) AS routed
            FROM event e
            WHERE g.place = 1 AND e.account = $13 AND e.aggregate = g.aggregate
            ORDER BY e.sequence DESC LIMIT 1
        ) l ON true
        WINDOW aggregate AS (PARTITION BY g.account, g.aggregate ORDER BY g.place)
    ), routed AS (
        SELECT n.*, n.routed || jsonb_merge(r.own) OVER earlier AS before, r.own
        FROM numbered n CROSS JOIN LATERAL (
            SELECT coalesce(jsonb_object_agg(s.name, n.sequence), '{}') AS own FROM unnest(n.subscribers) AS s (name)
        ) r
        WINDOW earlier AS (PARTITION BY n.account, n.aggregate ORDER BY n.place
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), appended AS (
        INSERT INTO event (account, id, type, aggregate, sequence, effective_at, recorded_at, body, subscribers,
                           last_routed)
        SELECT account, id, type, aggregate, sequence, effective_at, $6, body, subscribers, before || own FROM routed
    )
    INSERT INTO delivery (account, subscriber, aggregate, sequence, previous_sequence, event_id, effective_at, holds,
                          secret)
    SELECT r.account, s.name, r.aggregate, r.sequence, coalesce((r.before ->> s.name)::bigint, 0), r.id, r.effective_at,
           r.holds, x.secret
    FROM routed r
    CROSS JOIN unnest(r.subscribers) AS s (name)
    LEFT JOIN unnest($10::uuid[], $11::text[], $12::bytea[]) AS x (event_id, subscriber, secret)
           ON x.event_id = r.id AND x.subscriber = s.name";

/// Events of several accounts, each the first of its aggregate: nothing is read, as what goes before would be on as many
/// nodes. Of an aggregate that has an event already the key refuses another first one.
pub(crate) const APPEND_FIRST: &str = "-- append_first
    WITH given AS (
        SELECT *, string_to_array(names, ',') AS subscribers
        FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $7::bytea[], $8::text[],
                    $9::boolean[]) AS g (account, id, type, aggregate, effective_at, body, names, holds)
    ), appended AS (
        INSERT INTO event (account, id, type, aggregate, sequence, effective_at, recorded_at, body, subscribers,
                           last_routed)
        SELECT account, id, type, aggregate, 1, effective_at, $6, body, subscribers,
               (SELECT coalesce(jsonb_object_agg(s.name, 1), '{}') FROM unnest(g.subscribers) AS s (name))
        FROM given g
    )
    INSERT INTO delivery (account, subscriber, aggregate, sequence, event_id, effective_at, holds, secret)
    SELECT g.account, s.name, g.aggregate, 1, g.id, g.effective_at, g.holds, x.secret
    FROM given g
    CROSS JOIN unnest(g.subscribers) AS s (name)
    LEFT JOIN unnest($10::uuid[], $11::text[], $12::bytea[]) AS x (event_id, subscriber, secret)
           ON x.event_id = g.id AND x.subscriber = s.name";

pub(crate) const APPEND_TYPES: [Type; 13] = [
    Type::TEXT_ARRAY,
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::TIMESTAMPTZ,
    Type::BYTEA_ARRAY,
    Type::TEXT_ARRAY,
    Type::BOOL_ARRAY,
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::BYTEA_ARRAY,
    Type::TEXT,
];
