//! One transaction: in how many flights it goes out, and which failures run it again.
//!
//! ```text
//! take ─▶ BEGIN ∥ prepare ─▶ before_tasks ─▶ tasks + version ─▶ before_commit ─▶ COMMIT ─▶ after
//!   ╰────────── known to have left nothing: again, within the deadline ──────────╯   ╰─ lost: ask for its fate
//! ```
//! BEGIN travels while statements are prepared and the hooks run, so it costs no round trip of its own; the tasks are
//! sent only once it has succeeded, because without a transaction each would commit by itself. The tasks and the draw
//! of the version are one flight; the version comes last, while the transaction holds its locks.
//!
//! A task may need what an earlier one of the same list makes (a table, a column). Then it cannot be prepared ahead of
//! time, and the transaction runs once more, step by step.

use std::sync::Arc;
use std::time::Duration;

use super::PostgresStore;
use super::connect::Connection;
use super::error::{Cause, Failure};
use super::fate::{self, Fate};
use super::pool::Lease;
use super::statement::{self, Bound};
use super::tries::Tries;
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Rendered, Task};
use crate::store::{CommitHooks, Committed, ExecResult, Outcome};
use crate::value::Value;

/// `txid_current` has a counterpart of another type since PostgreSQL 13; this one also runs on 12.
const VERSION: &str = "SELECT nextval('zmsg_ver'), txid_current()";

/// A COMMIT that is on its way is worth waiting for a little, even past the deadline: its outcome decides what the
/// caches may show.
const COMMIT_GRACE: Duration = Duration::from_millis(500);

/// How a run of the transaction ended, if not with a known COMMIT.
enum Stop {
    /// Nothing was committed.
    Failed(Failure),
    /// Nobody can say.
    Unknown(Error),
}

impl<F: Into<Failure>> From<F> for Stop {
    fn from(failure: F) -> Stop {
        Stop::Failed(failure.into())
    }
}

struct Transaction<'a> {
    store: &'a PostgresStore,
    /// The tasks, and last the draw of the version.
    texts: Vec<Rendered>,
    hooks: Arc<dyn CommitHooks>,
    deadline: Deadline,
    /// How often `before_tasks` was called.
    runs: u32,
    /// Whether each task is prepared only once the tasks before it have run.
    stepwise: bool,
}

/// Runs the tasks in one transaction; see [`crate::store::Store::transact`].
pub(super) async fn transact(
    store: &PostgresStore,
    tasks: &[Task],
    hooks: Arc<dyn CommitHooks>,
    deadline: Deadline,
) -> Result<Committed> {
    let mut texts = tasks.iter().map(statement::render).collect::<Result<Vec<_>>>()?;
    texts.push(Rendered { sql: VERSION.into(), params: Arc::new([]) });
    let mut transaction = Transaction { store, texts, hooks, deadline, runs: 0, stepwise: false };
    let outcome = transaction.run_to_the_end().await;
    if transaction.runs > 0 {
        transaction.hooks.after(&outcome).await;
    }
    match outcome {
        Outcome::Committed(committed) => Ok(committed),
        Outcome::Aborted(error) | Outcome::Unknown(error) => Err(error),
    }
}

impl Transaction<'_> {
    async fn run_to_the_end(&mut self) -> Outcome {
        let mut tries = Tries::new();
        loop {
            let failure = match self.run_once(&tries).await {
                Ok(committed) => return Outcome::Committed(committed),
                Err(Stop::Unknown(error)) => return Outcome::Unknown(error),
                Err(Stop::Failed(failure)) => failure,
            };
            if failure.cause == Cause::Dependent {
                self.stepwise = true;
                continue;
            }
            if !tries.again(failure.cause, self.deadline).await {
                return Outcome::Aborted(failure.error);
            }
        }
    }

    async fn run_once(&mut self, tries: &Tries) -> Result<Committed, Stop> {
        let mut lease = self.store.pool.take(self.deadline).await.map_err(|error| tries.connecting(error))?;
        lease.begin();
        let run = self.run_on(&mut lease).await;
        match &run {
            // The answer to its COMMIT ended it.
            Ok(_) => {}
            Err(Stop::Failed(failure)) => roll_back(&mut lease, failure.cause).await,
            // Its state is unknown: never given back.
            Err(Stop::Unknown(_)) => {}
        }
        run
    }

    async fn run_on(&mut self, lease: &mut Lease) -> Result<Committed, Stop> {
        let deadline = self.deadline;
        let connection: &Connection = lease;
        let bound = match deadline.run("preparing a transaction", self.open(connection)).await {
            Ok(opened) => opened?,
            Err(late) => return Err(abandon(connection, late)),
        };
        let flown = async {
            if self.stepwise { self.steps(connection).await } else { flight(connection, &bound).await }
        };
        let (committed, txid) = match deadline.run("running a transaction", flown).await {
            Ok(flown) => flown?,
            Err(late) => return Err(abandon(connection, late)),
        };
        let hook = self.hooks.before_commit(committed.version, &committed.results);
        let along = async {
            match hook.await? {
                Some(text) => step(connection, &text).await.map(|_| ()),
                None => Ok(()),
            }
        };
        match deadline.run("before a COMMIT", along).await {
            Ok(done) => done?,
            Err(late) => return Err(abandon(connection, late)),
        }
        // Who stood still finds an answer and the end of its time at once, and the answer first. What hides the old value
        // from others ends soon after that time.
        if deadline.passed() {
            return Err(abandon(connection, deadline.error("before a COMMIT")));
        }
        self.commit(lease, committed, txid).await
    }

    /// BEGIN, and meanwhile everything that has to happen before the first task is sent.
    async fn open(&mut self, connection: &Connection) -> Result<Vec<Bound>, Failure> {
        let begin = format!("BEGIN; SET LOCAL statement_timeout = {}", statement_timeout_ms(self.deadline));
        let begun = connection.client().batch_execute(&begin);
        let rest = async {
            let bound = self.bind(connection).await?;
            self.runs += 1;
            self.hooks.before_tasks(self.runs).await?;
            Ok::<_, Failure>(bound)
        };
        let (begun, bound) = futures_util::future::join(begun, rest).await;
        begun?;
        bound
    }

    async fn bind(&self, connection: &Connection) -> Result<Vec<Bound>, Failure> {
        if self.stepwise {
            return Ok(Vec::new());
        }
        let statements = statement::prepare(connection, &self.texts).await;
        let mut bound = Vec::with_capacity(statements.len());
        for (index, (prepared, rendered)) in statements.into_iter().zip(&self.texts).enumerate() {
            let one = prepared.and_then(|prepared| Ok(statement::bind(prepared, rendered)?));
            bound.push(one.map_err(|failure| self.unprepared(failure, index))?);
        }
        Ok(bound)
    }

    /// A later task that names what does not exist may depend on an earlier one.
    fn unprepared(&self, failure: Failure, index: usize) -> Failure {
        let names_nothing =
            failure.error.sqlstate().is_some_and(|code| code.starts_with("42") || code == "3F000");
        if index > 0 && names_nothing && failure.cause == Cause::Final {
            return Failure { cause: Cause::Dependent, ..failure };
        }
        numbered(failure, index, self.texts.len())
    }

    async fn steps(&self, connection: &Connection) -> Result<(Committed, i64), Failure> {
        let mut results = Vec::with_capacity(self.texts.len());
        for (index, text) in self.texts.iter().enumerate() {
            let done = step(connection, text).await;
            results.push(done.map_err(|failure| numbered(failure, index, self.texts.len()))?);
        }
        drawn(results)
    }

    /// COMMIT. Every statement succeeded, so that the server has no aborted transaction whose COMMIT would "succeed".
    /// Only its own answer makes the connection fit for others: one whose answer is still to come would hand it to
    /// them, whatever the fate of the transaction is.
    async fn commit(&self, lease: &mut Lease, committed: Committed, txid: i64) -> Result<Committed, Stop> {
        let deadline = at_least(self.deadline, COMMIT_GRACE);
        let failure = match deadline.run("waiting for a COMMIT", lease.client().batch_execute("COMMIT")).await
        {
            Ok(Ok(())) => {
                lease.end();
                return Ok(committed);
            }
            Ok(Err(error)) => Failure::from(error),
            Err(late) => Failure { cause: Cause::Lost, error: late },
        };
        if failure.cause != Cause::Lost {
            return Err(Stop::Failed(failure));
        }
        lease.condemn();
        match fate::ask(self.store, txid, at_least(self.deadline, COMMIT_GRACE)).await {
            Fate::Committed => Ok(committed),
            Fate::Aborted => Err(Stop::Failed(failure)),
            Fate::Unknown(error) => Err(Stop::Unknown(error.with_source(failure.error))),
        }
    }
}

/// One statement, prepared and run.
async fn step(connection: &Connection, text: &Rendered) -> Result<ExecResult, Failure> {
    let prepared = statement::prepare(connection, std::slice::from_ref(text)).await.remove(0)?;
    statement::run(connection.client(), &statement::bind(prepared, text)?).await
}

/// All statements and the draw of the version, sent at once; the first failure in order is the one that counts, the
/// later ones only say that the transaction is aborted.
async fn flight(connection: &Connection, bound: &[Bound]) -> Result<(Committed, i64), Failure> {
    let client = connection.client();
    let answers =
        statement::in_order(bound.iter().map(|bound| statement::run(client, bound)).collect()).await;
    let mut results = Vec::with_capacity(answers.len());
    for (index, answer) in answers.into_iter().enumerate() {
        results.push(answer.map_err(|failure| numbered(failure, index, bound.len()))?);
    }
    drawn(results)
}

/// The results of the tasks, and apart from them the version and the transaction id, which come last.
fn drawn(mut results: Vec<ExecResult>) -> Result<(Committed, i64), Failure> {
    let drawn = results.pop().and_then(|drawn| drawn.rows.into_iter().next());
    let (version, txid) = match drawn.as_ref().map(|row| row.values.as_slice()) {
        Some([Value::Int(version), Value::Int(txid)]) => (*version, *txid),
        _ => {
            return Err(
                Error::new(ErrorKind::Internal, "the version of a transaction could not be read").into()
            );
        }
    };
    Ok((Committed { results, version: version.unsigned_abs() }, txid))
}

/// Says which of several tasks failed; the last text is ours, not a task.
fn numbered(failure: Failure, index: usize, texts: usize) -> Failure {
    if texts <= 2 || index + 1 == texts {
        return failure;
    }
    Failure { error: failure.error.with("task", index + 1), ..failure }
}

/// The server's own limit per statement, a little before ours, so that its answer arrives in time.
fn statement_timeout_ms(deadline: Deadline) -> u128 {
    let left = deadline.remaining().as_millis();
    (left - (left / 10).min(100)).clamp(1, i32::MAX as u128)
}

fn at_least(deadline: Deadline, grace: Duration) -> Deadline {
    if deadline.remaining() < grace { Deadline::after(grace) } else { deadline }
}

/// The deadline passed while something ran: stop it. COMMIT was not sent, so the server rolls back.
fn abandon(connection: &Connection, late: Error) -> Stop {
    drop(connection.cancel());
    Stop::Failed(Failure { cause: Cause::Abandoned, error: late })
}

/// Leaves the connection outside of a transaction, or in doubt.
async fn roll_back(lease: &mut Lease, cause: Cause) {
    match cause {
        Cause::Lost | Cause::Abandoned => return,
        Cause::Stale => lease.forget_statements(),
        Cause::Final | Cause::Dependent | Cause::Conflict => {}
    }
    let rolled_back = Deadline::after(COMMIT_GRACE).run("", lease.client().batch_execute("ROLLBACK")).await;
    if let Ok(Ok(())) = rolled_back {
        lease.end();
    }
}
