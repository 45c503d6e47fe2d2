//! Rows of `offer`.

use octroi_platform::{Db, Error, row_get};
use tokio_postgres::Row;

use crate::domain::offer::{Offer, OfferId};

macro_rules! select {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
            SELECT offer, display_name, applications, group_license_limit, computer_limit, tablet_limit,
                   smartphone_limit, shared_computer_activation, state, created_at, version
            FROM offer ",
            $rest
        )
    };
}

/// The offers of an order's lines.
pub(crate) const READ_OF_ORDER: &str = select!(
    "read_offers_of_order",
    "WHERE offer IN (SELECT offer FROM order_line WHERE account = $1 AND order_id = $2)"
);

pub(crate) async fn read(db: &Db, offer: &OfferId) -> Result<Option<Offer>, Error> {
    let row = db
        .query_opt(select!("read_offer", "WHERE offer = $1"), &[&offer])
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// The offers among these ids that exist.
pub(crate) async fn read_all(db: &Db, offers: &[&OfferId]) -> Result<Vec<Offer>, Error> {
    let rows = db
        .query(select!("read_offers", "WHERE offer = ANY ($1)"), &[&offers])
        .await?;
    rows.iter().map(from_row).collect()
}

/// A page of the offers, by id.
pub(crate) const LIST: &str = select!(
    "list_offers",
    "WHERE $1::text IS NULL OR offer > $1 ORDER BY offer LIMIT $2"
);

pub(crate) fn from_row(row: &Row) -> Result<Offer, Error> {
    let id: OfferId = row_get(row, "offer")?;
    let state: &str = row_get(row, "state")?;
    let archived = match state {
        "ACTIVE" => false,
        "ARCHIVED" => true,
        _ => {
            return Err(Error::Corrupt {
                table: "offer",
                column: "state",
                id: id.to_string(),
            });
        }
    };
    Ok(Offer {
        id,
        display_name: row_get(row, "display_name")?,
        applications: row_get(row, "applications")?,
        group_license_limit: row_get(row, "group_license_limit")?,
        computer_limit: row_get(row, "computer_limit")?,
        tablet_limit: row_get(row, "tablet_limit")?,
        smartphone_limit: row_get(row, "smartphone_limit")?,
        shared_computer_activation: row_get(row, "shared_computer_activation")?,
        archived,
        created_at: row_get(row, "created_at")?,
        version: row_get(row, "version")?,
    })
}
