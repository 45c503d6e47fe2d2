//! The metrics of undelivered events.

use octroi_platform::db::{Db, row_get};
use octroi_platform::error::Error;
use tokio_postgres::types::Type;

pub(crate) const GAUGES: [(&str, &str); 3] = [
    ("deliveries", "Events that a subscriber has not taken yet"),
    (
        "delivery_age_seconds",
        "How long ago the oldest of them was recorded",
    ),
    (
        "dead_letters",
        "Events among them that are tried no more until they are replayed",
    ),
];

/// Name and description of each gauge; they are labelled by subscriber.
pub(crate) async fn read(db: &Db, subscribers: &[&str]) -> Result<Vec<(String, Vec<i64>)>, Error> {
    let rows = db
        .query_briefly(BACKLOG, &[(&subscribers, Type::TEXT_ARRAY)])
        .await?;
    let rows = rows.iter().map(|row| {
        let shown = ["deliveries", "age", "dead"].map(|column| row_get(row, column));
        let shown = shown.into_iter().collect::<Result<_, _>>()?;
        Ok((row_get(row, "subscriber")?, shown))
    });
    rows.collect()
}

const BACKLOG: &str = "-- backlog
    SELECT s.name AS subscriber, count(d.subscriber) AS deliveries,
           coalesce(extract(epoch FROM clock_timestamp() - min(d.created_at))::bigint, 0) AS age,
           count(*) FILTER (WHERE d.parked) AS dead
    FROM unnest($1::text[]) AS s (name)
    LEFT JOIN delivery d ON d.subscriber = s.name
    GROUP BY s.name";
