//! STUB with the final signatures.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Config, Ttl};
use crate::error::Result;
use crate::sql::Task;
use crate::store::ExecResult;
use crate::value::Row;

/// An open engine. Clones are cheap and share everything; [`Zmsg::with_timeout`] gives one whose calls have another
/// time limit.
#[derive(Clone)]
pub struct Zmsg {
    timeout: Option<Duration>,
}

/// One task or several; several run in one transaction.
pub struct Tasks(pub Vec<Task>);

impl From<Task> for Tasks {
    fn from(task: Task) -> Tasks {
        Tasks(vec![task])
    }
}

impl From<Vec<Task>> for Tasks {
    fn from(tasks: Vec<Task>) -> Tasks {
        Tasks(tasks)
    }
}

/// Options of a write to the cache or through it.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Life of the cached value; `None` is `default_ttl`.
    pub ttl: Option<Ttl>,
    /// Further keys that the task changes; they are dropped from the caches after the commit.
    pub invalidates: Vec<String>,
}

/// Options of a source.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Life of a value read from the database; `None` is `default_ttl`.
    pub ttl: Option<Ttl>,
    /// Life of an absence; `None` is `absent_ttl`.
    pub absent_ttl: Option<Duration>,
}

/// What an accepted write gives back.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Identifies the operation in logs and errors.
    pub op_id: String,
    /// What survives: `"postgres"` here.
    pub durability: &'static str,
    /// Rows that the tasks changed, summed.
    pub rows_affected: u64,
    /// RETURNING rows of all tasks, in order.
    pub rows: Vec<Row>,
    /// Whether the caches took the value (or the drop) too.
    pub cached: bool,
}

/// Reachability of one server.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TierHealth {
    /// "postgres" or "redis".
    pub name: &'static str,
    /// Whether it answered.
    pub ok: bool,
    /// Round trip in milliseconds, if it answered.
    pub latency_ms: Option<f64>,
    /// Why not, if it did not.
    pub error: Option<String>,
}

/// Reachability of every server.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Health {
    /// Whether all of them answered.
    pub ok: bool,
    /// One entry per server.
    pub tiers: Vec<TierHealth>,
}

/// Migrations that were loaded and not yet run.
pub struct Migrations;

/// What `migrate` did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct MigrationReport {
    /// Names that were applied now, in order.
    pub applied: Vec<String>,
    /// Names that had been applied before.
    pub skipped: Vec<String>,
}

/// The engine's own figures; see the fields. Crosses to the bindings as a JSON object.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Stats {
    /// Gets answered by process memory.
    pub l1_hits: u64,
    /// Gets answered by Redis.
    pub l2_hits: u64,
    /// Source queries sent.
    pub source_loads: u64,
    /// Misses of keys that no source covers.
    pub unsourced_misses: u64,
    // … more, from the telemetry room
}

impl Zmsg {
    /// Opens.
    pub async fn open(_config: Config) -> Result<Zmsg> {
        todo!()
    }
    /// Flushes, stops, gives the node id back. Twice is fine.
    pub async fn close(&self) -> Result<()> {
        todo!()
    }
    /// The same engine, with another time limit for the calls made through it.
    pub fn with_timeout(&self, timeout: Option<Duration>) -> Zmsg {
        Zmsg { timeout: timeout.or(self.timeout) }
    }
    /// L1 → L2 → source.
    pub async fn get(&self, _key: &str) -> Result<Option<Bytes>> {
        todo!()
    }
    /// The same; absence is a `NotFound`.
    pub async fn get_required(&self, _key: &str) -> Result<Bytes> {
        todo!()
    }
    /// One result per key, in order.
    pub async fn get_many(&self, _keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        todo!()
    }
    /// The value in L1 right now: `Some(Some(bytes))` a value, `Some(None)` a cached absence, `None` not there. No I/O.
    pub fn peek_entry(&self, _key: &str) -> Result<Option<Option<Bytes>>> {
        todo!()
    }
    /// The value in L1 right now. No I/O.
    pub fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.peek_entry(key)?.flatten())
    }
    /// Puts a value into the caches only.
    pub async fn cache_only(&self, _key: &str, _data: Bytes, _options: WriteOptions) -> Result<()> {
        todo!()
    }
    /// Runs the tasks, then caches `data` under `key`.
    pub async fn cache_and_store(
        &self,
        _key: Option<&str>,
        _data: Option<Bytes>,
        _tasks: impl Into<Tasks>,
        _options: WriteOptions,
    ) -> Result<Receipt> {
        todo!()
    }
    /// Drops a key from every cache.
    pub async fn del(&self, _key: &str) -> Result<()> {
        todo!()
    }
    /// Runs the tasks, then drops the key from every cache.
    pub async fn del_store(
        &self,
        _key: Option<&str>,
        _tasks: impl Into<Tasks>,
        _options: WriteOptions,
    ) -> Result<Receipt> {
        todo!()
    }
    /// Runs SQL: one task by itself, several in one transaction.
    pub async fn sql_exec(&self, _tasks: impl Into<Tasks>) -> Result<ExecResult> {
        todo!()
    }
    /// Runs a read.
    pub async fn query(&self, _task: Task) -> Result<Vec<Row>> {
        todo!()
    }
    /// `prefix_number`. No I/O.
    pub fn next_id(&self, _prefix: &str) -> Result<String> {
        todo!()
    }
    /// The bare number. No I/O.
    pub fn next_id_number(&self) -> Result<i64> {
        todo!()
    }
    /// Declares where a key family is read from.
    pub fn source(&self, _pattern: &str, _task: Task, _options: SourceOptions) -> Result<()> {
        todo!()
    }
    /// Loads a directory of `*.sql`.
    pub fn load_dir(&self, _path: &Path) -> Result<Migrations> {
        todo!()
    }
    /// Loads one file.
    pub fn load(&self, _path: &Path) -> Result<Migrations> {
        todo!()
    }
    /// Loads a text under a name.
    pub fn load_sql(&self, _text: &str, _name: &str) -> Result<Migrations> {
        todo!()
    }
    /// Asks every server.
    pub async fn health(&self) -> Result<Health> {
        todo!()
    }
    /// The engine's own figures.
    pub fn stats(&self) -> Stats {
        todo!()
    }
    /// Whether `close` was called.
    pub fn is_closed(&self) -> bool {
        todo!()
    }
}

impl Migrations {
    /// Applies what has not been applied.
    pub async fn migrate(self) -> Result<MigrationReport> {
        todo!()
    }
}
