//! Statements that travel together.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_util::future::maybe_done;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::{Connection, Params};
use crate::error::Error;

pub(super) struct Write {
    pub(super) sql: String,
    pub(super) params: Params,
    /// The parameters' types, when the statement is to be planned for these very values; or else none.
    pub(super) types: &'static [Type],
}

/// The statement of each write; none where it is planned for its values.
pub(super) async fn prepare(
    client: &Connection,
    writes: &[Write],
) -> Result<Vec<Option<Statement>>, Error> {
    let mut statements = Vec::with_capacity(writes.len());
    for write in writes {
        statements.push(match write.types {
            [] => Some(client.prepare_cached(&write.sql).await?),
            _ => None,
        });
    }
    Ok(statements)
}

pub(super) type SentResult = Result<Vec<Row>, tokio_postgres::Error>;
pub(super) type Sent<'a> = Pin<Box<dyn Future<Output = SentResult> + Send + 'a>>;

pub(super) fn send<'a>(
    client: &'a Connection,
    statements: &'a [Option<Statement>],
    writes: &'a [Write],
) -> Vec<Sent<'a>> {
    statements
        .iter()
        .zip(writes)
        .map(|(statement, write)| {
            Box::pin(async move {
                let values = write.params.iter();
                let values = values.map(|value| value.as_ref() as &(dyn ToSql + Sync));
                let Some(statement) = statement else {
                    let typed: Vec<_> = values.zip(write.types.iter().cloned()).collect();
                    return client.query_typed(&write.sql, &typed).await;
                };
                let values: Vec<_> = values.collect();
                client.query(statement, &values).await
            }) as Sent<'a>
        })
        .collect()
}

/// Runs statements together, always polling the first ones first: the driver sends a statement at its first poll, so
/// statements leave in this order and in one go. `last` follows only when each statement could be sent: one whose
/// values do not fit fails before it leaves, and must not be followed by COMMIT.
pub(super) async fn in_order<'a>(
    statements: Vec<Sent<'a>>,
    last: Option<Sent<'a>>,
) -> Vec<SentResult> {
    let mut all: Vec<_> = statements
        .into_iter()
        .map(|future| Box::pin(maybe_done(future)))
        .collect();
    poll_fn(|context| {
        for future in &mut all {
            let _ = future.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    let unsent = all
        .iter_mut()
        .any(|future| matches!(future.as_mut().output_mut(), Some(Err(_))));
    if !unsent && let Some(last) = last {
        all.push(Box::pin(maybe_done(last)));
    }
    poll_fn(|context| {
        let mut pending = false;
        for future in &mut all {
            pending |= future.as_mut().poll(context).is_pending();
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    all.iter_mut()
        .filter_map(|future| future.as_mut().take_output())
        .collect()
}
