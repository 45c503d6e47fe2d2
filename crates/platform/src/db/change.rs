//! The one way in which commands change what is stored: lock it, compare its etag, let its domain decide, save it with
//! its events and its audit row, and answer.

use prost::Message;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::call::Call;
use crate::db::Db;
use crate::error::Error;
use crate::name::{Name, check_etag};
use crate::tx::Tx;

/// What commands change one at a time, under its row lock.
pub trait Aggregate: Sized {
    /// Its name's type.
    type Id: Name;
    /// What answers tell of it. The answer is stored with the change, so that the same request can have it again.
    type Wire: Message + Default + for<'a> From<&'a Self>;

    /// Its name.
    fn id(&self) -> &Self::Id;
    /// Its etag; rises with every change.
    fn version(&self) -> i64;
    /// What the audit keeps of it: no secret.
    fn audited(&self) -> Value;
}

/// An aggregate that a command holds locked.
pub struct Held<A> {
    /// The open transaction.
    pub tx: Tx,
    /// The aggregate as it is.
    pub now: A,
    /// The row that it was read from, which may say more.
    pub row: Row,
}

impl Db {
    /// Locks an aggregate, changes it, and answers. `change` decides and queues the writes on the transaction; whatever
    /// it refuses, nothing is done. The statement and its values lock one row; what it finds is read by `from_row`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::EtagMismatch`], those of `change`, and those of [`Db::begin`] and [`Tx::commit`].
    pub async fn change<A: Aggregate>(
        &self,
        call: &Call,
        (id, etag): (&A::Id, &str),
        (lock, key): (&str, &[&(dyn ToSql + Sync)]),
        from_row: fn(&Row) -> Result<A, Error>,
        change: impl FnOnce(&mut Held<A>) -> Result<A, Error>,
    ) -> Result<A::Wire, Error> {
        let account = id.account().unwrap_or("-");
        let (tx, rows) = self.begin(call, account, lock, key).await?;
        let mut held = Held::new(tx, rows, (id, etag), from_row)?;
        let after = change(&mut held)?;
        held.keep(&after).await
    }
}

impl<A: Aggregate> Held<A> {
    /// What a locking read found, when it is what the command was meant for.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::EtagMismatch`], that of `from_row`.
    pub fn new(
        tx: Tx,
        rows: Vec<Row>,
        (id, etag): (&A::Id, &str),
        from_row: fn(&Row) -> Result<A, Error>,
    ) -> Result<Self, Error> {
        let row = rows.into_iter().next();
        let row = row.ok_or_else(|| tx.call().not_found(id))?;
        let now = from_row(&row)?;
        check_etag(etag, now.version(), id)?;
        Ok(Self { tx, now, row })
    }

    /// Commits the change, whose writes are queued, and answers.
    ///
    /// # Errors
    /// As [`Tx::commit`].
    pub async fn keep(self, after: &A) -> Result<A::Wire, Error> {
        self.tx.keep(Some(&self.now), after).await
    }
}

impl Tx {
    /// Commits what was created, or changed from `before`, with its audit row, and answers. What stayed as it was leaves no
    /// trace.
    ///
    /// # Errors
    /// [`Error::Internal`] when something was queued though the version stayed: it would leave no audit row. As
    /// [`Tx::commit`].
    pub async fn keep<A: Aggregate>(
        mut self,
        before: Option<&A>,
        after: &A,
    ) -> Result<A::Wire, Error> {
        if before.is_none_or(|before| before.version() != after.version()) {
            self.audit(
                &after.id().to_string(),
                before.map(A::audited),
                Some(after.audited()),
            );
        } else if self.is_queued() {
            let what = anyhow::anyhow!("{} was changed without a new version", after.id());
            return Err(Error::Internal(what));
        }
        let answer = A::Wire::from(after);
        self.commit(&answer).await?;
        Ok(answer)
    }
}
