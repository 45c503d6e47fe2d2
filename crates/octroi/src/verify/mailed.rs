//! Which events must have an e-mail, where only their body says so.

use anyhow::Context as _;
use octroi_api::event::v1::Event;
use octroi_api::event::v1::event::Payload;
use prost::Message as _;
use tokio_postgres::Transaction;
use uuid::Uuid;

/// How many events are read at a time.
const BATCH: i32 = 1_000;

const EVENTS: &str = "
    SELECT id, body FROM licensing.event WHERE type = 'licensing.license.password_changed'
    UNION ALL
    SELECT id, body FROM billing.event WHERE type = 'billing.account.changed'";

/// Puts the ids of the events that must have an e-mail into the setting `octroi.mailed`, for the checks to read.
pub(super) async fn set_mailed(snapshot: &Transaction<'_>) -> anyhow::Result<()> {
    let events = snapshot.bind(EVENTS, &[]).await?;
    let mut mailed: Vec<String> = Vec::new();
    loop {
        let rows = snapshot.query_portal(&events, BATCH).await?;
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
        .context("cannot find which events are mailed")?;
    Ok(())
}

/// Whether an event must have an e-mail. One whose body cannot be decoded must: it has none, so the check reports it.
fn is_mailed(body: &[u8]) -> bool {
    match Event::decode(body).map(|event| event.payload) {
        Ok(Some(Payload::PasswordChanged(changed))) => changed.mailed,
        Ok(Some(Payload::AccountChanged(changed))) => !changed.previous_contact_email.is_empty(),
        Ok(_) | Err(_) => true,
    }
}
