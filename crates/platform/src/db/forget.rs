//! Deletes request ids whose time is over.

use jiff::Timestamp;
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use crate::call::Call;
use crate::db::{Db, row_get};
use crate::error::Error;
use crate::params;
use crate::tx::Rows;

impl Db {
    /// Deletes request ids whose time is over, batch by batch, until none is left or the service stops; answers how many.
    /// Each batch begins where the last one ended: before it lies what is deleted, and is still in the index.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget(&self, shutdown: &CancellationToken) -> Result<u64, Error> {
        let (mut from, mut done) = (Timestamp::UNIX_EPOCH, 0);
        while !shutdown.is_cancelled() {
            let rows = self
                .query_planned(OLD, &[(&from, Type::TIMESTAMPTZ)])
                .await?;
            let Some(last) = rows.last() else { break };
            from = row_get(last, "created_at")?;
            let call = Call::background(self.clock.now(), "forget request ids");
            let mut tx = self.begin_writes(&call).await?;
            for row in &rows {
                let account: String = row_get(row, "account")?;
                let method: String = row_get(row, "method")?;
                let id: uuid::Uuid = row_get(row, "request_id")?;
                tx.write(FORGET, params![account, method, id], Rows::Any);
            }
            tx.commit_work().await?;
            done += rows.len() as u64;
        }
        Ok(done)
    }
}

const OLD: &str = "-- old_requests
    SELECT account, method, request_id, created_at FROM idempotency
    WHERE NOT lasting AND created_at >= $1 AND created_at < now() - interval '30 days'
    ORDER BY created_at LIMIT 1000";

/// IS TRUE keeps the index on it out of this: there may be far more that are old.
const FORGET: &str = "-- forget
    DELETE FROM idempotency WHERE account = $1 AND method = $2 AND request_id = $3
      AND (NOT lasting AND created_at < now() - interval '30 days') IS TRUE";
