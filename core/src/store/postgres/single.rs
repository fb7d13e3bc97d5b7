//! Statements outside of a transaction: one, or several reads in one flight.

use super::PostgresStore;
use super::connect::Connection;
use super::error::{Cause, Failure};
use super::pool::Lease;
use super::statement::{self, Bound, in_order};
use super::tries::Tries;
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Rendered, Task};
use crate::store::{ExecResult, Gone, unwanted};

/// Whether a statement may run twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It only reads.
    Freely,
    /// Only if it is known that the first one left nothing.
    Never,
}

/// Says whether somebody still waits for the statement.
type Wanted<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// A failed try, and whether the statement was on its way.
struct Miss {
    failure: Failure,
    sent: bool,
}

/// Runs one statement.
pub(super) async fn run(
    store: &PostgresStore,
    task: &Task,
    repeat: Repeat,
    wanted: Wanted<'_>,
    mut gone: Gone<'_>,
    deadline: Deadline,
) -> Result<ExecResult> {
    let rendered = [statement::render(task)?];
    let atomic = statement::is_atomic(&rendered[0].sql);
    let mut tries = Tries::new();
    loop {
        let Miss { failure, sent } =
            match run_once(store, &rendered, &tries, repeat, wanted, &mut gone, deadline).await {
                Ok(result) => return Ok(result),
                Err(miss) => miss,
            };
        if sent && repeat == Repeat::Never && may_have_left_something(&failure, atomic) {
            return Err(unknown(failure.error));
        }
        if !tries.again(failure.cause, deadline).await {
            return Err(failure.error);
        }
    }
}

/// Whether a statement that was sent may have had an effect although it failed. One that is atomic has none once the
/// server says that it failed; one that commits on its way may fail at any later moment.
fn may_have_left_something(failure: &Failure, atomic: bool) -> bool {
    match failure.cause {
        Cause::Lost | Cause::Abandoned => true,
        Cause::Conflict | Cause::Stale => !atomic,
        Cause::Final | Cause::Dependent => !atomic && failure.error.kind() == ErrorKind::Timeout,
    }
}

async fn run_once(
    store: &PostgresStore,
    rendered: &[Rendered; 1],
    tries: &Tries,
    repeat: Repeat,
    wanted: Wanted<'_>,
    gone: &mut Gone<'_>,
    deadline: Deadline,
) -> Result<ExecResult, Miss> {
    let unsent = |failure| Miss { failure, sent: false };
    let mut lease = tokio::select! {
        lease = store.pool.take(deadline) => lease.map_err(|error| unsent(tries.connecting(error)))?,
        () = &mut *gone => return Err(unsent(unwanted().into())),
    };
    lease.begin();
    let ready = deadline.run("preparing a statement", ready(&lease, rendered)).await;
    let bound = match ready {
        Ok(Ok(bound)) => bound,
        Ok(Err(failure)) => {
            settle(&mut lease, failure.cause);
            return Err(unsent(failure));
        }
        Err(late) => return Err(unsent(Failure { cause: Cause::Abandoned, error: late })),
    };
    if !wanted() {
        lease.end();
        return Err(unsent(unwanted().into()));
    }
    match run_in_time(&lease, &bound, repeat, gone, deadline).await {
        Ok(result) => {
            lease.end();
            Ok(result)
        }
        Err(failure) => {
            settle(&mut lease, failure.cause);
            Err(Miss { failure, sent: true })
        }
    }
}

async fn ready(connection: &Connection, rendered: &[Rendered; 1]) -> Result<Bound, Failure> {
    let prepared = statement::prepare(connection, rendered).await.remove(0)?;
    Ok(statement::bind(prepared, &rendered[0])?)
}

/// Runs it; at the deadline, or when the caller has gone away, the server is asked to stop. What may have written gets a
/// moment to say how it ended.
async fn run_in_time(
    connection: &Connection,
    bound: &Bound,
    repeat: Repeat,
    gone: &mut Gone<'_>,
    deadline: Deadline,
) -> Result<ExecResult, Failure> {
    let mut work = std::pin::pin!(statement::run(connection.client(), bound));
    let late = tokio::select! {
        done = deadline.run("running a statement", &mut work) => match done {
            Ok(done) => return done,
            Err(late) => late.with_sqlstate("57014"),
        },
        () = gone => {
            connection.cancel().await;
            return Err(Failure { cause: Cause::Abandoned, error: unwanted() });
        }
    };
    let cancelled = connection.cancel();
    if repeat == Repeat::Freely {
        return Err(Failure { cause: Cause::Abandoned, error: late });
    }
    cancelled.await;
    match Connection::cancel_grace().run("", work).await {
        // Stopped; what is atomic is known to have left nothing.
        Ok(Err(failure)) if failure.error.kind() == ErrorKind::Timeout => Err(late.into()),
        Ok(done) => done,
        Err(_) => Err(Failure { cause: Cause::Abandoned, error: late }),
    }
}

/// After an answer from the server the session is idle again.
fn settle(lease: &mut Lease, cause: Cause) {
    match cause {
        Cause::Lost | Cause::Abandoned => {}
        Cause::Stale => {
            lease.forget_statements();
            lease.end();
        }
        Cause::Final | Cause::Dependent | Cause::Conflict => lease.end(),
    }
}

fn unknown(error: Error) -> Error {
    let message = "a statement ended before its time (the connection was lost, the time was over, or it met another \
                   transaction half-way), and whether it took effect is not known; check the data before repeating it";
    Error::new(ErrorKind::CommitUnknown, message).with_source(error)
}

/// Runs reads in one flight; one result per task.
pub(super) async fn query_many(
    store: &PostgresStore,
    tasks: &[Task],
    deadline: Deadline,
) -> Vec<Result<ExecResult>> {
    let rendered: Vec<Result<Rendered>> = tasks.iter().map(statement::render).collect();
    let texts: Vec<Rendered> = rendered.iter().flatten().cloned().collect();
    let mut answers = fly(store, &texts, deadline).await.into_iter();
    let missing = || Err(Error::new(ErrorKind::Internal, "a read has no answer"));
    rendered.into_iter().map(|it| it.and_then(|_| answers.next().unwrap_or_else(missing))).collect()
}

async fn fly(store: &PostgresStore, texts: &[Rendered], deadline: Deadline) -> Vec<Result<ExecResult>> {
    if texts.is_empty() {
        return Vec::new();
    }
    let all = |failure: Failure| vec![Err(failure); texts.len()];
    let mut tries = Tries::new();
    loop {
        let answers = match store.pool.take(deadline).await {
            Ok(lease) => fly_once(lease, texts, deadline).await,
            Err(error) => all(tries.connecting(error)),
        };
        // They only read, so all are run again if one of them has to be.
        let cause = answers.iter().filter_map(|answer| answer.as_ref().err()).map(|failure| failure.cause);
        let cause = cause.max_by_key(|cause| matches!(cause, Cause::Lost | Cause::Stale | Cause::Conflict));
        match cause {
            Some(cause) if tries.again(cause, deadline).await => {}
            _ => return answers.into_iter().map(|answer| answer.map_err(|failure| failure.error)).collect(),
        }
    }
}

async fn fly_once(
    mut lease: Lease,
    texts: &[Rendered],
    deadline: Deadline,
) -> Vec<Result<ExecResult, Failure>> {
    lease.begin();
    let flight = deadline.run("running reads", async {
        let prepared = statement::prepare(&lease, texts).await;
        let bind =
            |(prepared, rendered): (Result<_, Failure>, &Rendered)| Ok(statement::bind(prepared?, rendered)?);
        let bound: Vec<Result<Bound, Failure>> = prepared.into_iter().zip(texts).map(bind).collect();
        let client = lease.client();
        let answer = |bound: Result<Bound, Failure>| async move { statement::run(client, &bound?).await };
        in_order(bound.into_iter().map(answer).collect()).await
    });
    match flight.await {
        Ok(answers) => {
            let worst =
                answers.iter().filter_map(|answer| answer.as_ref().err()).map(|failure| failure.cause);
            let worst = worst.max_by_key(|cause| match cause {
                Cause::Lost | Cause::Abandoned => 2,
                Cause::Stale => 1,
                Cause::Final | Cause::Dependent | Cause::Conflict => 0,
            });
            settle(&mut lease, worst.unwrap_or(Cause::Final));
            answers
        }
        Err(late) => {
            drop(lease.cancel());
            vec![Err(Failure { cause: Cause::Abandoned, error: late }); texts.len()]
        }
    }
}
