//! Counters of failed sign-ins. They use machine time: the database's clock, which every instance shares.

use std::time::Duration;

use jiff::Timestamp;
use octroi_platform::{Db, Error, Params, Rows, ToSql, Tx, params, row_get};
use tokio_postgres::types::Type;

use crate::domain::license::LicenseId;
use crate::domain::portal::Throttle;
use crate::store::license;

/// A counter of failed sign-ins.
pub(crate) struct Subject {
    pub(crate) throttle: Throttle,
    /// SHA-256 of the login or client that it counts.
    pub(crate) subject: Vec<u8>,
}

/// An attempt to sign in, counted and looked up.
pub(crate) struct Attempt {
    /// How long to wait, when a throttle is closed; nothing was counted then.
    pub(crate) wait: Option<Duration>,
    /// The licence and its password, when the address is known.
    pub(crate) found: Option<(LicenseId, String)>,
}

/// Counts a sign-in as failed before it is tried, so that many at once cannot all pass with a count of 0, and looks its
/// address up. One that succeeds is uncounted; one that a throttle refuses is not counted at all. `request` is the SHA-256
/// of a request whose copies are counted once, however many come at once.
pub(crate) async fn attempt(
    db: &Db,
    subjects: &[Subject],
    address: &str,
    request: Option<&[u8]>,
) -> Result<Attempt, Error> {
    let policies: Vec<_> = subjects.iter().map(|it| it.throttle.policy()).collect();
    let kinds: Vec<_> = subjects.iter().map(|it| it.throttle.as_str()).collect();
    let hashes: Vec<_> = subjects.iter().map(|it| it.subject.as_slice()).collect();
    let failures: Vec<_> = policies.iter().map(|it| it.failures).collect();
    let first: Vec<_> = policies.iter().map(|it| it.first_ms).collect();
    let longest: Vec<_> = policies.iter().map(|it| it.longest_ms).collect();
    let window: Vec<_> = policies.iter().map(|it| it.window_ms).collect();
    let rows = db
        .query(
            ATTEMPT,
            &[
                &kinds, &hashes, &failures, &first, &longest, &window, &address, &request,
            ],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("a sign-in was not counted")))?;
    let found = match row_get::<Option<&str>>(row, "account")? {
        None => None,
        Some(_) => Some(license::id(row)?).zip(row_get(row, "password_hash")?),
    };
    let wait = row_get::<Option<i64>>(row, "wait_ms")?
        .map(|wait| Duration::from_millis(u64::try_from(wait).unwrap_or_default()));
    Ok(Attempt { wait, found })
}

/// A part of [`ATTEMPT`]'s WITH: counts the attempt in one throttle, if that is asked for, the condition holds and the
/// throttle is open. It returns a row if it counted, or if it counted the same request last.
macro_rules! count {
    ($name:literal, $kind:literal, if $condition:literal) => {
        concat!(
            "), ",
            $name,
            " AS (
             INSERT INTO sign_in_failure AS f (kind, subject, failures, blocked_until, forget_at, request)
             SELECT kind, subject, 1, clock_timestamp(), clock_timestamp() + span, $8::bytea
             FROM asked WHERE kind = '",
            $kind,
            "' AND ",
            $condition,
            "
             ON CONFLICT (kind, subject) DO UPDATE SET (failures, blocked_until, forget_at, request) = (
                 SELECT CASE WHEN n.twin THEN f.failures ELSE n.failures END,
                        CASE WHEN n.twin THEN f.blocked_until
                             WHEN n.failures < a.allowed THEN clock_timestamp()
                             ELSE clock_timestamp() + least(a.longest_ms,
                                 a.first_ms << least(n.failures - a.allowed, 20)) * interval '1 millisecond' END,
                        CASE WHEN n.twin OR n.failures > 1 THEN f.forget_at ELSE clock_timestamp() + a.span END,
                        excluded.request
                 FROM asked a, LATERAL (
                     SELECT coalesce(f.request = excluded.request, false) AS twin,
                            CASE WHEN f.forget_at <= clock_timestamp() THEN 1 ELSE f.failures + 1 END AS failures
                 ) n
                 WHERE a.kind = f.kind
             )
             WHERE f.blocked_until <= clock_timestamp() OR f.request = excluded.request
             RETURNING f.kind"
        )
    };
}

// Nothing is counted while any of the throttles is closed (`shut`). Else they count one after the other, each only if the
// one before let the sign-in through. The order is always the same, so that no two transactions deadlock; the overall
// share is last, so that it counts only attempts that get as far as the password.
const ATTEMPT: &str = concat!(
    "-- attempt_sign_in
    WITH asked AS MATERIALIZED (
        SELECT kind, subject, allowed, first_ms, longest_ms, window_ms * interval '1 millisecond' AS span
        FROM unnest($1::text[], $2::bytea[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[])
            AS a (kind, subject, allowed, first_ms, longest_ms, window_ms)
    ), shut AS MATERIALIZED (
        SELECT f.blocked_until FROM asked a JOIN sign_in_failure f ON f.kind = a.kind AND f.subject = a.subject
        WHERE f.blocked_until > clock_timestamp() AND (f.request = $8) IS NOT TRUE
    ",
    count!("client", "CLIENT", if "NOT EXISTS (SELECT FROM shut)"),
    count!("login", "LOGIN", if "NOT EXISTS (SELECT FROM shut) AND (
        EXISTS (SELECT FROM client) OR NOT EXISTS (SELECT FROM asked WHERE kind = 'CLIENT'))"),
    count!("overall", "OVERALL", if "EXISTS (SELECT FROM login)"),
    "), counted AS (
        SELECT kind FROM client UNION ALL SELECT kind FROM login UNION ALL SELECT kind FROM overall
    )
    SELECT CASE WHEN (SELECT count(*) FROM counted) < (SELECT count(*) FROM asked) THEN (
               SELECT greatest(max(ceil(extract(epoch FROM blocked_until - clock_timestamp()) * 1000)), 1000) FROM shut
           )::bigint END AS wait_ms,
           l.account, l.group_id, l.number, l.password_hash
    FROM (SELECT 1) once
    LEFT JOIN activation_address d ON d.address = $7
    LEFT JOIN license l ON l.account = d.account AND l.group_id = d.group_id AND l.number = d.number"
);

/// Uncounts a sign-in that succeeded: the count of its login becomes 0, those of the others fall by one.
pub(crate) fn uncount(tx: &mut Tx, subjects: Vec<Subject>) {
    let (kinds, hashes) = columns(subjects);
    tx.write(UNCOUNT, params![kinds, hashes], Rows::Any);
}

/// The same in a transaction of its own.
pub(crate) async fn uncount_now(db: &Db, subjects: Vec<Subject>) -> Result<(), Error> {
    let (kinds, hashes) = columns(subjects);
    db.execute(UNCOUNT, &[&kinds, &hashes]).await.map(|_| ())
}

fn columns(subjects: Vec<Subject>) -> (Vec<&'static str>, Vec<Vec<u8>>) {
    subjects
        .into_iter()
        .map(|it| (it.throttle.as_str(), it.subject))
        .unzip()
}

const UNCOUNT: &str = "-- uncount_sign_in
    UPDATE sign_in_failure f SET
        failures = CASE WHEN f.kind = 'LOGIN' THEN 0 ELSE greatest(f.failures - 1, 0) END,
        blocked_until = clock_timestamp()
    FROM (
        SELECT f.kind, f.subject
        FROM sign_in_failure f
        JOIN unnest($1::text[], $2::bytea[]) AS a (kind, subject) USING (kind, subject)
        ORDER BY f.kind FOR NO KEY UPDATE OF f
    ) locked
    WHERE f.kind = locked.kind AND f.subject = locked.subject";

const OVER: &str = "-- sign_in_failures_over
    SELECT kind, subject, greatest(forget_at, blocked_until) AS over_at FROM sign_in_failure
    WHERE greatest(forget_at, blocked_until) < now() AND greatest(forget_at, blocked_until) >= $1
    ORDER BY greatest(forget_at, blocked_until) LIMIT $2";

/// At most so many counters whose window and lock are over, from an instant on, which goes on to the last one's: the keys
/// of [`delete_over`].
pub(crate) async fn over(db: &Db, from: &mut Timestamp, most: i64) -> Result<Vec<Params>, Error> {
    let params = [
        (&*from as &(dyn ToSql + Sync), Type::TIMESTAMPTZ),
        (&most, Type::INT8),
    ];
    let rows = db.query_planned(OVER, &params).await?;
    if let Some(last) = rows.last() {
        *from = row_get(last, "over_at")?;
    }
    let key = |row| {
        let (kind, subject): (String, Vec<u8>) = (row_get(row, "kind")?, row_get(row, "subject")?);
        Ok(params![kind, subject])
    };
    rows.iter().map(key).collect()
}

/// Deletes a counter, unless it counts again. IS TRUE leaves the index on that out: it has all that are over.
pub(crate) fn delete_over(tx: &mut Tx, key: Params) {
    tx.write(
        "-- delete_sign_in_failure
         DELETE FROM sign_in_failure
         WHERE kind = $1 AND subject = $2 AND (greatest(forget_at, blocked_until) < now()) IS TRUE",
        key,
        Rows::Any,
    );
}
