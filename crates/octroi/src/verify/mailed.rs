//! Which events must have an e-mail, where only their body says so.

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

/// The ids of the events that must have an e-mail.
pub(super) async fn read(snapshot: &Transaction<'_>) -> anyhow::Result<Vec<String>> {
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
    Ok(mailed)
}

/// Whether an event must have an e-mail. One whose body cannot be decoded must: it has none, so the check reports it.
fn is_mailed(body: &[u8]) -> bool {
    match Event::decode(body).map(|event| event.payload) {
        Ok(Some(Payload::PasswordChanged(changed))) => changed.mailed,
        Ok(Some(Payload::AccountChanged(changed))) => !changed.previous_contact_email.is_empty(),
        Ok(_) | Err(_) => true,
    }
}
