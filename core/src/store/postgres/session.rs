//! A transaction that its holder steps through: what a batch is applied in.
//!
//! ```text
//! begin ─▶ open ─ run ─▶ open ─ attempt ─▶ open ─ commit ─▶ committed, refused or unknown
//!            ╰──────────────── dropped ────────────────▶ rolled back: the connection is closed, not pooled
//! ```
//! Unlike `transact` nothing is run again here: the holder knows what its statements mean, and what to ask the database
//! after a COMMIT whose answer was lost.

use std::pin::Pin;

use async_trait::async_trait;

use super::PostgresStore;
use super::error::{Cause, Failure};
use super::pool::Lease;
use super::statement::{self, Bound, in_order};
use crate::base::Deadline;
use crate::error::Error;
use crate::sql::Rendered;
use crate::store::{Access, Attempted, CommitFailure, ExecResult, StepFailure, Transaction};

/// Rows are looked up by the keys that a batch brings, in the order in which it brings them: so two batches that
/// change the same rows lock them in one order. A plan made for one batch's values would scan the table.
const BY_KEY: &str = "; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; \
                      SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_generic_plan";

/// Between groups that fly together, each of which may fail: said behind a group and followed by ROLLBACK TO the same name.
/// After a group that went well that goes back to here, which is nothing; after one that failed this is not heard, and it
/// goes back to where the group began.
const NEXT: &str = "SAVEPOINT zmsg_next";

/// What is sent when it is polled for the first time, and its answer.
type Said<'s> = Pin<Box<dyn Future<Output = Result<ExecResult, Failure>> + Send + 's>>;

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
        let said = self.deadline.run("in a transaction", self.lease.client().batch_execute(text)).await;
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

    /// The first groups whose statements need not be prepared any more, with their parameters.
    fn known(&self, groups: &[Vec<Rendered>]) -> Vec<Vec<Bound>> {
        let bound = |rendered: &Rendered| {
            let prepared = self.lease.prepared(&rendered.sql)?;
            statement::bind(prepared, rendered).ok()
        };
        groups.iter().map_while(|group| group.iter().map(bound).collect()).collect()
    }

    /// All groups in one flight, each from where the one before left off: see [`NEXT`]. `None`, and nothing has changed, if
    /// not every answer is the server's own.
    async fn fly_apart(&mut self, groups: &[Vec<Bound>]) -> Result<Option<Vec<Attempted>>, StepFailure> {
        let client = self.lease.client();
        let say = |text: &'static str| -> Said<'_> {
            Box::pin(async move {
                client.batch_execute(text).await?;
                Ok(ExecResult::default())
            })
        };
        let mut sent = vec![say("SAVEPOINT zmsg"), say(NEXT)];
        for group in groups {
            sent.extend(group.iter().map(|bound| -> Said<'_> { Box::pin(statement::run(client, bound)) }));
            sent.extend([say(NEXT), say("ROLLBACK TO SAVEPOINT zmsg_next")]);
        }
        let answers = match self.deadline.run("running statements", in_order(sent)).await {
            Ok(answers) => answers,
            Err(late) => {
                drop(self.lease.cancel());
                return Err(StepFailure::Again(late));
            }
        };
        let mut answers = answers.into_iter();
        let begun = answers.by_ref().take(2).all(|answer| answer.is_ok());
        let ends: Option<Vec<_>> = groups.iter().map(|it| end_of(&mut answers, it.len())).collect();
        let Some(ends) = ends.filter(|_| begun) else {
            self.say("ROLLBACK TO SAVEPOINT zmsg; RELEASE SAVEPOINT zmsg").await?;
            return Ok(None);
        };
        self.say("RELEASE SAVEPOINT zmsg").await?;
        let failed = |end: Result<_, (usize, Failure)>| end.map_err(|(at, failure)| self.failed(at, failure));
        Ok(Some(ends.into_iter().map(failed).collect()))
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

/// What became of a group of so many statements; `None` if the server's answers do not say.
fn end_of(
    answers: &mut impl Iterator<Item = Result<ExecResult, Failure>>,
    statements: usize,
) -> Option<Result<Vec<ExecResult>, (usize, Failure)>> {
    let mut results = Vec::with_capacity(statements);
    let mut failed = None;
    for index in 0..statements {
        match answers.next()? {
            Ok(result) => results.push(result),
            Err(failure) if failed.is_none() => failed = Some((index, failure)),
            Err(_) => {}
        }
    }
    let (heard, back) = (answers.next()?.is_ok(), answers.next()?.is_ok());
    match failed {
        None => (heard && back).then_some(Ok(results)),
        Some((index, failure)) => {
            let said = failure.error.sqlstate().is_some();
            (said && !heard && back).then_some(Err((index, failure)))
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

    async fn attempt_each(&mut self, groups: &[Vec<Rendered>]) -> Result<Vec<Attempted>, StepFailure> {
        let mut attempted = Vec::with_capacity(groups.len());
        while let Some(next) = groups.get(attempted.len()) {
            let known = self.known(&groups[attempted.len()..]);
            match if known.len() > 1 { self.fly_apart(&known).await? } else { None } {
                Some(ends) => attempted.extend(ends),
                None => match self.attempt(next).await {
                    Err(StepFailure::Again(error)) if error.sqlstate().is_none() => return Err(error.into()),
                    end => attempted.push(end),
                },
            }
        }
        Ok(attempted)
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
