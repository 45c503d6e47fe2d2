//! Deletes request ids whose time is over.

use crate::call::Call;
use crate::db::{Db, row_get};
use crate::error::Error;
use crate::params;
use crate::tx::Rows;

impl Db {
    /// Deletes some of the request ids whose time is over; answers how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget(&self) -> Result<u64, Error> {
        let rows = self.query_planned(OLD, &[]).await?;
        if !rows.is_empty() {
            let call = Call::background(self.clock.now(), "forget request ids");
            let mut tx = self.begin_writes(&call).await?;
            for row in &rows {
                let account: String = row_get(row, "account")?;
                let method: String = row_get(row, "method")?;
                let id: uuid::Uuid = row_get(row, "request_id")?;
                tx.write(FORGET, params![account, method, id], Rows::Any);
            }
            tx.commit_work().await?;
        }
        Ok(rows.len() as u64)
    }
}

const OLD: &str = "-- old_requests
    SELECT account, method, request_id FROM idempotency
    WHERE NOT lasting AND created_at < now() - interval '30 days'
    ORDER BY created_at LIMIT 1000";

/// IS TRUE keeps the index on it out of this: there may be far more that are old.
const FORGET: &str = "-- forget
    DELETE FROM idempotency WHERE account = $1 AND method = $2 AND request_id = $3
      AND (NOT lasting AND created_at < now() - interval '30 days') IS TRUE";
