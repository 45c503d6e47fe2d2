//! Facts of which only the body tells whether customers hear of them.

use anyhow::Context as _;
use octroi_api::event::v1::Event;
use octroi_api::event::v1::event::Payload;
use prost::Message as _;
use tokio_postgres::Transaction;
use uuid::Uuid;

/// How many facts are read at a time.
const BATCH: i32 = 1_000;

const FACTS: &str = "
    SELECT id, body FROM licensing.event WHERE type = 'licensing.license.password_changed'
    UNION ALL
    SELECT id, body FROM billing.event WHERE type = 'billing.account.changed'";

/// Tells the checks, as the setting `octroi.mailed`, the ids of those facts of which customers are told by e-mail.
///
/// # Errors
/// The database's.
pub(super) async fn tell(snapshot: &Transaction<'_>) -> anyhow::Result<()> {
    let facts = snapshot.bind(FACTS, &[]).await?;
    let mut mailed: Vec<String> = Vec::new();
    loop {
        let rows = snapshot.query_portal(&facts, BATCH).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let id: Uuid = row.try_get("id")?;
            if is_mailed(row.try_get("body")?) {
                mailed.push(id.to_string());
            }
        }
    }
    let mailed = format!("{{{}}}", mailed.join(","));
    snapshot
        .execute("SELECT set_config('octroi.mailed', $1, true)", &[&mailed])
        .await
        .context("cannot tell which facts are mailed")?;
    Ok(())
}

/// Whether customers are told of a fact. One that cannot be read has no e-mail either: it is looked for, so that this
/// shows.
fn is_mailed(body: &[u8]) -> bool {
    match Event::decode(body).map(|event| event.payload) {
        Ok(Some(Payload::PasswordChanged(changed))) => changed.mailed,
        Ok(Some(Payload::AccountChanged(changed))) => !changed.previous_contact_email.is_empty(),
        Ok(_) | Err(_) => true,
    }
}
