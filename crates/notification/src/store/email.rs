//! The history of e-mails.

use octroi_platform::{AccountId, Error, Rows, Tx, params, row_get};
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::domain::account::Addressee;
use crate::domain::content::Content;
use crate::domain::email::{Delivery, Email, EmailId, Secret};
use crate::domain::locale::Locale;
use crate::store::account;

/// Reads e-mails. Until the first attempt fixes the addressee, each is joined with the version of the account in effect at
/// its event, or else with the first known one. A change that arrives after the first attempt is ignored: sending does
/// not wait for billing. `$account` is the e-mails' account: a read that locks names it here too.
macro_rules! select_email {
    ($name:literal, $account:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "
            SELECT e.account, e.id, e.event, e.effective_at, e.template, e.parameters, e.message_id,
                   e.recipient, e.locale, e.customer, e.time_zone, e.state, e.attempts,
                   e.last_error, e.sent_at, e.license, e.secret_state, e.sealed_secret,
                   e.secret_expires_at,
                   (e.lease_expires_at > now()) IS TRUE AS leased,
                   (extract(epoch FROM e.give_up_at - now()) * 1000)::bigint AS left_millis,
                   a.version AS account_version, a.contact_email AS account_contact_email,
                   a.locale AS account_locale, a.legal_name AS account_legal_name,
                   a.zones AS account_zones
            FROM email e
            LEFT JOIN LATERAL (
                SELECT * FROM account a
                WHERE a.account = ",
            $account,
            "
                ORDER BY a.effective_at <= e.effective_at DESC,
                         CASE WHEN a.effective_at <= e.effective_at THEN -a.version ELSE a.version END
                LIMIT 1
            ) a ON e.recipient IS NULL
            ",
            $rest
        )
    };
}
pub(super) use select_email;

/// Queues an e-mail: in line behind its account's others, or, where the account is not known, for later, in case it becomes
/// known meanwhile.
///
/// # Errors
/// [`Error::Internal`] when its parameters cannot be written as JSON.
pub fn insert(tx: &mut Tx, email: &Email) -> Result<(), Error> {
    let mut content =
        serde_json::to_value(&email.content).map_err(|error| Error::Internal(error.into()))?;
    let to = email.addressee.as_ref();
    let (license, secret_state, sealed, expires_at) = secret_columns(&email.secret);
    tx.write(
        "-- email::insert
         INSERT INTO email
             (account, id, event, effective_at, template, parameters, message_id,
              recipient, locale, customer, time_zone, state,
              license, secret_state, sealed_secret, secret_expires_at, bulk, place, next_attempt_at)
         SELECT $1::text, $2::uuid, $3::uuid, $4::timestamptz, $5::text, $6::jsonb, $7::text, $8::text, $9::text,
                $10::text, $11::text, $12::text, $13::text, $14::text, $15::bytea, $16::timestamptz, $17::boolean,
                CASE WHEN is_known THEN greatest(now(), last_place + interval '1 second') END,
                CASE WHEN is_known THEN now() ELSE now() + interval '2 seconds' END
         FROM (SELECT $8::text IS NOT NULL OR EXISTS (SELECT FROM account WHERE account = $1::text) AS is_known) a,
              (SELECT max(place) AS last_place FROM email
               WHERE account = $1::text AND bulk = $17::boolean AND state = 'QUEUED' AND place IS NOT NULL) l",
        params![
            email.id.account.clone(),
            email.id.id,
            email.event,
            email.effective_at,
            email.content.template(),
            content["parameters"].take(),
            email.message_id.clone(),
            to.map(|to| to.email.clone()),
            to.map(|to| to.locale.tag()),
            to.map(|to| to.customer.clone()),
            to.map(|to| to.time_zone.clone()),
            state(email.delivery),
            license,
            secret_state,
            sealed,
            expires_at,
            email.content.is_bulk(),
        ],
        Rows::Exactly(1),
    );
    Ok(())
}

/// One e-mail.
pub const READ: &str = select_email!("email::get", "$1", "WHERE e.account = $1 AND e.id = $2");

/// An account's e-mails before `$2` by id (all where that is null), newest first, at most `$3`. An account that has
/// e-mails exists, even if its own events have not arrived.
pub const LIST: &str = concat!(
    "-- email::list
    SELECT e.* FROM (SELECT $1::text AS account) p LEFT JOIN (",
    select_email!(
        "emails of the account",
        "$1",
        "WHERE e.account = $1 AND e.id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) ORDER BY e.id DESC LIMIT $3"
    ),
    ") e ON true
    WHERE EXISTS (SELECT FROM account WHERE account = $1) OR EXISTS (SELECT FROM email WHERE account = $1)
    ORDER BY e.id DESC"
);

/// The e-mails of a licence whose password is readable, locked: at most one, since each new password erases the previous.
/// They come without the account that would address them.
pub async fn with_password_of(
    tx: &Tx,
    account: &AccountId,
    license: &str,
) -> Result<Vec<Email>, Error> {
    let rows = tx.query(WITH_PASSWORD_OF, &[&account, &license]).await?;
    rows.iter().map(from_row).collect()
}

const WITH_PASSWORD_OF: &str = "-- email::with_password_of
    SELECT *, (lease_expires_at > now()) IS TRUE AS leased, NULL::bigint AS account_version
    FROM email WHERE account = $1 AND license = $2 AND secret_state = 'READABLE' ORDER BY id FOR UPDATE";

/// Erases an e-mail's password and writes the e-mail's new state.
pub fn erase_secret(tx: &mut Tx, email: &Email) {
    tx.write(
        "-- email::erase_secret
         UPDATE email
         SET secret_state = 'ERASED', sealed_secret = NULL, state = $3,
             lease_token = CASE WHEN $3 = 'QUEUED' THEN lease_token END,
             lease_expires_at = CASE WHEN $3 = 'QUEUED' THEN lease_expires_at END,
             place = CASE WHEN $3 = 'QUEUED' THEN place END
         WHERE account = $1 AND id = $2",
        params![email.id.account.clone(), email.id.id, state(email.delivery)],
        Rows::Exactly(1),
    );
}

pub(super) fn state(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Queued | Delivery::Sending => "QUEUED",
        Delivery::Sent { .. } => "SENT",
        Delivery::Failed => "FAILED",
        Delivery::Withdrawn => "WITHDRAWN",
    }
}

type SecretColumns = (
    String,
    &'static str,
    Option<Vec<u8>>,
    Option<jiff::Timestamp>,
);

fn secret_columns(secret: &Secret) -> SecretColumns {
    match secret {
        Secret::None => (String::new(), "NONE", None, None),
        Secret::Readable {
            license,
            sealed,
            expires_at,
        } => (
            license.clone(),
            "READABLE",
            Some(sealed.clone()),
            Some(*expires_at),
        ),
        Secret::Erased {
            license,
            expires_at,
        } => (license.clone(), "ERASED", None, Some(*expires_at)),
    }
}

/// An e-mail, addressed as the row and its account say.
pub fn from_row(row: &Row) -> Result<Email, Error> {
    let id = EmailId {
        account: row_get(row, "account")?,
        id: row_get(row, "id")?,
    };
    let corrupt = |column| Error::Corrupt {
        table: "email",
        column,
        id: format!("{}/{}", id.account.as_str(), id.id),
    };
    let template: &str = row_get(row, "template")?;
    let parameters: Value = row_get(row, "parameters")?;
    let content: Content =
        serde_json::from_value(json!({"template": template, "parameters": parameters}))
            .map_err(|_| corrupt("parameters"))?;
    let state: &str = row_get(row, "state")?;
    let sent: Option<jiff::Timestamp> = row_get(row, "sent_at")?;
    let delivery = match (state, sent) {
        ("QUEUED", _) if row_get(row, "leased")? => Delivery::Sending,
        ("QUEUED", _) => Delivery::Queued,
        ("SENT", Some(at)) => Delivery::Sent { at },
        ("FAILED", _) => Delivery::Failed,
        ("WITHDRAWN", _) => Delivery::Withdrawn,
        _ => return Err(corrupt("state")),
    };
    let sealed: Option<Vec<u8>> = row_get(row, "sealed_secret")?;
    let expires_at: Option<jiff::Timestamp> = row_get(row, "secret_expires_at")?;
    let license: String = row_get(row, "license")?;
    let secret = match (row_get(row, "secret_state")?, sealed, expires_at) {
        ("NONE", None, None) => Secret::None,
        ("READABLE", Some(sealed), Some(expires_at)) => Secret::Readable {
            license,
            sealed,
            expires_at,
        },
        ("ERASED", None, Some(expires_at)) => Secret::Erased {
            license,
            expires_at,
        },
        _ => return Err(corrupt("secret_state")),
    };
    let email = Email {
        addressee: addressee(row)?,
        event: row_get(row, "event")?,
        effective_at: row_get(row, "effective_at")?,
        content,
        message_id: row_get(row, "message_id")?,
        delivery,
        attempts: row_get(row, "attempts")?,
        last_error: row_get(row, "last_error")?,
        secret,
        id,
    };
    Ok(email.addressed(account::joined(row)?.as_ref()))
}

fn addressee(row: &Row) -> Result<Option<Addressee>, Error> {
    let Some(email) = row_get::<Option<String>>(row, "recipient")? else {
        return Ok(None);
    };
    Ok(Some(Addressee {
        email,
        locale: Locale::of(row_get(row, "locale")?),
        customer: row_get(row, "customer")?,
        time_zone: row_get(row, "time_zone")?,
    }))
}
