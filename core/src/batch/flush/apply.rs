//! The usual way: everything in two flights of one transaction, and no savepoint.
//!
//! ```text
//! BEGIN ─▶ watermark lo → hi ∥ locks ∥ steps in order ∥ sets ∥ singles ∥ version ─▶ rows counted ─▶ COMMIT
//! ```
//! A refusal ends it with nothing applied; `careful` then finds out what was refused.

use super::plan::{Plan, Set};
use super::replay::{self, Step};
use super::watermark::advance;
use super::{Applied, Flight, Missed};
use crate::base::crash::crash;
use crate::batch::batch::Batch;
use crate::error::{Error, ErrorKind};
use crate::sql::Rendered;
use crate::store::{Access, CommitFailure, ExecResult, StepFailure, Transaction};
use crate::value::Value;

/// Numbers the transaction among those that touch its rows; see `zmsg_ver`.
pub(in crate::batch) const VERSION: &str = "SELECT nextval('zmsg_ver')";

/// Why it was not applied.
pub(super) enum Failure {
    /// It may pass when it is run again.
    Again(Error),
    /// The watermark is not where the batch begins.
    Moved,
    /// Something in it was refused.
    Refused(Error),
    /// On this table two keys that differ mean one row, or may, and it matters which comes first.
    Entangled(Box<str>),
    /// Nobody knows yet whether it was committed.
    Unknown(Error, Box<Applied>),
}

/// What a statement of the flight is for.
enum Part<'p> {
    Other,
    Step(usize),
    Set(&'p Set),
    Single,
    /// Whether two keys of this table meant one row.
    Collisions(&'p str),
}

/// Applies a batch.
pub(super) async fn apply(flight: &Flight<'_>, plan: &Plan<'_>, steps: &[Step]) -> Result<Applied, Failure> {
    plan.check().map_err(Failure::Entangled)?;
    let (statements, parts) = compile(flight, plan, steps).map_err(Failure::Refused)?;
    crash!("flush.before_begin");
    let access = if plan.by_key { Access::ByKey } else { Access::Any };
    let begun = flight.store.begin(access, flight.deadline).await;
    let mut transaction = begun.map_err(|failure| Failure::of(failure, &parts))?;
    let outcome = run(&mut *transaction, flight.batch, plan, statements, &parts).await;
    let applied = match outcome {
        Ok(applied) => applied,
        Err(failure) => {
            transaction.roll_back().await;
            return Err(failure);
        }
    };
    commit(transaction, applied).await
}

/// Commits, with the crash points on both sides.
pub(super) async fn commit(transaction: Box<dyn Transaction>, applied: Applied) -> Result<Applied, Failure> {
    crash!("flush.before_commit");
    match transaction.commit().await {
        Ok(()) => {
            crash!("flush.after_commit");
            Ok(applied)
        }
        Err(CommitFailure::Again(error)) => Err(Failure::Again(error)),
        Err(CommitFailure::Refused(error)) => Err(Failure::Refused(error)),
        Err(CommitFailure::Unknown(error)) => Err(Failure::Unknown(error, Box::new(applied))),
    }
}

impl Failure {
    fn of(failure: StepFailure, parts: &[Part<'_>]) -> Failure {
        match failure {
            StepFailure::Again(error) => Failure::Again(error),
            // The first statement is the watermark's.
            StepFailure::Refused { index: 0, error } if !parts.is_empty() && is_moved(&error) => {
                Failure::Moved
            }
            StepFailure::Refused { error, .. } => Failure::Refused(error),
        }
    }
}

/// The division by zero of [`advance`].
pub(super) fn is_moved(error: &Error) -> bool {
    error.sqlstate() == Some("22012")
}

fn compile<'p>(
    flight: &Flight<'_>,
    plan: &'p Plan<'_>,
    steps: &[Step],
) -> Result<(Vec<Rendered>, Vec<Part<'p>>), Error> {
    let mut statements = vec![advance(flight.stream, flight.batch.lo, flight.batch.hi)];
    let mut parts = vec![Part::Other];
    let mut push = |statement, part| {
        statements.push(statement);
        parts.push(part);
    };
    plan.locks().into_iter().for_each(|lock| push(lock, Part::Other));
    // In front of the sets: what is inserted in the caller's words may be what a set refers to.
    for group in replay::groups(steps)? {
        let count = group.steps.len();
        push(group.statement, Part::Step(count));
    }
    for set in &plan.sets {
        let (insert, update) = plan.statements(set, &set.rows);
        insert.into_iter().for_each(|insert| push(insert, Part::Other));
        push(update, Part::Set(set));
    }
    for (at, column) in &plan.singles {
        plan.single(*at, *column)?.into_iter().for_each(|statement| push(statement, Part::Single));
    }
    plan.collisions().into_iter().for_each(|(table, question)| push(question, Part::Collisions(table)));
    push(Rendered { sql: VERSION.into(), params: [].into() }, Part::Other);
    Ok((statements, parts))
}

async fn run(
    transaction: &mut dyn Transaction,
    batch: &Batch,
    plan: &Plan<'_>,
    statements: Vec<Rendered>,
    parts: &[Part<'_>],
) -> Result<Applied, Failure> {
    // The watermark by itself: a batch that was applied already sends nothing more.
    let failed = |failure| Failure::of(failure, parts);
    let mut results = transaction.run(&statements[..1]).await.map_err(failed)?;
    crash!("flush.after_watermark");
    let rest = &statements[1..];
    let half = rest.len() / 2;
    let refused = |failure| match failure {
        StepFailure::Again(error) => Failure::Again(error),
        StepFailure::Refused { error, .. } => Failure::Refused(error),
    };
    results.extend(transaction.run(&rest[..half]).await.map_err(refused)?);
    crash!("flush.mid_transaction");
    results.extend(transaction.run(&rest[half..]).await.map_err(refused)?);
    let mut applied = Applied::new(batch);
    for (part, result) in parts.iter().zip(&results) {
        match part {
            Part::Other => {}
            Part::Step(steps) => applied.count_alone(*steps as u64, result.rows_affected),
            Part::Single => applied.count_alone(1, result.rows_affected),
            Part::Collisions(table) if has_rows(std::slice::from_ref(result)) => {
                return Err(Failure::Entangled((*table).into()));
            }
            Part::Collisions(_) => {}
            Part::Set(set) => {
                let missed = applied.count_set(plan, set, result);
                again(transaction, plan, set, missed, &mut applied).await?;
            }
        }
    }
    applied.version = version_of(&results)?;
    Ok(applied)
}

/// Rows that an UPDATE did not find are missing, or were found under another spelling of the key, which it did not
/// apply: of several inputs for one row an UPDATE takes one.
pub(super) async fn again(
    transaction: &mut dyn Transaction,
    plan: &Plan<'_>,
    set: &Set,
    missed: Missed,
    applied: &mut Applied,
) -> Result<(), Failure> {
    let mut missed = missed;
    while !missed.0.is_empty() && !plan.tells_apart(set.route) {
        let (_, update) = plan.statements(set, &missed.0);
        let results = transaction.run(&[update]).await.map_err(|failure| Failure::of(failure, &[]))?;
        let found = super::positions(results.first());
        if found.is_empty() {
            break;
        }
        if !plan.commutes(set) {
            return Err(Failure::Entangled(plan.route(set.route).table.last().into()));
        }
        applied.report.rows += found.len() as u64;
        let kept = (0_u64..).zip(&missed.0).filter(|(at, _)| !found.contains(&(at + 1)));
        missed = Missed(kept.map(|(_, row)| *row).collect());
    }
    applied.miss(plan, set, missed.0.len() as u64);
    Ok(())
}

pub(super) fn has_rows(results: &[ExecResult]) -> bool {
    results.iter().any(|it| !it.rows.is_empty())
}

pub(super) fn version_of(results: &[ExecResult]) -> Result<u64, Failure> {
    match results.last().and_then(|it| it.rows.first()).map(|row| row.values.as_slice()) {
        Some([Value::Int(version)]) => Ok(version.unsigned_abs()),
        _ => Err(Failure::Again(Error::new(ErrorKind::Internal, "the version of a flush could not be read"))),
    }
}
