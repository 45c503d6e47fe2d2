//! Rows of `usage_interval`.

use jiff::Timestamp;
use octroi_platform::{Db, Error, row_get};
use tokio_postgres::Row;

use crate::domain::account::Account;
use crate::domain::group::GroupId;
use crate::domain::offer::OfferId;
use crate::domain::usage::Interval;
use crate::store::account;

/// A group's calendar and the intervals that touch a stretch of time; none when there is no such group.
pub(crate) async fn read(
    db: &Db,
    group: &GroupId,
    from: Timestamp,
    until: Timestamp,
) -> Result<Option<(Account, Vec<Interval>)>, Error> {
    let row = db
        .query_opt(
            "-- read_usage
             SELECT a.account, a.version, a.locale, a.currency, a.zone_names, a.zone_times,
                    u.offers, u.seats, u.starts, u.ends
             FROM license_group g
             JOIN account a ON a.account = g.account
             CROSS JOIN LATERAL (
                 SELECT array_agg(offer) AS offers, array_agg(seat) AS seats, array_agg(started_at) AS starts,
                        array_agg(ended_at) AS ends
                 FROM usage_interval i
                 WHERE i.account = g.account AND i.group_id = g.group_id
                   AND i.started_at < $4 AND (i.ended_at IS NULL OR i.ended_at > $3)
             ) u
             WHERE g.account = $1 AND g.group_id = $2",
            &[&group.account, &group.id, &from, &until],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some((account::from_row(&row)?, intervals(&row)?)))
}

fn intervals(row: &Row) -> Result<Vec<Interval>, Error> {
    let Some(offers) = row_get::<Option<Vec<OfferId>>>(row, "offers")? else {
        return Ok(Vec::new());
    };
    let seats: Vec<i32> = row_get(row, "seats")?;
    let starts: Vec<Timestamp> = row_get(row, "starts")?;
    let ends: Vec<Option<Timestamp>> = row_get(row, "ends")?;
    let bounds = seats.into_iter().zip(starts).zip(ends);
    Ok(offers
        .into_iter()
        .zip(bounds)
        .map(|(offer, ((seat, start), end))| Interval {
            offer,
            seat,
            start,
            end,
        })
        .collect())
}
