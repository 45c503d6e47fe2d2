//! The pool and reads. Writes are in `tx`.

pub mod change;
mod forget;
pub mod migrate;
mod part;
mod pipeline;
pub mod share;
pub(crate) mod trail;
pub mod tx;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Status, Timeouts,
};
use futures_util::TryStreamExt as _;
use futures_util::future::join;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{NoTls, Row};

use crate::call::Call;
use crate::clock::Clock;
use crate::error::Error;
use crate::name::Name;
use crate::share::{Place, Places, SHARES, Share, Turn, Waits, Whose};

/// How many connections a service holds unless told otherwise.
pub const DEFAULT_POOL: usize = 16;

/// A service's database: a pool of connections whose search path is the service's schema.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    places: Arc<Places>,
    waits: Waits,
    pub(crate) clock: Clock,
    pub(crate) hint: Arc<Notify>,
}

/// A value of a metric's label, and what the gauges show for it.
pub type Shown = (String, Vec<i64>);

/// Values for a statement that is sent later. Made by [`params!`](crate::params).
pub type Params = Vec<Box<dyn ToSql + Sync + Send>>;

/// Boxes values for a statement that is sent later.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        vec![$(Box::new($value) as Box<dyn $crate::ToSql + Sync + Send>),*]
    };
}

/// A connection of the pool, and the place that it takes there.
pub(crate) struct Connection {
    // Dropped first: it is back before another has its place.
    object: Object,
    _place: Place,
}

impl Connection {
    /// Closes it instead of giving it back.
    pub(crate) fn discard(self) {
        drop(Object::take(self.object));
    }
}

impl Deref for Connection {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}

/// A connection to read on, in a transaction or in none. Reads that are polled together travel together, in one round
/// trip.
pub struct Reads {
    client: Option<Connection>,
}

impl Reads {
    pub(crate) fn new(client: Connection) -> Self {
        Self {
            client: Some(client),
        }
    }

    pub(crate) fn client(&self) -> Result<&Connection, Error> {
        self.client
            .as_ref()
            .ok_or_else(|| Error::Internal(anyhow::anyhow!("a transaction used after its end")))
    }

    pub(crate) fn take(&mut self) -> Option<Connection> {
        self.client.take()
    }

    /// Reads in one round trip. Of reads that are joined with `try_join!` the one that failed itself has the say, and not
    /// one that its failure took along.
    ///
    /// # Errors
    /// The database's.
    pub async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let client = self.client()?;
        let read = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, params).await
        };
        let rows = read.await;
        if let Err(error) = &rows
            && error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
        {
            // The statement that failed was answered before: whoever joined it with this one finds that at the next look.
            // Twice, as `try_join!` begins each look with another one.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        Ok(rows?)
    }

    /// As [`Reads::query`], row by row as they come, for more rows than are held at once.
    ///
    /// # Errors
    /// The database's, or what `take` finds wrong with a row.
    pub async fn each(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        mut take: impl FnMut(&Row) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await?;
        let rows = client.query_raw(&statement, params.iter().copied());
        let mut rows = std::pin::pin!(rows.await?);
        while let Some(row) = rows.try_next().await? {
            take(&row)?;
        }
        Ok(())
    }
}

impl Db {
    /// A pool over `config`; nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Internal`] when the pool cannot be made.
    pub fn new(
        config: &tokio_postgres::Config,
        schema: &str,
        size: usize,
        clock: Clock,
    ) -> Result<Self, Error> {
        let manager = Manager::from_config(
            limited(config, schema),
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(size)
            .timeouts(Timeouts {
                wait: Some(Duration::from_secs(10)),
                create: Some(Duration::from_secs(5)),
                recycle: Some(Duration::from_secs(5)),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Internal(error.into()))?;
        let waits =
            Waits::new_with_constructor(|| Histogram::new([0.001, 0.01, 0.1, 1.0, 5.0, 10.0]));
        Ok(Self {
            pool,
            places: Places::new(size, &waits),
            waits,
            clock,
            hint: Arc::new(Notify::new()),
        })
    }

    /// The pool's connections as they are now.
    pub fn pool(&self) -> Status {
        self.pool.status()
    }

    /// How long connections were waited for.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// How many wait for a connection, by share.
    pub fn waiting(&self) -> [(&'static str, usize); 3] {
        let waiting = self.places.waiting();
        [0, 1, 2].map(|share| (SHARES[share], waiting[share]))
    }

    /// Waits until it is a call's turn, and keeps its first connection for it.
    ///
    /// # Errors
    /// [`Error::TooManyCalls`], but not for background work; [`Error::Overloaded`].
    pub async fn turn(&self, share: Share, caller: Whose) -> Result<Turn, Error> {
        let place = self.places.enter(share, &caller, false).await?;
        Ok(Turn::new(share, caller).with(place))
    }

    /// A connection of the pool, in its turn.
    pub(crate) async fn connection(&self) -> Result<Connection, Error> {
        let _place = self.places.own().await?;
        match self.pool.get().await {
            Ok(object) => Ok(Connection { object, _place }),
            Err(error) => {
                tracing::warn!(%error, "no database connection");
                let message = "the database cannot be reached now; try again";
                Err(Error::Unavailable(message.to_owned()))
            }
        }
    }

    /// A connection for several reads that travel together. Each sees what is committed when it runs.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn reads(&self) -> Result<Reads, Error> {
        Ok(Reads::new(self.connection().await?))
    }

    /// One statement in one round trip; one that writes is a transaction of its own.
    ///
    /// # Errors
    /// The database's.
    pub async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.reads().await?.query(sql, params).await
    }

    /// As [`Db::query`], but planned for these very values, in the same one round trip. For queues, which grow a
    /// thousandfold between two looks: a plan kept from when the table was small would scan it.
    ///
    /// # Errors
    /// The database's.
    pub async fn query_planned(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let client = self.connection().await?;
        Ok(client.query_typed(sql, params).await?)
    }

    /// As [`Db::query_planned`], for a second at most, also when nobody waits for it any more: a connection that goes back
    /// with its statement under way keeps its next user waiting.
    ///
    /// # Errors
    /// The database's.
    pub async fn query_briefly(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let begin = ["BEGIN READ ONLY", "SET LOCAL statement_timeout = '1s'"];
        self.query_after(begin, sql, params).await
    }

    /// As [`Db::query_planned`], with each row of a given list found by its key, however few the planner takes the others
    /// for: by its estimate it might read all of a queue instead. What it writes does not wait for the disk.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn query_by_key(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        self.query_after(["BEGIN", BY_KEY], sql, params).await
    }

    /// A statement in a transaction that begins so and has these settings, in one round trip. Two texts: a cluster tells its
    /// nodes the whole one that a setting is in.
    async fn query_after(
        &self,
        [begin, settings]: [&str; 2],
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        let client = self.connection().await?;
        let begin = client.batch_execute(begin);
        let set = client.batch_execute(settings);
        let rows = client.query_typed(sql, params);
        let (begun, set, rows, ended) =
            tokio::join!(begin, set, rows, client.batch_execute("COMMIT"));
        begun.and(set)?;
        let rows = rows?;
        ended?;
        Ok(rows)
    }

    /// As [`Db::query`], for one row at most.
    ///
    /// # Errors
    /// The database's.
    pub async fn query_opt(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Error> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// A single statement that writes, in a transaction of its own; answers how many rows it touched.
    ///
    /// # Errors
    /// The database's.
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let client = self.connection().await?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.execute(&statement, params).await?)
    }

    /// Reads a list's rows in one round trip. They are left-joined to the list's parent, and their first column is their
    /// account: no row means no parent, and a row without an account means that the parent has none.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the parent; the database's.
    pub async fn list<N: Name, T>(
        &self,
        call: &Call,
        parent: &N,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        row: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.query(sql, params).await?;
        let first = rows.first();
        let first = first.ok_or_else(|| call.no_list(call.not_found(parent)))?;
        if first.try_get::<_, Option<&str>>(0)?.is_none() {
            return Ok(Vec::new());
        }
        rows.iter().map(row).collect()
    }

    /// Goes on when this request did not come before.
    ///
    /// # Errors
    /// [`Error::Replayed`] when it did, [`Error::RequestIdReused`] when it came with another body; the database's.
    pub async fn replay(&self, call: &Call, account: &str) -> Result<(), Error> {
        let Some(key) = call.key(account) else {
            return Ok(());
        };
        let row = self
            .query_opt(REPLAY, &[&key.account, &key.method, &key.request_id])
            .await?;
        row.map_or(Ok(()), |row| replayed(&row, &key.fingerprint))
    }

    /// What [`Db::begin`] would find, in one round trip and in no transaction. For a command that does much before it
    /// begins, so that it does so for nothing less often. The read runs first: what the same request did is not seen
    /// without its answer.
    ///
    /// # Errors
    /// As [`Db::begin`].
    pub async fn look(
        &self,
        call: &Call,
        account: &str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let client = self.connection().await?;
        let read = client.prepare_cached(sql).await?;
        let Some(key) = call.key(account) else {
            return Ok(client.query(&read, params).await?);
        };
        let replay = client.prepare_cached(REPLAY).await?;
        let id: [&(dyn ToSql + Sync); 3] = [&key.account, &key.method, &key.request_id];
        let (rows, earlier) =
            join(client.query(&read, params), client.query_opt(&replay, &id)).await;
        if let Some(row) = earlier? {
            replayed(&row, &key.fingerprint)?;
        }
        Ok(rows?)
    }
}

/// Has a transaction's statements look up each row of a list that they are given. It writes leases and what was taken under
/// them: what is lost when the server dies is done again, so that none of it waits for the disk.
pub const BY_KEY: &str = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_seqscan = off; SET LOCAL enable_material = off; SET LOCAL synchronous_commit = off";

/// The record of a request id.
pub(crate) const REPLAY: &str = "-- replay
    SELECT fingerprint, answer FROM idempotency
    WHERE account = $1 AND method = $2 AND request_id = $3";

/// Goes on when a record that [`REPLAY`] found has no answer yet.
///
/// # Errors
/// [`Error::Replayed`], or [`Error::RequestIdReused`].
pub(crate) fn replayed(row: &Row, fingerprint: &[u8]) -> Result<(), Error> {
    let stored: &[u8] = row_get(row, "fingerprint")?;
    if stored != fingerprint {
        return Err(Error::RequestIdReused);
    }
    match row_get(row, "answer")? {
        Some(answer) => Err(Error::Replayed(answer)),
        None => Ok(()),
    }
}

/// A column of a row, by name.
///
/// # Errors
/// [`Error::Database`], naming the column, when it is missing or of another type.
pub fn row_get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, Error> {
    row.try_get(column).map_err(Error::Database)
}

/// The configuration with the schema and every time-out set: no statement, lock or idle transaction lasts without
/// limit. Nothing is compiled: that takes longer than any statement here, and the cost that makes it seem worth it is
/// the one that forbids a scan of a table. A cluster's nodes are told what a transaction sets.
fn limited(config: &tokio_postgres::Config, schema: &str) -> tokio_postgres::Config {
    let mut config = config.clone();
    let given = config.get_options().unwrap_or_default().to_owned();
    config.options(format!(
        "{given} -c search_path={schema} -c statement_timeout=20s -c lock_timeout=10s \
         -c idle_in_transaction_session_timeout=30s -c timezone=UTC -c client_min_messages=warning -c jit=off \
         -c citus.propagate_set_commands=local"
    ));
    config.application_name(format!("octroi-{schema}"));
    config.connect_timeout(Duration::from_secs(5));
    config
}

/// A connection outside the pool, for migrations and for what is read before a service starts.
///
/// # Errors
/// The database's.
pub async fn connect(
    config: &tokio_postgres::Config,
    schema: &str,
) -> Result<tokio_postgres::Client, Error> {
    let mut config = limited(config, schema);
    let given = config.get_options().unwrap_or_default().to_owned();
    // What a migration sets is not told to a cluster's nodes: they would be told the whole migration.
    config.options(format!(
        "{given} -c statement_timeout=0 -c lock_timeout=0 -c citus.propagate_set_commands=none"
    ));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a database connection broke");
        }
    });
    Ok(client)
}
