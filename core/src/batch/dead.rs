//! Dead letters: operations that the database refused, with all that is needed to run them again.

use std::collections::HashMap;

use serde::Serialize;

use super::entry::{Keys, write_define, write_identity, write_operations, write_raw_statement};
use super::flush::Stream;
use super::records::{Definitions, Item, Log, Records, is_unreadable};
use crate::base::Deadline;
use crate::batch::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Cell, Rendered, sql};
use crate::store::{Access, CommitFailure, StepFailure, Store, Transaction};
use crate::value::{Row, Value};

/// Rows of one INSERT, and the length of their records.
const INSERT_ROWS: usize = 1_000;
const INSERT_BYTES: usize = 1 << 20;
/// Characters of a statement that are kept for people to read.
const SHOWN: usize = 4_000;

const INSERT: &str = "INSERT INTO zmsg_dead (path, op_id, key, tasks, statement, sqlstate, message) \
     SELECT 'batch', * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[]) \
     ON CONFLICT (op_id) DO NOTHING";
/// Numbers the transaction that runs a letter again among those that touch its rows; see `zmsg_ver`.
const VERSION: &str = "SELECT nextval('zmsg_ver')";
const LIST: &str = "SELECT id, path, op_id, key, statement, sqlstate, message, dead_at::text FROM zmsg_dead ORDER BY id LIMIT ?";
const OF_STREAM: &str = "SELECT op_id, sqlstate, message FROM zmsg_dead WHERE starts_with(op_id, ?)";
const TAKE: &str = "DELETE FROM zmsg_dead WHERE id = $1::int8 RETURNING tasks";

/// An operation that the database refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// For `retry_dead` and `drop_dead`.
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

/// A row for `zmsg_dead`.
struct Letter {
    op_id: String,
    key: Option<String>,
    tasks: Vec<u8>,
    statement: String,
    sqlstate: Option<String>,
    message: String,
}

/// Names an operation in receipts, logs and dead letters.
pub(crate) fn op_id(stream: Stream, sequence: u64) -> String {
    format!("{:032x}-{sequence}", u128::from_be_bytes(stream))
}

/// The statements that write the letters of the dead operations of a batch, which are read from the journal meanwhile.
pub(super) struct Letters<'a> {
    records: Records<'a>,
    stream: Stream,
    dead: &'a HashMap<u64, Error>,
    left: usize,
}

impl<'a> Letters<'a> {
    pub(super) fn of(
        log: &'a dyn Log,
        batch: &Batch,
        stream: Stream,
        dead: &'a HashMap<u64, Error>,
    ) -> Letters<'a> {
        Letters { records: Records::new(log, batch.lo, batch.hi), stream, dead, left: dead.len() }
    }

    /// The next one; `None` if there are no more letters.
    pub(super) fn next(&mut self) -> Result<Option<Rendered>> {
        let (mut letters, mut bytes): (Vec<Letter>, usize) = (Vec::new(), 0);
        while self.left > 0 && letters.len() < INSERT_ROWS && bytes < INSERT_BYTES {
            let (dead, stream) = (self.dead, self.stream);
            let mut letter: Option<Letter> = None;
            let next = self.records.next(&mut |sequence, item, keys| {
                if let Some(error) = dead.get(&sequence) {
                    letter.get_or_insert_with(|| Letter::of(stream, sequence, error)).add(&item, keys);
                }
                Ok(())
            })?;
            let Some((_, length)) = next else { break };
            if let Some(letter) = letter {
                letters.push(letter);
                bytes += length;
                self.left -= 1;
            }
        }
        Ok((!letters.is_empty()).then(|| insert(&letters)))
    }
}

impl Letter {
    fn of(stream: Stream, sequence: u64, error: &Error) -> Letter {
        Letter {
            op_id: op_id(stream, sequence),
            key: None,
            tasks: Vec::new(),
            statement: String::new(),
            sqlstate: error.sqlstate().map(str::to_owned),
            message: error.to_string(),
        }
    }

    /// Each cell is defined before its operations, so that the bytes stand for themselves.
    fn add(&mut self, item: &Item<'_>, keys: &[&str]) {
        let owned: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let all = Keys { key: None, invalidates: &owned };
        let shown = match item {
            Item::Cell(cell) => {
                let mut identity = Vec::new();
                write_identity(cell, all, &mut identity);
                write_define(0, &identity, &mut self.tasks);
                write_operations(0, cell, &mut self.tasks);
                Cell::clone(cell).statement().map(|it| it.sql.to_string()).unwrap_or_default()
            }
            Item::Statement { statement, .. } => {
                write_raw_statement(statement, None, all, &mut self.tasks);
                statement.sql.to_string()
            }
            Item::Settled(_) => return,
        };
        if !self.statement.is_empty() {
            self.statement.push_str("; ");
        }
        self.statement.extend(shown.chars().take(SHOWN));
        // PostgreSQL text cannot hold a NUL; the key itself is in the tasks.
        let first = keys.first().map(|key| key.replace('\0', "\\0"));
        self.key = self.key.take().or(first);
    }
}

/// The statement that writes letters.
fn insert(letters: &[Letter]) -> Rendered {
    let text = |value: &str| Value::text(value.replace('\0', "\\0"));
    let optional = |value: &Option<String>| value.as_deref().map_or(Value::Null, text);
    let column = |of: &dyn Fn(&Letter) -> Value| Value::List(letters.iter().map(of).collect());
    let params = [
        column(&|it| Value::text(it.op_id.as_str())),
        column(&|it| optional(&it.key)),
        column(&|it| Value::bytes(it.tasks.as_slice())),
        column(&|it| text(&it.statement)),
        column(&|it| optional(&it.sqlstate)),
        column(&|it| text(&it.message)),
    ];
    Rendered { sql: INSERT.into(), params: params.into() }
}

/// What the database has refused of the records in (lo, hi], by number. For a batch that turns out to be committed by a
/// try whose answer was lost.
pub(super) async fn refused(
    store: &dyn Store,
    stream: Stream,
    (lo, hi): (u64, u64),
    deadline: Deadline,
) -> Result<HashMap<u64, Error>> {
    let prefix = format!("{:032x}-", u128::from_be_bytes(stream));
    let mut found = HashMap::new();
    for row in store.query(&sql(OF_STREAM, [Value::text(prefix.as_str())])?, deadline).await? {
        let [Value::Text(op_id), code, Value::Text(message)] = &row.values[..] else { continue };
        let sequence = op_id.strip_prefix(&prefix).and_then(|it| it.parse().ok());
        let Some(sequence) = sequence.filter(|it| *it > lo && *it <= hi) else { continue };
        let error = Error::new(ErrorKind::Store, message.to_string());
        let error = if let Value::Text(code) = code { error.with_sqlstate(&**code) } else { error };
        found.insert(sequence, error);
    }
    Ok(found)
}

/// The oldest dead letters, at most so many.
pub(crate) async fn list(store: &dyn Store, most: u32, deadline: Deadline) -> Result<Vec<DeadLetter>> {
    let rows = store.query(&sql(LIST, [Value::from(most)])?, deadline).await?;
    rows.iter().map(letter).collect()
}

fn letter(row: &Row) -> Result<DeadLetter> {
    let text = |at: usize| match row.values.get(at) {
        Some(Value::Text(text)) => Some(text.to_string()),
        _ => None,
    };
    let id = match row.values.first() {
        Some(Value::Int(id)) => *id,
        _ => return Err(Error::new(ErrorKind::Internal, "a dead letter could not be read")),
    };
    Ok(DeadLetter {
        id,
        path: text(1).unwrap_or_default(),
        op_id: text(2).unwrap_or_default(),
        key: text(3),
        statement: text(4).unwrap_or_default(),
        sqlstate: text(5),
        message: text(6).unwrap_or_default(),
        dead_at: text(7).unwrap_or_default(),
    })
}

/// What running a dead letter again changed: the keys to drop, and the number of the transaction.
pub(crate) struct Revived {
    pub keys: Vec<String>,
    pub version: u64,
}

/// Runs a dead letter again and deletes it, in one transaction. If the database refuses again it stays, and the error
/// says why.
pub(crate) async fn retry(store: &dyn Store, id: i64, deadline: Deadline) -> Result<Revived> {
    let mut transaction = store.begin(Access::Any, deadline).await.map_err(failed)?;
    let tasks = take(&mut *transaction, id).await?;
    let (mut statements, keys) = read(&tasks)?;
    statements.push(Rendered { sql: VERSION.into(), params: [].into() });
    let results = match transaction.run(&statements).await {
        Ok(results) => results,
        Err(failure) => {
            transaction.roll_back().await;
            return Err(failed(failure));
        }
    };
    transaction.commit().await.map_err(|failure| match failure {
        CommitFailure::Again(error) | CommitFailure::Refused(error) => error,
        CommitFailure::Unknown(error) => Error::new(
            ErrorKind::CommitUnknown,
            "the connection was lost while a dead letter was run again; if it is no longer listed, it was applied",
        )
        .with_source(error),
    })?;
    let version = super::flush::version(&results).unwrap_or(0);
    Ok(Revived { keys, version })
}

/// Deletes a dead letter without running it.
pub(crate) async fn drop_letter(store: &dyn Store, id: i64, deadline: Deadline) -> Result<()> {
    let mut transaction = store.begin(Access::Any, deadline).await.map_err(failed)?;
    take(&mut *transaction, id).await?;
    transaction.commit().await.map_err(|failure| match failure {
        CommitFailure::Again(error) | CommitFailure::Refused(error) | CommitFailure::Unknown(error) => error,
    })
}

async fn take(transaction: &mut dyn Transaction, id: i64) -> Result<Vec<u8>> {
    let taking = Rendered { sql: TAKE.into(), params: [Value::Int(id)].into() };
    let results = transaction.run(&[taking]).await.map_err(failed)?;
    match results.first().and_then(|it| it.rows.first()).and_then(|row| row.values.first()) {
        Some(Value::Bytes(tasks)) => Ok(tasks.to_vec()),
        _ => Err(Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}"))),
    }
}

/// The statements of a letter, and its keys.
fn read(tasks: &[u8]) -> Result<(Vec<Rendered>, Vec<String>)> {
    let (mut statements, mut all) = (Vec::new(), Vec::new());
    let read = Definitions::default().read(1, 1, tasks, &mut |_, item, keys| {
        statements.push(match item {
            Item::Cell(cell) => Cell::clone(cell).statement()?,
            Item::Statement { statement, .. } => statement,
            Item::Settled(_) => return Ok(()),
        });
        all.extend(keys.iter().map(|key| (*key).to_owned()));
        Ok(())
    });
    read.map_err(|error| match is_unreadable(&error) {
        true => Error::new(
            error.kind(),
            "the dead letter cannot be understood; was it written by another version?",
        ),
        false => error,
    })?;
    Ok((statements, all))
}

fn failed(failure: StepFailure) -> Error {
    match failure {
        StepFailure::Again(error) | StepFailure::Refused { error, .. } => error,
    }
}
