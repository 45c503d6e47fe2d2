//! Up to which instant all events were delivered to a subscriber.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::types::Type;

use crate::db::{Db, row_get};
use crate::error::Error;
use crate::intake::MOST_HELD;

/// How far `complete_through` lags behind the clock: twice the age at which a command refuses its final write.
const LAG: SignedDuration = SignedDuration::from_secs(60);

/// The earliest instant of scheduled work that is not done yet: `complete_through` stays before it.
pub type Horizon =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Option<Timestamp>, Error>> + Send + Sync>;

/// The instant up to which every event was delivered, but for those of the returned accounts, which have dead letters. An
/// account counts as held with everything that it has pending: what waits behind its dead letters, and what is retried.
pub(crate) async fn complete_through(
    db: &Db,
    subscriber: &str,
    horizon: Option<&Horizon>,
) -> Result<(Timestamp, Vec<String>), Error> {
    let tick = SignedDuration::from_micros(1);
    // The clock is read first: what commits during the query took effect after the lag.
    let mut complete = db.clock.now() - LAG;
    if let Some(horizon) = horizon
        && let Some(due) = horizon().await?
    {
        complete = complete.min(due - tick);
    }
    let limit = i64::try_from(MOST_HELD).unwrap_or(i64::MAX);
    let one_more = limit.saturating_add(1);
    let params = [(&subscriber as _, Type::TEXT), (&one_more as _, Type::INT8)];
    let mut dead = db.query_planned(DEAD, &params).await?;
    if dead.len() > MOST_HELD {
        // Too many to name: the instant stays before them.
        dead.clear();
    }
    let held = dead.iter().map(|row| row_get(row, "account"));
    let held: Vec<&str> = held.collect::<Result<_, _>>()?;
    let params = [
        (&subscriber as _, Type::TEXT),
        (&held as _, Type::TEXT_ARRAY),
    ];
    let waiting = db.query_planned(UNDELIVERED, &params).await?;
    if let Some(row) = waiting.first() {
        complete = complete.min(row_get::<Timestamp>(row, "effective_at")? - tick);
    }
    let mut before = Vec::new();
    for (row, account) in dead.iter().zip(held) {
        if row_get::<Timestamp>(row, "earliest")? <= complete {
            before.push(format!("accounts/{account}"));
        }
    }
    Ok((complete, before))
}

/// Accounts of which a delivery is a dead letter, each with when the first that waits of it took effect.
const DEAD: &str = "-- dead
    SELECT account, min(effective_at) AS earliest FROM delivery
    WHERE subscriber = $1 AND account IN (
        SELECT DISTINCT account FROM delivery WHERE subscriber = $1 AND parked AND strpos(account, '/') = 0 LIMIT $2)
    GROUP BY account";

/// The first delivery to take effect of those that hold back the instant.
const UNDELIVERED: &str = "-- undelivered
    SELECT effective_at FROM delivery
    WHERE subscriber = $1 AND holds AND account <> ALL ($2)
    ORDER BY effective_at LIMIT 1";
