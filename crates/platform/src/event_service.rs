//! Serves a service's own facts.

use octroi_api::event::v1::event_service_server::EventService;
use octroi_api::event::v1::{Event, ListEventsRequest, ListEventsResponse};
use prost::Message as _;
use tokio_postgres::Row;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::call::Call;
use crate::db::{Db, row_get};
use crate::error::Error;
use crate::name;
use crate::page::Page;
use crate::refusal::Violations;

pub(crate) struct EventsApi {
    pub(crate) db: Db,
}

#[tonic::async_trait]
impl EventService for EventsApi {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let account = name::parse(&request.parent, ["accounts"]);
        if account.is_none() {
            violations.add("parent", "must be an account such as \"accounts/acme\"");
        }
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &request.parent,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        let after: Option<Uuid> = page.key(&mut violations);
        violations.finish()?;
        let [account] = account.unwrap_or_default();
        call.caller.may_see(account, "account", &request.parent)?;
        let rows = self
            .db
            .read(
                "-- list_events
                 SELECT id, sequence, body FROM event
                 WHERE account = $1 AND ($2::uuid IS NULL OR id > $2)
                 ORDER BY id LIMIT $3",
                &[&account, &after, &page.limit],
            )
            .await?;
        let id = |row: &Row| row.get::<_, Uuid>("id").to_string();
        let (events, next_page_token) = page.try_cut(rows, id, |row| event(&row))?;
        Ok(Response::new(ListEventsResponse {
            events,
            next_page_token,
        }))
    }
}

fn event(row: &Row) -> Result<Event, Error> {
    let mut event = Event::decode(row_get::<&[u8]>(row, "body")?).map_err(|_| Error::Corrupt {
        table: "event",
        column: "body",
        id: row.get::<_, Uuid>("id").to_string(),
    })?;
    event.sequence = row_get(row, "sequence")?;
    Ok(event)
}
