//! The outbox: what the caches have to be told of transactions that were committed while Redis was away.

use std::sync::Arc;
use std::time::Duration;

use super::{Access, CommitFailure, StepFailure, Store};
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Rendered, sql};
use crate::value::{Row, Value};

/// Where it is signalled that there is something. Of one database: another namespace's processes look for nothing.
pub(crate) const CHANNEL: &str = "zmsg_outbox";

const INSERT: &str =
    "INSERT INTO zmsg_outbox (namespace, keys, accepted) VALUES ($1::text, $2::bytea[], $3::bool)";
/// The oldest rows, also those that somebody else is about to remove: only who has told of all of them knows that Redis has
/// missed nothing.
const LIST: &str = "SELECT id, keys, accepted FROM zmsg_outbox WHERE namespace = ? ORDER BY id LIMIT 100";
const REMOVE: &str = "DELETE FROM zmsg_outbox WHERE id = ANY(?)";

/// Keys that Redis has to be told of.
pub(crate) struct Told {
    pub(crate) keys: Vec<Arc<str>>,
    /// They were changed by writes that commit later than they are accepted: the value of the last accepted one may stay.
    pub(crate) accepted: bool,
}

/// The outbox of one namespace: others that share the database have their own caches.
pub(crate) struct Outbox {
    store: Arc<dyn Store>,
    namespace: String,
    within: Duration,
}

impl Outbox {
    /// What is put there by itself is so within a time.
    pub(crate) fn new(store: Arc<dyn Store>, namespace: &str, within: Duration) -> Outbox {
        Outbox { store, namespace: namespace.to_owned(), within }
    }

    /// The statement that puts keys there; to be committed with what changed them.
    pub(crate) fn entry(&self, keys: &[Arc<str>], accepted: bool) -> Rendered {
        let keys: Vec<Value> = keys.iter().map(|key| Value::Bytes(key.as_bytes().into())).collect();
        let namespace = Value::text(self.namespace.as_str());
        let params = Arc::new([namespace, Value::List(keys.into()), Value::Bool(accepted)]);
        Rendered { sql: INSERT.into(), params }
    }

    /// Puts keys there in a transaction of its own, for what is committed already.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn add(&self, keys: &[Arc<str>], accepted: bool) -> Result<()> {
        // Not the time of a cache: whoever is told only when this process can do it again is told late.
        let deadline = Deadline::after(self.within);
        let mut transaction = self.store.begin(Access::Any, deadline).await.map_err(error_of)?;
        transaction.run(&[self.entry(keys, accepted)]).await.map_err(error_of)?;
        transaction.commit().await.map_err(|failure| match failure {
            CommitFailure::Again(error) | CommitFailure::Refused(error) => error,
            CommitFailure::Unknown(error) => Error::new(ErrorKind::CommitUnknown, error.to_string()),
        })
    }

    /// Tells of everything that is there, and empties it; gives how many keys there were. Two processes may tell of the same
    /// row, which does no harm.
    ///
    /// # Errors
    /// What the database says, or `tell`: the rows stay then.
    pub(crate) async fn relay<F>(&self, tell: impl Fn(Vec<Told>) -> F, deadline: Deadline) -> Result<u64>
    where
        F: Future<Output = Result<()>>,
    {
        let mut relayed = 0;
        loop {
            let list = sql(LIST, [self.namespace.as_str()])?;
            let rows = self.store.query(&list, deadline).await?;
            if rows.is_empty() {
                return Ok(relayed);
            }
            let told: Vec<Told> = rows.iter().map(told_of).collect();
            let count: usize = told.iter().map(|it| it.keys.len()).sum();
            tell(told).await?;
            let ids: Vec<Value> = rows.iter().filter_map(|row| row.values.first().cloned()).collect();
            self.store.execute(&sql(REMOVE, [Value::List(ids.into())])?, deadline).await?;
            relayed += count as u64;
        }
    }
}

fn error_of(failure: StepFailure) -> Error {
    match failure {
        StepFailure::Again(error) | StepFailure::Refused { error, .. } => error,
    }
}

fn told_of(row: &Row) -> Told {
    let [_, Value::List(keys), Value::Bool(accepted)] = &row.values[..] else {
        return Told { keys: Vec::new(), accepted: false };
    };
    let text = |key: &Value| match key {
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(Arc::from),
        _ => None,
    };
    Told { keys: keys.iter().filter_map(text).collect(), accepted: *accepted }
}
