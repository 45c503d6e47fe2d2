//! Transactions in two round trips: BEGIN travels with the idempotency record and the locking read, and every write,
//! event and audit row travels with COMMIT. The database itself stops a pipeline whose guard misses.

use std::ops::Deref;
use std::time::{Duration, Instant};

use futures_util::future::{OptionFuture, join, join3, join4};
use prost::Message;
use serde_json::Value;
use tokio::time::sleep;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::call::{Call, IdempotencyKey};
use crate::db::pipeline::{Sent, Write, in_order, prepare, send};
use crate::db::{Connection, Db, Params, REPLAY, Reads, replayed, row_get};
use crate::error::Error;
use crate::new_event::NewEvent;
use crate::params;
use crate::trail::{
    self, APPEND, APPEND_FIRST, APPEND_TYPES, APPENDED_AT_ONCE, AUDIT, Change, MANY,
};

/// A command older than this refuses its final write: `complete_through` trails the clock by twice as much.
const COMMAND_AGE: Duration = Duration::from_secs(30);
/// For how long what another service asks for is tried while it is locked, and how long it waits without a connection
/// between two tries.
const LOCKED: Duration = Duration::from_secs(4);
const LOCK_WAIT: Duration = Duration::from_millis(100);
/// What else the transaction waits for is waited for as long as a caller would.
const PATIENT: &str = "SET LOCAL lock_timeout TO DEFAULT";

/// How many rows a write must touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Exactly so many, or the transaction fails with [`Error::Conflict`]. The statement must be a plain INSERT, UPDATE
    /// or DELETE without RETURNING.
    Exactly(u64),
    /// Any number.
    Any,
}

/// An open transaction. Dropped without a commit it is rolled back.
pub struct Tx {
    reads: Reads,
    db: Db,
    call: Box<Call>,
    /// How old the call was when the transaction had begun.
    begun: Duration,
    key: Option<IdempotencyKey>,
    writes: Vec<Write>,
    /// How many writes were sent before these.
    sent: usize,
    events: Vec<NewEvent>,
    changes: Vec<Change>,
    /// Lasts as long.
    _span: tracing::Span,
}

impl Db {
    /// Begins a command: BEGIN, the idempotency record and the (locking) read in one round trip. Twins in flight wait
    /// here for the first one's outcome.
    ///
    /// # Errors
    /// [`Error::Replayed`] when the same request was answered before, [`Error::RequestIdReused`], or the database's.
    pub async fn begin(
        &self,
        call: &Call,
        account: &str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(Tx, Vec<Row>), Error> {
        let Some(key) = call.key(account) else {
            return self.begin_work(call, sql, params).await;
        };
        let client = self.connection().await?;
        let claim = client.prepare_cached(CLAIM).await?;
        let replay = client.prepare_cached(REPLAY).await?;
        let read = client.prepare_cached(sql).await?;
        let mut tx = Tx::new(self, call, client);
        let client = tx.reads.client()?;
        let id: [&(dyn ToSql + Sync); 3] = [&key.account, &key.method, &key.request_id];
        let (begun, claimed, earlier, rows) = join4(
            begin(client, call),
            client.execute(
                &claim,
                &[id[0], id[1], id[2], &key.fingerprint, &key.lasting],
            ),
            client.query_opt(&replay, &id),
            client.query(&read, params),
        )
        .await;
        tx.begun = begun?;
        if claimed? == 1 {
            let rows = rows?;
            tx.key = Some(key);
            return Ok((tx, rows));
        }
        let earlier = earlier?;
        tx.rollback().await;
        if let Some(row) = earlier {
            replayed(&row, &key.fingerprint)?;
        }
        Err(Error::Conflict("the same request was under way"))
    }

    /// Begins without idempotency, for background work and for the steps of a command in between. What another service
    /// asks waits for a lock with a connection only briefly at a time.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_work(
        &self,
        call: &Call,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(Tx, Vec<Row>), Error> {
        let since = Instant::now();
        loop {
            match self.try_begin(call, sql, params).await {
                Err(Error::Conflict(_)) if call.is_a_services() && since.elapsed() < LOCKED => {
                    sleep(LOCK_WAIT).await;
                }
                begun => return begun,
            }
        }
    }

    async fn try_begin(
        &self,
        call: &Call,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(Tx, Vec<Row>), Error> {
        let client = self.connection().await?;
        let read = client.prepare_cached(sql).await?;
        let mut tx = Tx::new(self, call, client);
        let client = tx.reads.client()?;
        let patient = async {
            match call.is_a_services() {
                true => client.batch_execute(PATIENT).await,
                false => Ok(()),
            }
        };
        let read = client.query(&read, params);
        let (begun, rows, patient) = join3(begin(client, call), read, patient).await;
        tx.begun = begun?;
        let rows = rows?;
        patient?;
        Ok((tx, rows))
    }
}

impl Db {
    /// Begins background work that has read before what it writes, and writes nothing else than what is still so.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_writes(&self, call: &Call) -> Result<Tx, Error> {
        Ok(self.begin_work(call, "SELECT", &[]).await?.0)
    }
}

impl Tx {
    fn new(db: &Db, call: &Call, client: Connection) -> Self {
        Self {
            reads: Reads::new(client),
            db: db.clone(),
            call: Box::new(call.clone()),
            begun: Duration::ZERO,
            key: None,
            writes: Vec::new(),
            sent: 0,
            events: Vec::new(),
            changes: Vec::new(),
            _span: tracing::debug_span!("transaction", call.method),
        }
    }

    /// The call that the transaction serves.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Business time now, which is later than the call's where the transaction waited.
    pub fn now(&self) -> jiff::Timestamp {
        self.db.clock.now()
    }

    /// Up to which instant another service has told everything; none before it first did. One more round trip, on this
    /// transaction's own connection: who holds one and waits for another can starve the pool.
    ///
    /// # Errors
    /// The database's.
    pub async fn complete_through(&self, source: &str) -> Result<Option<jiff::Timestamp>, Error> {
        let rows = self
            .query(
                "-- complete_through
                 SELECT complete_through FROM intake_progress WHERE source = $1",
                &[&source],
            )
            .await?;
        let row = rows.first();
        row.map(|row| row_get(row, "complete_through")).transpose()
    }

    /// Queues a write until the commit.
    pub fn write(&mut self, sql: &str, mut params: Params, rows: Rows) {
        let sql = match rows {
            Rows::Any => sql.to_owned(),
            // The number is a value: in the text it would make a statement of its own to prepare, and to keep, of each.
            Rows::Exactly(expected) => {
                params.push(Box::new(i64::try_from(expected).unwrap_or(i64::MAX)));
                format!(
                    "WITH touched AS ({sql}\nRETURNING 1) \
                     SELECT expect_rows((SELECT count(*) FROM touched), ${})",
                    params.len()
                )
            }
        };
        self.writes.push(Write {
            sql,
            params,
            types: &[],
        });
    }

    /// Queues an event; it is appended, with its deliveries, at the commit. Where events of several accounts are queued,
    /// each is the first of its aggregate.
    pub fn emit(&mut self, event: NewEvent) {
        self.events.push(event);
    }

    /// Queues an audit row, added at the commit. Neither side may hold a secret.
    pub fn audit(&mut self, resource: &str, before: Option<Value>, after: Option<Value>) {
        self.changes.push(Change {
            at: self.call.now,
            resource: resource.to_owned(),
            before,
            after,
        });
    }

    /// From here on it serves what took effect at `now`, in this trace.
    pub(crate) fn serve(&mut self, now: jiff::Timestamp, traceparent: &str) {
        self.call.now = now;
        traceparent.clone_into(&mut self.call.traceparent);
    }

    /// How many writes were queued so far, sent ones too.
    pub(crate) fn written(&self) -> usize {
        self.sent + self.writes.len()
    }

    /// Takes back the write that was queued last.
    pub(crate) fn withdraw(&mut self) {
        self.writes.pop();
    }

    /// Sends what is queued, without COMMIT: the next read sees it.
    ///
    /// # Errors
    /// The database's, and which of all writes met it.
    pub async fn flush(&mut self) -> Result<(), (Option<usize>, Error)> {
        let writes = std::mem::take(&mut self.writes);
        let somewhere = |error| (None, error);
        let client = self.reads.client().map_err(somewhere)?;
        let statements = prepare(client, &writes).await.map_err(somewhere)?;
        let results = in_order(send(client, &statements, &writes), None).await;
        for (at, result) in results.into_iter().enumerate() {
            result.map_err(|error| (Some(self.sent + at), error.into()))?;
        }
        self.sent += writes.len();
        Ok(())
    }

    /// Whether the commit would do anything.
    pub(crate) fn is_queued(&self) -> bool {
        !(self.writes.is_empty() && self.events.is_empty())
    }

    /// Sends everything with COMMIT, and keeps the answer when the call is repeatable.
    ///
    /// # Errors
    /// The database's; [`Error::OutcomeUnknown`] when the connection broke before COMMIT was answered.
    pub async fn commit<R: Message>(mut self, answer: &R) -> Result<(), Error> {
        if let Some(key) = self.key.take() {
            let params = params![
                key.account,
                key.method,
                key.request_id,
                answer.encode_to_vec()
            ];
            self.write(
                "-- answer
                 UPDATE idempotency SET answer = $4
                 WHERE account = $1 AND method = $2 AND request_id = $3",
                params,
                Rows::Exactly(1),
            );
        }
        self.commit_work().await
    }

    /// Commits background work or a step in between: there is no answer to keep.
    ///
    /// # Errors
    /// As [`Tx::commit`].
    pub async fn commit_work(mut self) -> Result<(), Error> {
        let age = self.db.clock.now().duration_since(self.call.now);
        let limit = jiff::SignedDuration::try_from(COMMAND_AGE).unwrap_or_default();
        // Background work names the due instant as its own, however late it runs; only its machine time counts.
        if self.call.started.elapsed() > COMMAND_AGE || (!self.call.background && age > limit) {
            self.rollback().await;
            return Err(Error::TookTooLong);
        }
        let emitted = !self.events.is_empty();
        self.queue_trail();
        // Writes may wait and COMMIT must not follow too late, so the database looks at the age once more, after them.
        self.write(
            YOUNG,
            params![micros(self.begun), micros(COMMAND_AGE)],
            Rows::Any,
        );
        let writes = std::mem::take(&mut self.writes);
        let client = self.reads.client()?;
        let statements = prepare(client, &writes).await?;
        let commit: Sent<'_> =
            Box::pin(async { client.batch_execute("COMMIT").await.map(|()| Vec::new()) });
        let mut results = in_order(send(client, &statements, &writes), Some(commit)).await;
        let committed = if results.len() > writes.len() {
            results.pop()
        } else {
            None
        };
        // COMMIT after a failed statement answers well though it rolled back, so every write is looked at first.
        let failed = results.into_iter().find_map(Result::err);
        match (failed, committed) {
            (None, Some(Ok(_))) => {
                self.reads.take();
                if emitted {
                    self.db.hint.notify_waiters();
                }
                Ok(())
            }
            // The database's own word: nothing was done, and COMMIT has ended the transaction.
            (Some(error), Some(Ok(_))) if error.code().is_some() => {
                self.reads.take();
                Err(error.into())
            }
            // COMMIT never left, or was refused. The connection is rolled back on drop.
            (Some(error), committed) if error.code().is_some() || committed.is_none() => {
                Err(error.into())
            }
            (None, Some(Err(error))) if error.code().is_some() => Err(error.into()),
            _ => {
                if let Some(client) = self.reads.take() {
                    client.discard();
                }
                Err(Error::OutcomeUnknown)
            }
        }
    }

    /// Ends the transaction without effect.
    pub async fn rollback(mut self) {
        if let Some(client) = self.reads.take() {
            roll_back(client).await;
        }
    }

    fn queue_trail(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            let rows = Rows::Exactly(changes.len() as u64);
            let params = trail::audited(changes, &self.call);
            self.write(AUDIT, params, rows);
        }
        let recorded = self.db.clock.now();
        for events in std::mem::take(&mut self.events).chunks(APPENDED_AT_ONCE) {
            let mut params = trail::appended(events, &self.call, recorded);
            let (mut sql, mut types) = (APPEND_FIRST, &APPEND_TYPES[..APPEND_TYPES.len() - 1]);
            if let Some(account) = trail::one_account(events) {
                (sql, types) = (APPEND, &APPEND_TYPES);
                params.push(Box::new(account.to_owned()));
            }
            let few = events.len() < MANY;
            if few && !self.call.background {
                self.write(SAME_PLAN, params![], Rows::Any);
            }
            self.writes.push(Write {
                sql: sql.to_owned(),
                params,
                types: if few { &[] } else { types },
            });
        }
    }
}

/// Within a transaction each further read sees what it holds locked.
impl Deref for Tx {
    type Target = Reads;

    fn deref(&self) -> &Reads {
        &self.reads
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(client) = self.reads.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(roll_back(client));
            }
            // Nobody is left to roll it back, so the connection must not go back to the pool.
            Err(_) => client.discard(),
        }
    }
}

/// Begins, and tells how old the call was by then: from here on the database's clock counts. Background work waits for a
/// lock only briefly: what is locked holds up nothing else, and is tried again. So do the services for each other, at
/// first.
async fn begin(client: &Connection, call: &Call) -> Result<Duration, tokio_postgres::Error> {
    // Apart: a cluster tells its nodes the whole text that a setting is in.
    let brief = match (call.is_a_services(), call.patient) {
        (true, _) => Some("SET LOCAL lock_timeout = '20ms'"),
        (false, false) => Some("SET LOCAL lock_timeout = '100ms'"),
        (false, true) => None,
    };
    let brief = brief.map(|brief| client.batch_execute(brief));
    let (begun, brief) = join(client.batch_execute("BEGIN"), OptionFuture::from(brief)).await;
    begun.and(brief.unwrap_or(Ok(())))?;
    Ok(call.started.elapsed())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

async fn roll_back(client: Connection) {
    if client.batch_execute("ROLLBACK").await.is_err() {
        client.discard();
    }
}

/// To plan what appends a few events takes longer than to do it, and the plan is the same each time: by the index, however
/// small the table is by then. A cluster has none that does for all accounts.
const SAME_PLAN: &str = "-- same_plan
    SELECT set_config('plan_cache_mode', CASE WHEN current_setting('citus.shard_count', true) IS NULL
        THEN 'force_generic_plan' ELSE 'auto' END, true), set_config('enable_seqscan', 'off', true)";

const YOUNG: &str = "-- young
    SELECT expect_young($1, $2)";

const CLAIM: &str = "-- claim
    INSERT INTO idempotency (account, method, request_id, fingerprint, lasting)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
