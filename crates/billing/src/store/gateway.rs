//! The state of the test gateway's provider. It simulates an external system: nothing here runs in billing's own
//! transactions.

use octroi_platform::{Db, Error, row_get};
use tokio_postgres::Row;

use crate::domain::money::Money;
use crate::domain::payment_method::TestToken;

/// A charge as the provider knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Why it was declined; none for a success.
    pub decline_reason: Option<String>,
    /// How often its outcome was asked for.
    pub looks: i32,
    /// At which look the outcome shows.
    pub visible_at: i32,
}

/// Charges an amount under a key, or counts a look at the charge that has the key already. The flag is true for a new charge.
pub async fn charge(
    db: &Db,
    key: &str,
    amount: Money,
    token: TestToken,
) -> Result<(Kept, bool), Error> {
    let rows = db
        .query(
            "-- charge
             INSERT INTO test_gateway_charge AS c (key, token, amount, currency, decline_reason, visible_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (key) DO UPDATE SET looks = c.looks + 1
             RETURNING c.decline_reason, c.looks, c.visible_at",
            &[
                &key,
                &token.as_str(),
                &amount.minor,
                &amount.currency.code(),
                &token.decline_reason(),
                &token.visible_at(),
            ],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("the test gateway kept no charge")))?;
    let kept = kept(row)?;
    let first = kept.looks == 0;
    Ok((kept, first))
}

/// Looks at the charge under a key; none when the provider does not know it.
pub async fn look(db: &Db, key: &str) -> Result<Option<Kept>, Error> {
    let row = db
        .query_opt(
            "-- look
             UPDATE test_gateway_charge SET looks = looks + 1 WHERE key = $1
             RETURNING decline_reason, looks, visible_at",
            &[&key],
        )
        .await?;
    row.as_ref().map(kept).transpose()
}

fn kept(row: &Row) -> Result<Kept, Error> {
    Ok(Kept {
        decline_reason: row_get(row, "decline_reason")?,
        looks: row_get(row, "looks")?,
        visible_at: row_get(row, "visible_at")?,
    })
}
