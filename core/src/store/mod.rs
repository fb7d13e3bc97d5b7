//! The database, dialect-neutral: run a task, run a read, run tasks in one transaction with hooks around its COMMIT.
//!
//! May use `sql`, `ops`, `value`, `base`, `error`. Drivers stay in their own folder: tokio-postgres and deadpool are
//! known to `postgres/` only. The store knows no cache: what a commit must do to the caches is a [`CommitHooks`] that
//! the engine plugs in.
//!
//! Invariants:
//! - An `Aborted` outcome means that nothing of the transaction is visible to anybody, ever.
//! - A COMMIT whose reply was lost is resolved by asking the database for the transaction's fate; only if that is
//!   impossible within the deadline is the outcome `Unknown` and the error `CommitUnknown`.
//! - COMMIT is sent only if every statement succeeded (a driver may report success for the COMMIT of an aborted
//!   transaction).
//! - No statement is sent twice unless it is known that the first one left nothing, or it only reads.
//!
//! A task never begins or ends a transaction itself and never changes the session, whose connection somebody else gets
//! next. Functions (`pg_advisory_lock`, `set_config(…, false)`) and temporary tables can still leave something there; use
//! `pg_advisory_xact_lock`, `set_config(…, true)` and `ON COMMIT DROP`. And migrations run apart from the pool: `migrations` says what a
//! migration is, `own_tables` which ones the engine brings along.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::Deadline;
use crate::error::{Error, Result};
use crate::sql::{Rendered, Task};
use crate::store::migrations::{Migration, MigrationReport};
use crate::value::Row;

pub(crate) mod dead_letters;
pub(crate) mod identity;
pub mod migrations;
pub(crate) mod outbox;
pub(crate) mod own_tables;
pub mod postgres;

/// What a statement, or a list of them, did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ExecResult {
    /// Rows inserted, updated, deleted or selected; of a list, the sum.
    pub rows_affected: u64,
    /// RETURNING or SELECT rows; of a list, those of all statements in order.
    pub rows: Vec<Row>,
}

/// A transaction that was committed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Committed {
    /// What each task did, in order.
    pub results: Vec<ExecResult>,
    /// A number drawn while the transaction held its locks: of two transactions that wrote the same row, the later
    /// one has the higher number.
    pub version: u64,
}

impl Committed {
    /// What all tasks did together.
    pub fn total(self) -> ExecResult {
        let mut total = ExecResult::default();
        for result in self.results {
            total.rows_affected += result.rows_affected;
            total.rows.extend(result.rows);
        }
        total
    }
}

/// What became of a transaction.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is visible to everybody.
    Committed(Committed),
    /// It left nothing.
    Aborted(Error),
    /// The connection was lost during COMMIT and the database could not be asked in time.
    Unknown(Error),
}

/// What happens around a COMMIT; implemented by the engine.
#[async_trait]
pub trait CommitHooks: Send + Sync {
    /// With the connection in hand and every statement prepared, before the first task is sent. An error aborts for
    /// good, with nothing sent. Called in every run of the transaction that came this far; `run` counts them from 1.
    async fn before_tasks(&self, _run: u32) -> Result<()> {
        Ok(())
    }

    /// After every statement succeeded, before COMMIT is sent, with what each task did. An error rolls back for good.
    /// Called once for every run of the transaction that came this far, each with its own version. What it gives is run
    /// and committed along.
    async fn before_commit(&self, _version: u64, _results: &[ExecResult]) -> Result<Option<Rendered>> {
        Ok(None)
    }

    /// Once the final outcome is known to be what it is, before the caller hears of it. Called exactly once for every
    /// transaction whose `before_tasks` was called.
    async fn after(&self, outcome: &Outcome);
}

/// Hooks that do nothing, for transactions that concern no cache.
pub struct NoHooks;

#[async_trait]
impl CommitHooks for NoHooks {
    async fn after(&self, _outcome: &Outcome) {}
}

/// What happens around transactions that commit later than they were accepted; implemented by the engine. An error is
/// retryable: the transaction has to be rolled back, and everything to be called again for the next one.
#[async_trait]
pub trait KeyHooks: Send + Sync {
    /// Before the transaction takes its connection; may take seconds.
    async fn prepare(&self, keys: &[Arc<str>], deadline: Deadline) -> Result<()>;

    /// When every statement has run and the transaction has an id.
    async fn before_commit(&self, keys: &[Arc<str>], deadline: Deadline) -> Result<()>;

    /// When nothing but the COMMIT is left, which is not sent after the deadline: from now on the caches have nothing under
    /// the keys that is older than what it will leave. It never fails: without that they only follow later.
    async fn cover(&self, keys: Vec<ChangedKey>, deadline: Deadline) -> Box<dyn Cover>;

    /// Tells the caches of a transaction that was not covered, before it is reported as done. What may stay of a key
    /// ([`ChangedKey::since`]) stays. It never fails: what the caches could not be told is for it to remember.
    async fn committed(&self, keys: Vec<ChangedKey>);

    /// Another process has changed these keys and told Redis of it; this one's memory may have something older.
    fn seen(&self, keys: &[Arc<str>]);
}

/// A key that a transaction changes.
#[derive(Debug, Clone)]
pub struct ChangedKey {
    /// The key.
    pub key: Arc<str>,
    /// Of a delayed write its number among those accepted on the key: its value may stay, and those with a higher number.
    /// Without one the value may stay that was accepted last with an aggregated write.
    pub since: Option<u64>,
}

impl From<Arc<str>> for ChangedKey {
    fn from(key: Arc<str>) -> ChangedKey {
        ChangedKey { key, since: None }
    }
}

/// What keeps old values out of the caches around a COMMIT. Dropped without a word, as for an outcome that nobody knows, it ends
/// by itself after a time, and leaves nothing.
#[async_trait]
pub trait Cover: Send + Sync {
    /// As [`KeyHooks::committed`].
    async fn committed(self: Box<Self>);

    /// The transaction certainly left nothing.
    async fn called_off(self: Box<Self>);
}

/// How the statements of a transaction find their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// By keys that have an index, in the order in which the statements bring them.
    ByKey,
    /// As the database thinks best.
    Any,
}

/// Why a step of a [`Transaction`] failed.
#[derive(Debug, Clone)]
pub enum StepFailure {
    /// It may pass when the whole transaction is run again: connection, conflict, time, resources.
    Again(Error),
    /// The database refused this statement and would again.
    Refused {
        /// Of the statement in its step, from 0.
        index: usize,
        /// Why.
        error: Error,
    },
}

/// What became of statements that ran behind a savepoint.
pub type Attempted = Result<Vec<ExecResult>, StepFailure>;

/// Why a COMMIT failed.
#[derive(Debug, Clone)]
pub enum CommitFailure {
    /// Nothing was committed, and it may pass when run again.
    Again(Error),
    /// Nothing was committed: a deferred constraint.
    Refused(Error),
    /// The connection was lost; it is committed or it is not.
    Unknown(Error),
}

/// A transaction that its holder steps through. Dropped without a COMMIT it leaves nothing.
#[async_trait]
pub trait Transaction: Send {
    /// Runs statements in one flight, one result each. After a failure only [`Transaction::roll_back`] makes sense.
    async fn run(&mut self, statements: &[Rendered]) -> Result<Vec<ExecResult>, StepFailure>;

    /// The same behind a savepoint: what failed with an SQLSTATE leaves nothing, and the transaction goes on.
    async fn attempt(&mut self, statements: &[Rendered]) -> Result<Vec<ExecResult>, StepFailure>;

    /// The same for each of several groups, of which one that failed stops no other; each finds what those before it left.
    /// An `Err` if the transaction cannot go on.
    async fn attempt_each(&mut self, groups: &[Vec<Rendered>]) -> Result<Vec<Attempted>, StepFailure>;

    /// Commits.
    async fn commit(self: Box<Self>) -> Result<(), CommitFailure>;

    /// Rolls back, so that the connection can be used again.
    async fn roll_back(self: Box<Self>);
}

/// Resolves when a caller goes away.
pub type Gone<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The error of a call whose caller went away in time.
pub(crate) fn unwanted() -> Error {
    Error::task("the call was cancelled")
}

/// Figures of the connection pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Open connections.
    pub size: usize,
    /// Open connections that nobody uses.
    pub idle: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

/// A database that runs tasks.
///
/// Implementations guarantee: typed errors within the deadline, no statement left running after its deadline if the
/// server can be reached, and transparent reconnection.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Runs one statement in its own implicit transaction (so also what cannot run inside one, as VACUUM).
    ///
    /// If the connection is lost after it was sent, the error is `CommitUnknown`, also for a SELECT: it may have
    /// called a function that writes. Where the outcome must be known, use [`Store::transact`]. What may commit on its
    /// way (CALL, DO, CONCURRENTLY) is `CommitUnknown` also if it was stopped or met another transaction; it is never
    /// run twice, and what it committed before any other error stays.
    async fn execute(&self, task: &Task, deadline: Deadline) -> Result<ExecResult> {
        self.execute_if(task, &|| true, deadline).await
    }

    /// The same, but with the connection in hand and the statement prepared `wanted` is asked, and if nobody wants it
    /// any more nothing is sent and the error is `Task`.
    async fn execute_if(
        &self,
        task: &Task,
        wanted: &(dyn Fn() -> bool + Send + Sync),
        deadline: Deadline,
    ) -> Result<ExecResult>;

    /// Runs one read; it may be repeated on a new connection if the first one is lost.
    async fn query(&self, task: &Task, deadline: Deadline) -> Result<Vec<Row>> {
        self.query_until(task, Box::pin(std::future::pending()), deadline).await
    }

    /// The same, but once `gone` resolves, nobody wants it any more: it is cancelled in the server, as at its deadline,
    /// and the error is `Task`.
    async fn query_until(&self, task: &Task, gone: Gone<'_>, deadline: Deadline) -> Result<Vec<Row>>;

    /// Runs reads pipelined on one connection; one result per task, in order. A failed one does not fail the others.
    async fn query_many(&self, tasks: &[Task], deadline: Deadline) -> Vec<Result<Vec<Row>>>;

    /// Runs the tasks in order in one transaction. Deadlocks and serialization failures are retried within the
    /// deadline, as is everything else of which it is known that nothing was committed and that may pass.
    async fn transact(
        &self,
        tasks: &[Task],
        hooks: Arc<dyn CommitHooks>,
        deadline: Deadline,
    ) -> Result<Committed>;

    /// Opens a transaction that its holder steps through within the deadline.
    async fn begin(&self, access: Access, deadline: Deadline) -> Result<Box<dyn Transaction>, StepFailure>;

    /// A round trip to the server.
    async fn ping(&self, deadline: Deadline) -> Result<Duration>;

    /// Figures of the connection pool.
    fn pool_stats(&self) -> PoolStats;

    /// Checks that the engine's own tables are there; makes or updates them if `migrate`, else an error says what is
    /// missing. An up-to-date database is only read.
    ///
    /// The tables are those that the search path finds. Ids are unique among engines that share one `zmsg_nodes`, so two
    /// schemas of one database may make equal ids; if another schema has that table too, a warning names both.
    async fn open_own_tables(&self, migrate: bool, deadline: Deadline) -> Result<()>;

    /// Applies the migrations that this database has not had, in the order given, under a lock that keeps other
    /// processes out. `deadline` bounds waiting for that lock,
    /// not the statements of the files: a migration takes the time it takes.
    async fn migrate(&self, migrations: &[Migration], deadline: Deadline) -> Result<MigrationReport>;

    /// Closes every connection. Calls that wait for one, and later calls, end with `Closed`; those that hold one run to
    /// their end first.
    async fn close(&self);
}
