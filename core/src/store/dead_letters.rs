//! Dead letters: operations that the database refused, with all that is needed to run them again. Batches and the queue
//! write them, each with tasks in a form of its own.

use std::sync::Arc;

use serde::Serialize;

use super::{Access, ChangedKey, CommitFailure, Cover, KeyHooks, StepFailure, Store, Transaction};
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Rendered, sql};
use crate::value::{Row, Value};

/// Characters of a statement that are kept for people to read.
const SHOWN: usize = 4_000;

const INSERT: &str = "INSERT INTO zmsg_dead (path, op_id, key, tasks, statement, sqlstate, message) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[])";
/// Whoever waits for the operation is told that it had its effect after all. Of delayed writes only: another one may have
/// the name.
const REVIVE: &str = "UPDATE zmsg_done SET dead = false WHERE op_id = $1::text AND $2::text = 'queue'";
const LIST: &str = "SELECT id, path, op_id, key, statement, sqlstate, message, dead_at::text FROM zmsg_dead \
     WHERE id > ? ORDER BY id LIMIT ?";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM zmsg_dead";
/// A page of ids: after the first, up to the second.
const IDS: &str = "SELECT id FROM zmsg_dead WHERE id > ? AND id <= ? ORDER BY id LIMIT 1000";
const TAKE: &str = "DELETE FROM zmsg_dead WHERE id = $1::int8 RETURNING path, tasks, op_id";

/// An operation that the database refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// For `retry_dead`, `drop_dead` and `dead_letters_after`. Later letters have higher ones.
    pub id: i64,
    /// Which way it came: `"batch"` or `"queue"`.
    pub path: String,
    /// As its receipt had it.
    pub op_id: String,
    /// Its cache key, if it had one.
    pub key: Option<String>,
    /// What would run, without its parameters.
    pub statement: String,
    /// Why the database refused.
    pub sqlstate: Option<String>,
    /// The same in words.
    pub message: String,
    /// When, as PostgreSQL writes a `timestamptz`.
    pub dead_at: String,
}

/// A letter to be written.
pub(crate) struct Letter {
    path: &'static str,
    op_id: String,
    key: Option<String>,
    /// What runs it again.
    pub(crate) tasks: Vec<u8>,
    statement: String,
    sqlstate: Option<String>,
    message: String,
}

impl Letter {
    /// An operation without tasks, and why it is dead.
    pub(crate) fn new(path: &'static str, op_id: String, error: &Error) -> Letter {
        Letter {
            path,
            op_id,
            key: None,
            tasks: Vec::new(),
            statement: String::new(),
            sqlstate: error.sqlstate().map(str::to_owned),
            message: error.to_string(),
        }
    }

    /// Shows a statement, and the key if it is the first one.
    pub(crate) fn show(&mut self, statement: &str, key: Option<&str>) {
        if !self.statement.is_empty() {
            self.statement.push_str("; ");
        }
        self.statement.extend(statement.chars().take(SHOWN));
        self.key = self.key.take().or(key.map(str::to_owned));
    }
}

/// The statement that writes letters.
pub(crate) fn insert(letters: &[Letter]) -> Rendered {
    // PostgreSQL text cannot hold a NUL; what is meant is in the tasks.
    let text = |value: &str| Value::text(value.replace('\0', "\\0"));
    let optional = |value: &Option<String>| value.as_deref().map_or(Value::Null, text);
    let column = |of: &dyn Fn(&Letter) -> Value| Value::List(letters.iter().map(of).collect());
    let params = [
        column(&|it| Value::text(it.path)),
        column(&|it| Value::text(it.op_id.as_str())),
        column(&|it| optional(&it.key)),
        column(&|it| Value::bytes(it.tasks.as_slice())),
        column(&|it| text(&it.statement)),
        column(&|it| optional(&it.sqlstate)),
        column(&|it| text(&it.message)),
    ];
    Rendered { sql: INSERT.into(), params: params.into() }
}

/// The oldest dead letters with ids above `after`, at most so many.
pub(crate) async fn list(
    store: &dyn Store,
    after: i64,
    most: u32,
    deadline: Deadline,
) -> Result<Vec<DeadLetter>> {
    let rows = store.query(&sql(LIST, [Value::from(after), Value::from(most)])?, deadline).await?;
    rows.iter().map(letter).collect()
}

/// The highest id there is; 0 without letters.
pub(crate) async fn last_id(store: &dyn Store, deadline: Deadline) -> Result<i64> {
    let rows = store.query(&sql(LAST, ())?, deadline).await?;
    rows.first().map_or(Ok(0), id_of)
}

/// The lowest ids above `after` and not above `last`, in order: a page of them, or none.
pub(crate) async fn ids(store: &dyn Store, after: i64, last: i64, deadline: Deadline) -> Result<Vec<i64>> {
    let rows = store.query(&sql(IDS, [Value::from(after), Value::from(last)])?, deadline).await?;
    rows.iter().map(id_of).collect()
}

fn id_of(row: &Row) -> Result<i64> {
    match row.values.first() {
        Some(Value::Int(id)) => Ok(*id),
        _ => Err(Error::new(ErrorKind::Internal, "a dead letter could not be read")),
    }
}

fn letter(row: &Row) -> Result<DeadLetter> {
    let text = |at: usize| match row.values.get(at) {
        Some(Value::Text(text)) => Some(text.to_string()),
        _ => None,
    };
    Ok(DeadLetter {
        id: id_of(row)?,
        path: text(1).unwrap_or_default(),
        op_id: text(2).unwrap_or_default(),
        key: text(3),
        statement: text(4).unwrap_or_default(),
        sqlstate: text(5),
        message: text(6).unwrap_or_default(),
        dead_at: text(7).unwrap_or_default(),
    })
}

/// What the tasks of a letter say.
pub(crate) struct Tasks {
    pub(crate) statements: Vec<Rendered>,
    /// The cache keys that they concern.
    pub(crate) keys: Vec<String>,
}

/// What became of a dead letter that was run again.
pub(crate) enum Retried {
    /// It had its effect, of which the caches have to be told.
    Done(Box<dyn Cover>),
    /// The database refused it again and would each time, or nobody can read it: it stays.
    Refused(Error),
    /// Nothing was done: something had to know of its keys first, and now may.
    NotYet(Error),
}

/// Runs a dead letter again and deletes it, in one transaction. `read` is given its path and its tasks. An `Err` says
/// nothing about the letter but that it is not there, or may be.
pub(crate) async fn retry(
    store: &dyn Store,
    id: i64,
    read: impl Fn(&str, &[u8]) -> Result<Tasks> + Send,
    hooks: &dyn KeyHooks,
    deadline: Deadline,
) -> Result<Retried> {
    let mut transaction = store.begin(Access::Any, deadline).await.map_err(failed)?;
    let (path, tasks, op_id) = take(&mut *transaction, id).await?;
    let Tasks { mut statements, keys } = match read(&path, &tasks) {
        Ok(tasks) => tasks,
        Err(unreadable) => {
            transaction.roll_back().await;
            return Ok(Retried::Refused(unreadable));
        }
    };
    let named = [Value::text(op_id.as_str()), Value::text(path.as_str())];
    statements.push(Rendered { sql: REVIVE.into(), params: named.into() });
    if let Err(failure) = transaction.run(&statements).await {
        transaction.roll_back().await;
        return match failure {
            StepFailure::Again(error) => Err(error),
            StepFailure::Refused { error, .. } => Ok(Retried::Refused(error)),
        };
    }
    let changed: Vec<Arc<str>> = keys.iter().map(|key| Arc::from(key.as_str())).collect();
    if let Err(error) = hooks.before_commit(&changed, deadline).await {
        transaction.roll_back().await;
        // Its keys are known only within the transaction.
        hooks.prepare(&changed, deadline).await?;
        return Ok(Retried::NotYet(error));
    }
    let changed: Vec<ChangedKey> = changed.into_iter().map(ChangedKey::from).collect();
    let cover = hooks.cover(changed.clone(), deadline).await;
    match transaction.commit().await {
        Ok(()) => Ok(Retried::Done(cover)),
        Err(CommitFailure::Again(error)) => {
            cover.called_off().await;
            Err(error)
        }
        Err(CommitFailure::Refused(error)) => {
            cover.called_off().await;
            Ok(Retried::Refused(error))
        }
        Err(CommitFailure::Unknown(error)) => {
            // Either value may be the right one. The cover stays until it ends by itself: the COMMIT may become visible late.
            hooks.committed(changed).await;
            let message = "the connection was lost while a dead letter was run again; if it is no longer listed, it was \
                           applied";
            Err(Error::new(ErrorKind::CommitUnknown, message).with_source(error))
        }
    }
}

/// Deletes a dead letter without running it.
pub(crate) async fn drop_letter(store: &dyn Store, id: i64, deadline: Deadline) -> Result<()> {
    let mut transaction = store.begin(Access::Any, deadline).await.map_err(failed)?;
    take(&mut *transaction, id).await?;
    transaction.commit().await.map_err(|failure| match failure {
        CommitFailure::Again(error) | CommitFailure::Refused(error) | CommitFailure::Unknown(error) => error,
    })
}

async fn take(transaction: &mut dyn Transaction, id: i64) -> Result<(String, Vec<u8>, String)> {
    let taking = Rendered { sql: TAKE.into(), params: [Value::Int(id)].into() };
    let results = transaction.run(&[taking]).await.map_err(failed)?;
    match results.first().and_then(|it| it.rows.first()).map(|row| row.values.as_slice()) {
        Some([Value::Text(path), Value::Bytes(tasks), Value::Text(op_id)]) => {
            Ok((path.to_string(), tasks.to_vec(), op_id.to_string()))
        }
        _ => Err(Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}"))),
    }
}

fn failed(failure: StepFailure) -> Error {
    match failure {
        StepFailure::Again(error) | StepFailure::Refused { error, .. } => error,
    }
}
