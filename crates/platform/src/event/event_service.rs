//! Serves a service's own facts, in the order of their positions.
//!
//! Ids and sequences are drawn before a commit, so neither orders commits: who goes on from the last one seen would
//! miss what was drawn earlier and committed later. A position is given after the commit, by whoever lists the account
//! next: only a list shows one, so nothing need give it earlier, each list shows all that was committed before it, and
//! accounts that nobody lists cost nothing.

use std::fmt::{self, Display};

use futures_util::future::{join, join3};
use octroi_api::Listing as _;
use octroi_api::event::v1::event_service_server::EventService;
use octroi_api::event::v1::{Event, ListEventsRequest, ListEventsResponse};
use prost::Message as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::call::Call;
use crate::db::{Db, row_get};
use crate::error::Error;
use crate::name::{Name, may_be_id};
use crate::page::{Page, TOKEN_RULE, hash};
use crate::refusal::Violations;
use crate::request::fields;

/// How many events are placed at once: more than a page holds, so that a page is never short of those that wait.
const PLACED_AT_ONCE: i64 = 2_000;

/// Serves EventService.
pub struct EventsApi {
    /// Whose facts they are.
    pub service: &'static str,
    /// Where the event log is.
    pub db: Db,
}

#[tonic::async_trait]
impl EventService for EventsApi {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let (call, mut request) = Call::open(request)?;
        // Every service serves this method: a token of one means nothing to another.
        let log = format!("{} of {}", request.parent, self.service);
        let list = hash(call.method, log.as_bytes());
        let paging = request.take_paging();
        let read = fields(&call, |fields| {
            let page = Page::<i64>::read(paging, list, fields);
            Some((fields.name::<Parent>("parent", &request.parent)?, page))
        });
        let (parent, page) = read.map_err(|failure| call.no_list(failure))?;
        let after = page.after.unwrap_or(0);
        let (rows, last) = self.list(&parent.key, after, page.limit).await?;
        let last = last.ok_or_else(|| call.no_list(call.not_found(&parent)))?;
        if !(0..=last).contains(&after) {
            let mut violations = Violations::default();
            violations.add("page_token", TOKEN_RULE);
            violations.finish()?;
        }
        let mut reached = after;
        let (events, next_page_token) = page.try_cut(
            rows,
            |(position, _)| position.to_string(),
            |(position, row)| {
                reached = position;
                event(&row)
            },
        )?;
        Ok(Response::new(ListEventsResponse {
            events,
            next_page_token,
            resume_token: page.token(reached.to_string()),
        }))
    }
}

impl EventsApi {
    /// An account's events after a position, and the last position given; none where nobody knows the account. One round
    /// trip: each statement sees what was committed before it, so the one that gives positions sees whatever the one before
    /// it waited for.
    async fn list(
        &self,
        account: &str,
        after: i64,
        limit: i64,
    ) -> Result<(Vec<(i64, Row)>, Option<i64>), Error> {
        let client = self.db.connection().await?;
        let hold = client.prepare_cached(HOLD).await?;
        let place = client.prepare_cached(PLACE).await?;
        let list = client.prepare_cached(LIST).await?;
        let last = client.prepare_cached(LAST).await?;
        let of: [&(dyn ToSql + Sync); 1] = [&account];
        let ((begun, held, given), (rows, last), committed) = join3(
            join3(
                client.batch_execute("BEGIN"),
                client.execute(&hold, &of),
                client.execute(&place, &[&account, &PLACED_AT_ONCE]),
            ),
            join(
                client.query(&list, &[&account, &after, &limit]),
                client.query_one(&last, &of),
            ),
            client.batch_execute("COMMIT"),
        )
        .await;
        begun?;
        held?;
        given?;
        let (rows, last) = (rows?, last?);
        // What was placed must be there before anybody is told of it.
        committed?;
        let placed = |row| Ok((row_get(&row, "position")?, row));
        let rows = rows.into_iter().map(placed).collect::<Result<_, Error>>()?;
        Ok((rows, row_get(&last, "last")?))
    }
}

/// Whose events are listed: an account's, or those of a resource of no account.
struct Parent {
    /// What they are kept by: see [`crate::new_event::key`].
    key: String,
    name: String,
}

impl Name for Parent {
    const KIND: &'static str = "account";
    const COLLECTIONS: &'static [&'static str] = &["accounts"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [id] = ids else { return None };
        Some(Self {
            key: (*id).to_owned(),
            name: format!("accounts/{id}"),
        })
    }

    /// A token that is bound to an account sees that account's alone.
    fn account(&self) -> Option<&str> {
        Some(&self.key)
    }

    fn parse(given: &str) -> Option<Self> {
        let (collection, id) = given.split_once('/')?;
        let plain = collection.bytes().all(|byte| byte.is_ascii_alphabetic());
        match collection {
            "accounts" => may_be_id(id).then(|| Self::of(&[id]))?,
            _ => (plain && !collection.is_empty() && may_be_id(id)).then(|| Self {
                key: given.to_owned(),
                name: given.to_owned(),
            }),
        }
    }

    fn kind(&self) -> &'static str {
        match self.name == self.key {
            true => "resource",
            false => Self::KIND,
        }
    }

    fn rule() -> String {
        "must be an account such as \"accounts/acme\", or a resource of no account".to_owned()
    }
}

impl Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn event(row: &Row) -> Result<Event, Error> {
    let id: Uuid = row_get(row, "id")?;
    let mut event = Event::decode(row_get::<&[u8]>(row, "body")?).map_err(|_| Error::Corrupt {
        table: "event",
        column: "body",
        id: id.to_string(),
    })?;
    event.sequence = row_get(row, "sequence")?;
    Ok(event)
}

/// Locks the account's row when there is something to place, until the transaction ends.
const HOLD: &str = "-- hold_positions
    INSERT INTO event_position (account, last, giving)
    SELECT $1::text, 0, true
    WHERE EXISTS (SELECT FROM event WHERE account = $1::text AND position IS NULL)
    ON CONFLICT (account) DO UPDATE SET giving = true";

/// Gives the next positions, by id, and within an aggregate by sequence: an event goes after those of its aggregate
/// that come before it, whatever their ids. Without the lock there is nothing to do: nobody's `giving` is seen by
/// others. Each step looks rows up by a whole key, so that no estimate of the planner's can make it scan the account.
const PLACE: &str = r#"-- place
    WITH RECURSIVE held AS (
        SELECT last FROM event_position WHERE account = $1 AND giving
    ), chosen AS (
        SELECT e.id, e.aggregate, e.sequence
        FROM held CROSS JOIN LATERAL (
            SELECT id, aggregate, sequence FROM event WHERE account = $1 AND position IS NULL ORDER BY id LIMIT $2
        ) e
        UNION
        SELECT before.id, c.aggregate, before.sequence
        FROM chosen c CROSS JOIN LATERAL (
            SELECT e.id, e.sequence, e.position FROM event e
            WHERE e.account = $1 AND e.aggregate = c.aggregate AND e.sequence = c.sequence - 1
            LIMIT 1
        ) before
        WHERE before.position IS NULL
    ), placed AS (
        SELECT id, row_number() OVER (ORDER BY after, sequence) AS place
        FROM (
            SELECT id, sequence, max(id::text COLLATE "C") OVER (PARTITION BY aggregate ORDER BY sequence) AS after
            FROM chosen
        ) c
    ), given AS (
        UPDATE event e SET position = held.last + p.place
        FROM held, placed p
        WHERE e.account = $1 AND e.id = ANY (ARRAY(SELECT id FROM chosen)) AND e.id = p.id
        RETURNING 1
    )
    UPDATE event_position SET last = last + (SELECT count(*) FROM given), giving = false
    WHERE account = $1 AND giving"#;

const LIST: &str = "-- list_events
    SELECT id, position, sequence, body FROM event
    WHERE account = $1 AND position > $2
    ORDER BY position LIMIT $3";

/// Null for an account that nobody knows.
const LAST: &str = "-- last_position
    SELECT CASE WHEN EXISTS (SELECT FROM account WHERE account = $1) OR EXISTS (SELECT FROM event WHERE account = $1)
        THEN coalesce((SELECT last FROM event_position WHERE account = $1), 0) END AS last";
