//! Sessions of the portal, and the sign-ins that failed.

use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::{Db, Error, Page, Rows, Tx, params, row_get};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::device::Device;
use crate::domain::license::{License, LicenseId, Standing};
use crate::domain::portal::Throttle;
use crate::domain::session::Session;
use crate::store::{device, license};

const COLUMNS: &str = "
    s.id AS session_id, s.created_at AS session_created_at, s.expires_at AS session_expires_at,
    s.revoked_at AS session_revoked_at, o.shared_computer_activation";

/// What finds a session: whose, which, and the SHA-256 of its secret.
pub(crate) struct Key {
    /// Whose.
    pub(crate) license: LicenseId,
    /// Which.
    pub(crate) session: Uuid,
    /// SHA-256 of its secret.
    pub(crate) token_hash: Vec<u8>,
}

impl Key {
    /// The five parameters that every read of a session begins with.
    pub(crate) fn params(&self) -> [&(dyn ToSql + Sync); 5] {
        let LicenseId {
            account,
            group,
            number,
        } = &self.license;
        [account, group, number, &self.session, &self.token_hash]
    }
}

/// A session and what it belongs to.
pub(crate) struct Visit {
    /// The session.
    pub(crate) session: Session,
    /// Its licence.
    pub(crate) license: License,
    /// Whether the group lets users in.
    pub(crate) standing: Standing,
    /// Whether the offer allows shared computers.
    pub(crate) shared_computers: bool,
}

/// A session, from [`COLUMNS`] and the licence's and group's.
pub(crate) fn visit(row: &Row, now: Timestamp) -> Result<Visit, Error> {
    Ok(Visit {
        session: Session {
            id: row_get(row, "session_id")?,
            created_at: row_get(row, "session_created_at")?,
            expires_at: row_get(row, "session_expires_at")?,
            revoked_at: row_get(row, "session_revoked_at")?,
        },
        license: license::license(row)?,
        standing: license::standing(row, now)?,
        shared_computers: row_get(row, "shared_computer_activation")?,
    })
}

const OF_SESSION: &str = "
    FROM license_group g
    JOIN license l ON l.account = g.account AND l.group_id = g.group_id
    JOIN offer o ON o.offer = l.offer
    JOIN session s ON s.account = l.account AND s.group_id = l.group_id AND s.number = l.number";

const THIS_SESSION: &str = "
    WHERE g.account = $1 AND g.group_id = $2 AND l.number = $3 AND s.id = $4 AND s.token_hash = $5";

/// The locking read of a session's command: the group before the licence before the session.
pub(crate) fn lock() -> String {
    format!(
        "-- lock_session
         SELECT {}, {}, {COLUMNS} {OF_SESSION} {THIS_SESSION}
         FOR SHARE OF g FOR NO KEY UPDATE OF l, s",
        license::COLUMNS,
        license::GROUP_COLUMNS,
    )
}

/// The same with the licence's password.
pub(crate) fn lock_with_password() -> String {
    format!(
        "-- lock_session_with_password
         SELECT {}, {}, {COLUMNS}, l.password_hash {OF_SESSION} {THIS_SESSION}
         FOR SHARE OF g FOR NO KEY UPDATE OF l, s",
        license::COLUMNS,
        license::GROUP_COLUMNS,
    )
}

/// The locking read of a sign-in ($1 account, $2 group, $3 number): the licence stays as it is until the session is
/// there, so that whatever takes the user away ends that session too.
pub(crate) fn lock_for_sign_in() -> String {
    format!(
        "-- lock_license_for_sign_in
         SELECT {}, {}, l.password_hash
         FROM license_group g
         JOIN license l ON l.account = g.account AND l.group_id = g.group_id
         JOIN offer o ON o.offer = l.offer
         WHERE g.account = $1 AND g.group_id = $2 AND l.number = $3
         FOR SHARE OF g, l",
        license::COLUMNS,
        license::GROUP_COLUMNS,
    )
}

/// The same with one of the licence's devices ($6), if it has it: one registered by the present user.
pub(crate) fn lock_with_device() -> String {
    format!(
        "-- lock_session_with_device
         SELECT {}, {}, {COLUMNS}, {} {OF_SESSION}
         LEFT JOIN device d ON d.account = l.account AND d.group_id = l.group_id AND d.number = l.number
             AND d.id = $6 AND d.registered_at >= l.activated_at
         {THIS_SESSION}
         FOR SHARE OF g FOR NO KEY UPDATE OF l, s",
        license::COLUMNS,
        license::GROUP_COLUMNS,
        device::COLUMNS,
    )
}

/// A session with the licence's password, for a change of it.
pub(crate) async fn with_password(
    db: &Db,
    key: &Key,
    now: Timestamp,
) -> Result<Option<(Visit, Option<String>)>, Error> {
    let sql = format!(
        "-- get_session_with_password
         SELECT {}, {}, {COLUMNS}, l.password_hash {OF_SESSION} {THIS_SESSION}",
        license::COLUMNS,
        license::GROUP_COLUMNS,
    );
    let row = db.read_opt(&sql, &key.params()).await?;
    row.map(|row| Ok((visit(&row, now)?, row_get(&row, "password_hash")?)))
        .transpose()
}

/// A session with the offer's applications and the account's locale, if it is known yet.
pub(crate) async fn with_applications(
    db: &Db,
    key: &Key,
    now: Timestamp,
) -> Result<Option<(Visit, Vec<String>, Option<String>)>, Error> {
    let sql = format!(
        "-- get_session_with_applications
         SELECT {}, {}, {COLUMNS}, o.applications, a.locale {OF_SESSION}
         LEFT JOIN account a ON a.account = l.account {THIS_SESSION}",
        license::COLUMNS,
        license::GROUP_COLUMNS,
    );
    let row = db.read_opt(&sql, &key.params()).await?;
    row.map(|row| {
        Ok((
            visit(&row, now)?,
            row_get(&row, "applications")?,
            row_get(&row, "locale")?,
        ))
    })
    .transpose()
}

/// A session with a page of the devices that its user registered, by id.
pub(crate) async fn with_devices(
    db: &Db,
    key: &Key,
    show_deactivated: bool,
    page: &Page,
    now: Timestamp,
) -> Result<Option<(Visit, Vec<Device>)>, Error> {
    let after = match &page.after {
        None => Uuid::nil(),
        Some(id) => Uuid::try_parse(id).map_err(|error| Error::Internal(error.into()))?,
    };
    let sql = format!(
        "-- list_own_devices
         SELECT {}, {}, {COLUMNS}, {} {OF_SESSION}
         LEFT JOIN LATERAL (
             SELECT * FROM device
             WHERE account = l.account AND group_id = l.group_id AND number = l.number AND id > $6
                 AND registered_at >= l.activated_at AND ($7 OR state = 'ACTIVE')
             ORDER BY id
             LIMIT $8
         ) d ON true
         {THIS_SESSION}
         ORDER BY d.id",
        license::COLUMNS,
        license::GROUP_COLUMNS,
        device::COLUMNS,
    );
    let [account, group, number, session, hash] = key.params();
    let rows = db
        .read(
            &sql,
            &[
                account,
                group,
                number,
                session,
                hash,
                &after,
                &show_deactivated,
                &page.limit,
            ],
        )
        .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut devices = Vec::with_capacity(rows.len());
    for row in &rows {
        devices.extend(device::device(row)?);
    }
    Ok(Some((visit(first, now)?, devices)))
}

/// Writes a new session.
pub(crate) fn insert(tx: &mut Tx, id: &LicenseId, session: &Session, token_hash: Vec<u8>) {
    let id = id.clone();
    tx.write(
        "-- insert_session
         INSERT INTO session (account, group_id, number, id, token_hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            id.account,
            id.group,
            id.number,
            session.id,
            token_hash,
            session.created_at,
            session.expires_at,
        ],
        Rows::Exactly(1),
    );
}

/// Ends one open session.
pub(crate) fn revoke(tx: &mut Tx, id: &LicenseId, session: Uuid, at: Timestamp) {
    let id = id.clone();
    tx.write(
        "-- revoke_session
         UPDATE session SET revoked_at = $5
         WHERE account = $1 AND group_id = $2 AND number = $3 AND id = $4 AND revoked_at IS NULL",
        params![id.account, id.group, id.number, session, at],
        Rows::Exactly(1),
    );
}

/// Ends every open session of a licence but one.
pub(crate) fn revoke_all(tx: &mut Tx, id: &LicenseId, but: Option<Uuid>, at: Timestamp) {
    let id = id.clone();
    tx.write(
        "-- revoke_sessions
         UPDATE session SET revoked_at = $5
         WHERE account = $1 AND group_id = $2 AND number = $3 AND id IS DISTINCT FROM $4 AND revoked_at IS NULL",
        params![id.account, id.group, id.number, but, at],
        Rows::Any,
    );
}

/// Whose failed sign-ins are counted together: which throttle, and the SHA-256 of the subject.
pub(crate) struct Subject {
    /// Which throttle.
    pub(crate) throttle: Throttle,
    /// SHA-256 of whom or what it counts.
    pub(crate) subject: Vec<u8>,
}

/// What an address leads to when someone tries to sign in with it.
pub(crate) struct Attempt {
    /// How long to wait, when a throttle is closed.
    pub(crate) wait: Option<Duration>,
    /// The licence and its password, when the address is known.
    pub(crate) found: Option<(LicenseId, String)>,
}

/// Counts a sign-in as failed before it is tried, so that many at once cannot all pass a count of none, and looks its
/// address up. One that succeeds is given back. Machine time: the database's clock, which every instance shares.
pub(crate) async fn attempt(
    db: &Db,
    subjects: &[Subject],
    address: &str,
) -> Result<Attempt, Error> {
    let policies: Vec<_> = subjects.iter().map(|it| it.throttle.policy()).collect();
    let kinds: Vec<_> = subjects.iter().map(|it| it.throttle.name()).collect();
    let hashes: Vec<_> = subjects.iter().map(|it| it.subject.as_slice()).collect();
    let failures: Vec<_> = policies.iter().map(|it| it.failures).collect();
    let first: Vec<_> = policies.iter().map(|it| it.first_ms).collect();
    let longest: Vec<_> = policies.iter().map(|it| it.longest_ms).collect();
    let window: Vec<_> = policies.iter().map(|it| it.window_ms).collect();
    let rows = db
        .read(
            ATTEMPT,
            &[
                &kinds, &hashes, &failures, &first, &longest, &window, &address,
            ],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("a sign-in was not counted")))?;
    let found = match row_get::<Option<String>>(row, "account")? {
        None => None,
        Some(account) => {
            let id = LicenseId {
                account,
                group: row_get(row, "group_id")?,
                number: row_get(row, "number")?,
            };
            row_get::<Option<String>>(row, "password_hash")?.map(|hash| (id, hash))
        }
    };
    let wait = row_get::<Option<i64>>(row, "wait_ms")?
        .map(|wait| Duration::from_millis(u64::try_from(wait).unwrap_or_default()));
    Ok(Attempt { wait, found })
}

const ATTEMPT: &str = "-- attempt_sign_in
    WITH asked AS MATERIALIZED (
        SELECT kind, subject, allowed, first_ms, longest_ms, window_ms * interval '1 millisecond' AS span
        FROM unnest($1::text[], $2::bytea[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])
            AS a (kind, subject, allowed, first_ms, longest_ms, window_ms)
    ), counted AS (
        INSERT INTO sign_in_failure AS f (kind, subject, failures, blocked_until, forget_at)
        SELECT kind, subject, 1, clock_timestamp(), clock_timestamp() + span FROM asked ORDER BY kind
        ON CONFLICT (kind, subject) DO UPDATE SET (failures, blocked_until, forget_at) = (
            SELECT n.failures,
                   clock_timestamp() + CASE WHEN n.failures < a.allowed THEN interval '0'
                       ELSE least(a.longest_ms, a.first_ms << least(n.failures - a.allowed, 20))
                           * interval '1 millisecond' END,
                   CASE WHEN n.failures = 1 THEN clock_timestamp() + a.span ELSE f.forget_at END
            FROM asked a,
                 LATERAL (SELECT CASE WHEN f.forget_at <= clock_timestamp() THEN 1 ELSE f.failures + 1 END) n (failures)
            WHERE a.kind = f.kind
        )
        WHERE f.blocked_until <= clock_timestamp()
        RETURNING f.kind
    ), closed AS (
        SELECT a.kind, f.blocked_until
        FROM asked a LEFT JOIN sign_in_failure f ON f.kind = a.kind AND f.subject = a.subject
        WHERE a.kind NOT IN (SELECT kind FROM counted)
    )
    SELECT (SELECT max(greatest(ceil(extract(epoch FROM
                coalesce(blocked_until, clock_timestamp()) - clock_timestamp()) * 1000), 1000)) FROM closed
           )::bigint AS wait_ms,
           l.account, l.group_id, l.number, l.password_hash
    FROM (SELECT 1) once
    LEFT JOIN activation_address d ON d.address = $7
    LEFT JOIN license l ON l.account = d.account AND l.group_id = d.group_id AND l.number = d.number";

/// How long one throttle is still closed.
pub(crate) async fn wait(db: &Db, subject: &Subject) -> Result<Option<Duration>, Error> {
    let row = db
        .read_opt(
            "-- wait_for_sign_in
             SELECT ceil(extract(epoch FROM blocked_until - clock_timestamp()) * 1000)::bigint AS wait_ms
             FROM sign_in_failure
             WHERE kind = $1 AND subject = $2 AND blocked_until > clock_timestamp()",
            &[&subject.throttle.name(), &subject.subject],
        )
        .await?;
    let wait = row.map(|row| row_get::<i64>(&row, "wait_ms")).transpose()?;
    Ok(wait.map(|wait| Duration::from_millis(u64::try_from(wait).unwrap_or_default())))
}

/// Gives a counted sign-in back: the login begins anew, the others lose one.
pub(crate) fn give_back(tx: &mut Tx, subjects: Vec<Subject>) {
    let (kinds, hashes): (Vec<_>, Vec<_>) = subjects
        .into_iter()
        .map(|it| (it.throttle.name(), it.subject))
        .unzip();
    tx.write(
        "-- give_sign_in_back
         UPDATE sign_in_failure f SET
             failures = CASE WHEN f.kind = 'LOGIN' THEN 0 ELSE greatest(f.failures - 1, 0) END,
             blocked_until = clock_timestamp()
         FROM (
             SELECT f.kind, f.subject
             FROM sign_in_failure f
             JOIN unnest($1::text[], $2::bytea[]) AS a (kind, subject) USING (kind, subject)
             ORDER BY f.kind FOR NO KEY UPDATE OF f
         ) locked
         WHERE f.kind = locked.kind AND f.subject = locked.subject",
        params![kinds, hashes],
        Rows::Any,
    );
}

/// Deletes sessions that ended a day ago, at most so many.
pub(crate) async fn sweep_sessions(db: &Db, now: Timestamp, limit: i64) -> Result<u64, Error> {
    db.execute(
        "-- sweep_sessions
         DELETE FROM session WHERE (account, group_id, number, id) IN (
             SELECT account, group_id, number, id FROM session
             WHERE expires_at < $1::timestamptz - interval '1 day'
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
         )",
        &[&now, &limit],
    )
    .await
}

/// Deletes counts of failed sign-ins that no longer count, at most so many.
pub(crate) async fn sweep_failures(db: &Db, limit: i64) -> Result<u64, Error> {
    db.execute(
        "-- sweep_sign_in_failures
         DELETE FROM sign_in_failure WHERE (kind, subject) IN (
             SELECT kind, subject FROM sign_in_failure
             WHERE forget_at < clock_timestamp() AND blocked_until < clock_timestamp()
             ORDER BY forget_at LIMIT $1 FOR UPDATE SKIP LOCKED
         )",
        &[&limit],
    )
    .await
}
