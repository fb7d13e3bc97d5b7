//! The outbox: what the caches have to be told of transactions that were committed while Redis was away.

use std::sync::Arc;

use super::{Access, CommitFailure, StepFailure, Store};
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Rendered, sql};
use crate::value::{Row, Value};

const INSERT: &str = "INSERT INTO zmsg_outbox (keys) VALUES ($1::bytea[])";
const ANY: &str = "SELECT 1 FROM zmsg_outbox LIMIT 1";
/// Some rows that nobody else is at. They are gone only if the transaction commits.
const TAKE: &str = "DELETE FROM zmsg_outbox WHERE id IN \
     (SELECT id FROM zmsg_outbox ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING keys";

/// The statement that puts keys there; to be committed with what changed them.
pub(crate) fn entry(keys: &[Arc<str>]) -> Rendered {
    let keys: Vec<Value> = keys.iter().map(|key| Value::Bytes(key.as_bytes().into())).collect();
    Rendered { sql: INSERT.into(), params: Arc::new([Value::List(keys.into())]) }
}

/// Tells of everything in the outbox, and empties it; gives how many keys there were.
///
/// # Errors
/// What the database says, or `tell`: the rows stay then.
pub(crate) async fn relay<F>(
    store: &dyn Store,
    tell: impl Fn(Vec<Arc<str>>) -> F,
    deadline: Deadline,
) -> Result<u64>
where
    F: Future<Output = Result<()>>,
{
    let mut relayed = 0;
    // Most of the time there is nothing, and nothing is locked.
    while !store.query(&sql(ANY, &[])?, deadline).await?.is_empty() {
        let mut transaction = store.begin(Access::Any, deadline).await.map_err(error_of)?;
        let take = Rendered { sql: TAKE.into(), params: Arc::new([]) };
        let taken = transaction.run(&[take]).await.map_err(error_of)?;
        let keys: Vec<Arc<str>> = taken.iter().flat_map(|result| &result.rows).flat_map(keys_of).collect();
        if keys.is_empty() {
            // Somebody else is at it.
            transaction.roll_back().await;
            break;
        }
        let count = keys.len() as u64;
        if let Err(error) = tell(keys).await {
            transaction.roll_back().await;
            return Err(error);
        }
        transaction.commit().await.map_err(|failure| match failure {
            // Told twice does no harm.
            CommitFailure::Again(error) | CommitFailure::Refused(error) | CommitFailure::Unknown(error) => {
                error
            }
        })?;
        relayed += count;
    }
    Ok(relayed)
}

fn error_of(failure: StepFailure) -> Error {
    match failure {
        StepFailure::Again(error) | StepFailure::Refused { error, .. } => error,
    }
}

fn keys_of(row: &Row) -> Vec<Arc<str>> {
    let [Value::List(keys)] = &row.values[..] else { return Vec::new() };
    let text = |key: &Value| match key {
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(Arc::from),
        _ => None,
    };
    keys.iter().filter_map(text).collect()
}

/// Puts keys there in a transaction of its own, for what is committed already.
///
/// # Errors
/// What the database says.
pub(crate) async fn add(store: &dyn Store, keys: &[Arc<str>], deadline: Deadline) -> Result<()> {
    let mut transaction = store.begin(Access::Any, deadline).await.map_err(error_of)?;
    transaction.run(&[entry(keys)]).await.map_err(error_of)?;
    transaction.commit().await.map_err(|failure| match failure {
        CommitFailure::Again(error) | CommitFailure::Refused(error) => error,
        CommitFailure::Unknown(error) => Error::new(ErrorKind::CommitUnknown, error.to_string()),
    })
}
