//! A transaction that its holder steps through: what a batch is applied in.
//!
//! ```text
//! begin ─▶ open ─ run ─▶ open ─ attempt ─▶ open ─ commit ─▶ committed, refused or unknown
//!            ╰──────────────── dropped ────────────────▶ rolled back: the connection is closed, not pooled
//! ```
//! Unlike `transact` nothing is run again here: the holder knows what its statements mean, and what to ask the database
//! after a COMMIT whose answer was lost.

use async_trait::async_trait;

use super::PostgresStore;
use super::error::{Cause, Failure};
use super::pool::Lease;
use super::statement::{self, in_order};
use crate::base::Deadline;
use crate::error::Error;
use crate::sql::Rendered;
use crate::store::{Access, CommitFailure, ExecResult, StepFailure, Transaction};

/// Rows are looked up by the keys that a batch brings, in the order in which it brings them: so two batches that
/// change the same rows lock them in one order. A plan made for one batch's values would scan the table.
const BY_KEY: &str = "; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; \
                      SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_generic_plan";

struct Session {
    lease: Lease,
    deadline: Deadline,
}

/// Opens a transaction; see [`crate::store::Store::begin`].
pub(super) async fn begin(
    store: &PostgresStore,
    access: Access,
    deadline: Deadline,
) -> Result<Box<dyn Transaction>, StepFailure> {
    let mut lease = store.pool.take(deadline).await.map_err(StepFailure::Again)?;
    lease.begin();
    // A little less than this process waits: the server's word says which statement it was.
    let milliseconds = (deadline.remaining().as_millis() * 9 / 10).clamp(1, i32::MAX as u128);
    let settings = match access {
        Access::ByKey => BY_KEY,
        Access::Any => "",
    };
    let begin = format!("BEGIN; SET LOCAL statement_timeout = {milliseconds}{settings}");
    let mut session = Session { lease, deadline };
    session.say(&begin).await?;
    Ok(Box::new(session))
}

impl Session {
    async fn say(&mut self, text: &str) -> Result<(), StepFailure> {
        let said = self.deadline.run("in a batch", self.lease.client().batch_execute(text)).await;
        match said {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(0, Failure::from(error))),
            Err(late) => Err(StepFailure::Again(late)),
        }
    }

    fn failed(&mut self, index: usize, failure: Failure) -> StepFailure {
        let Failure { cause, error } = failure;
        match cause {
            Cause::Stale => {
                self.lease.forget_statements();
                StepFailure::Again(error)
            }
            Cause::Lost | Cause::Abandoned | Cause::Conflict => StepFailure::Again(error),
            Cause::Final | Cause::Dependent if error.retryable() => StepFailure::Again(error),
            Cause::Final | Cause::Dependent => StepFailure::Refused { index, error },
        }
    }

    /// All statements in one flight. The first failure in order is the one that counts.
    async fn fly(&mut self, statements: &[Rendered]) -> Result<Vec<ExecResult>, (usize, Failure)> {
        let connection = &*self.lease;
        let prepared = statement::prepare(connection, statements).await;
        let mut bound = Vec::with_capacity(prepared.len());
        for (index, (prepared, rendered)) in prepared.into_iter().zip(statements).enumerate() {
            let one = prepared.and_then(|prepared| Ok(statement::bind(prepared, rendered)?));
            bound.push(one.map_err(|failure| (index, failure))?);
        }
        let client = connection.client();
        let answers = in_order(bound.iter().map(|bound| statement::run(client, bound)).collect()).await;
        let numbered = answers.into_iter().enumerate();
        numbered.map(|(index, answer)| answer.map_err(|failure| (index, failure))).collect()
    }

    async fn step(&mut self, statements: &[Rendered]) -> Result<Vec<ExecResult>, StepFailure> {
        let deadline = self.deadline;
        match deadline.run("applying a batch", self.fly(statements)).await {
            Ok(Ok(results)) => Ok(results),
            Ok(Err((index, failure))) => Err(self.failed(index, failure)),
            Err(late) => {
                drop(self.lease.cancel());
                Err(StepFailure::Again(late))
            }
        }
    }
}

#[async_trait]
impl Transaction for Session {
    async fn run(&mut self, statements: &[Rendered]) -> Result<Vec<ExecResult>, StepFailure> {
        self.step(statements).await
    }

    async fn attempt(&mut self, statements: &[Rendered]) -> Result<Vec<ExecResult>, StepFailure> {
        self.say("SAVEPOINT zmsg").await?;
        let done = self.step(statements).await;
        match &done {
            Ok(_) => self.say("RELEASE SAVEPOINT zmsg").await?,
            Err(StepFailure::Refused { .. }) => {
                self.say("ROLLBACK TO SAVEPOINT zmsg; RELEASE SAVEPOINT zmsg").await?;
            }
            // The server said it, so it is still there; if not, the next statement is told so.
            Err(StepFailure::Again(error)) if error.sqlstate().is_some() => {
                let _ = self.say("ROLLBACK TO SAVEPOINT zmsg; RELEASE SAVEPOINT zmsg").await;
            }
            Err(StepFailure::Again(_)) => {}
        }
        done
    }

    async fn commit(mut self: Box<Self>) -> Result<(), CommitFailure> {
        let committed =
            self.deadline.run("waiting for a COMMIT", self.lease.client().batch_execute("COMMIT"));
        let failure = match committed.await {
            Ok(Ok(())) => {
                self.lease.end();
                return Ok(());
            }
            Ok(Err(error)) => Failure::from(error),
            Err(late) => Failure { cause: Cause::Lost, error: late },
        };
        if failure.cause == Cause::Lost {
            self.lease.condemn();
            return Err(CommitFailure::Unknown(failure.error));
        }
        Err(match self.failed(0, failure) {
            StepFailure::Again(error) => CommitFailure::Again(error),
            StepFailure::Refused { error, .. } => CommitFailure::Refused(error),
        })
    }

    async fn roll_back(mut self: Box<Self>) {
        if self.say("ROLLBACK").await.is_ok() {
            self.lease.end();
        }
    }
}

impl From<Error> for StepFailure {
    fn from(error: Error) -> StepFailure {
        StepFailure::Again(error)
    }
}
