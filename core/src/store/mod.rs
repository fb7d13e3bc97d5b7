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

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::Deadline;
use crate::error::{Error, Result};
use crate::sql::Task;
use crate::value::Row;

pub mod postgres;

/// What a statement, or a list of them, did.
#[derive(Debug, Clone, Default)]
pub struct ExecResult {
    /// Rows inserted, updated, deleted or selected, summed over the statements.
    pub rows_affected: u64,
    /// RETURNING or SELECT rows of all statements, in order.
    pub rows: Vec<Row>,
}

/// A transaction that was committed.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// What its statements did.
    pub result: ExecResult,
    /// A number drawn while the transaction held its locks: of two transactions that wrote the same row, the later
    /// one has the higher number.
    pub version: u64,
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
    /// With the connection in hand, before the first statement is sent. An error aborts, with nothing sent.
    async fn before_tasks(&self) -> Result<()> {
        Ok(())
    }

    /// After every statement succeeded, before COMMIT is sent. An error rolls back.
    async fn before_commit(&self, _version: u64) -> Result<()> {
        Ok(())
    }

    /// Once the outcome is known to be what it is, before the caller hears of it. Called exactly once for every
    /// transaction whose `before_tasks` was called.
    async fn after(&self, outcome: &Outcome);
}

/// Hooks that do nothing, for transactions that concern no cache.
pub struct NoHooks;

#[async_trait]
impl CommitHooks for NoHooks {
    async fn after(&self, _outcome: &Outcome) {}
}

/// Figures of the connection pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    async fn execute(&self, task: &Task, deadline: Deadline) -> Result<ExecResult>;

    /// Runs one read; it may be repeated on a new connection if the first one is lost.
    async fn query(&self, task: &Task, deadline: Deadline) -> Result<Vec<Row>>;

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

    /// A round trip to the server.
    async fn ping(&self, deadline: Deadline) -> Result<Duration>;

    /// Figures of the connection pool.
    fn pool_stats(&self) -> PoolStats;

    /// Closes every connection; running calls end with `Closed`.
    async fn close(&self);
}
