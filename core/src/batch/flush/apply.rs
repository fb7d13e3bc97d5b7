//! The usual way: everything in a few flights of one transaction, and no savepoint.
//!
//! ```text
//! BEGIN ─▶ watermark lo → hi ─▶ locks ─▶ steps in order ─▶ sets ─▶ singles ─▶ version ─▶ COMMIT
//! ```
//! A refusal ends it with nothing applied; `careful` then finds out what was refused.

use futures_util::future::join;

use super::plan::{Plan, Set};
use super::replay::{self, Steps};
use super::watermark::{advance, number};
use super::{Applied, Flight, Missed};
use crate::base::crash::crash;
use crate::batch::records::Log;
use crate::error::{Error, ErrorKind};
use crate::sql::Rendered;
use crate::store::{Access, ChangedKey, CommitFailure, ExecResult, StepFailure, Transaction};
use crate::value::Value;

/// Why it was not applied.
pub(super) enum Failure {
    /// It may pass when it is run again.
    Again(Error),
    /// The watermark is not where the batch begins.
    Moved,
    /// Something in it was refused; at COMMIT, by a deferred constraint.
    Refused(Error),
    /// On this table two keys that differ mean one row, or may, and it matters which comes first.
    Entangled(Box<str>),
    /// Nobody knows yet whether it was committed.
    Unknown(Error, Box<Applied>),
}

/// What a statement is for.
#[derive(Clone, Copy)]
enum Part<'p> {
    Other,
    Set(&'p Set),
    /// Whether two keys of this table meant one row.
    Collisions(&'p str),
}

/// Statements that go out in one flight: their parameters are in memory at one time.
const FLIGHT: usize = 4;
/// The same of statements that are small.
const STEPS: usize = 256;

/// Applies a batch.
pub(super) async fn apply(flight: &Flight<'_>, plan: &Plan<'_>, log: &dyn Log) -> Result<Applied, Failure> {
    plan.check().map_err(Failure::Entangled)?;
    crash!("flush.before_begin");
    let access = if plan.by_key { Access::ByKey } else { Access::Any };
    let begun = flight.store.begin(access, flight.deadline).await;
    let mut transaction = begun.map_err(Failure::of)?;
    let mut run = Run { transaction: &mut *transaction, plan, applied: Applied::new(flight.batch) };
    match run.all(flight, log).await {
        Ok(()) => {
            let applied = run.applied;
            commit(flight, transaction, applied).await
        }
        Err(failure) => {
            transaction.roll_back().await;
            Err(failure)
        }
    }
}

/// Commits, with the crash points on both sides.
pub(super) async fn commit(
    flight: &Flight<'_>,
    transaction: Box<dyn Transaction>,
    mut applied: Applied,
) -> Result<Applied, Failure> {
    let changed = flight.keys.iter().cloned().map(ChangedKey::from).collect();
    let (admitted, cover) = join(
        flight.hooks.before_commit(flight.keys, flight.deadline),
        flight.hooks.cover(changed, flight.deadline),
    )
    .await;
    if let Err(error) = admitted {
        transaction.roll_back().await;
        cover.called_off().await;
        return Err(Failure::Again(error));
    }
    crash!("flush.before_commit");
    let failure = match transaction.commit().await {
        Ok(()) => {
            crash!("flush.after_commit");
            applied.cover = Some(cover);
            return Ok(applied);
        }
        // Until the watermark says how it ended.
        Err(CommitFailure::Unknown(error)) => {
            applied.cover = Some(cover);
            return Err(Failure::Unknown(error, Box::new(applied)));
        }
        Err(CommitFailure::Again(error)) => Failure::Again(error),
        Err(CommitFailure::Refused(error)) => Failure::Refused(error),
    };
    cover.called_off().await;
    Err(failure)
}

impl Failure {
    pub(super) fn of(failure: StepFailure) -> Failure {
        match failure {
            StepFailure::Again(error) => Failure::Again(error),
            StepFailure::Refused { error, .. } => Failure::Refused(error),
        }
    }
}

/// Moves the watermark, by itself: a batch that was applied already sends nothing more.
pub(super) async fn move_watermark(
    transaction: &mut dyn Transaction,
    flight: &Flight<'_>,
) -> Result<(), Failure> {
    let advance = advance(flight.stream, flight.batch.lo, flight.batch.hi);
    match transaction.run(&[advance]).await {
        Ok(_) => Ok(()),
        Err(StepFailure::Refused { error, .. }) if is_moved(&error) => Err(Failure::Moved),
        Err(failure) => Err(Failure::of(failure)),
    }
}

/// The division by zero of [`advance`].
fn is_moved(error: &Error) -> bool {
    error.sqlstate() == Some("22012")
}

struct Run<'r, 'p> {
    transaction: &'r mut dyn Transaction,
    plan: &'p Plan<'p>,
    applied: Applied,
}

impl<'p> Run<'_, 'p> {
    async fn all(&mut self, flight: &Flight<'_>, log: &dyn Log) -> Result<(), Failure> {
        move_watermark(self.transaction, flight).await?;
        crash!("flush.after_watermark");
        let locks = self.plan.locks().into_iter().map(|lock| (lock, Part::Other));
        self.send(locks.collect()).await?;
        // In front of the sets: what is inserted in the caller's words may be what a set refers to.
        if flight.batch.replays {
            self.steps(Steps::replayed(log, flight.batch)).await?;
        }
        self.sets().await?;
        self.singles().await?;
        let doubts = self.plan.collisions().into_iter().map(|(table, it)| (it, Part::Collisions(table)));
        self.send(doubts.collect()).await?;
        let results =
            self.transaction.run(&[number(flight.stream, flight.batch.hi)]).await.map_err(Failure::of)?;
        self.applied.version = version_of(&results)?;
        Ok(())
    }

    async fn steps(&mut self, mut steps: Steps<'_>) -> Result<(), Failure> {
        while let Some(piece) = steps.piece()? {
            let groups = replay::groups(&piece).map_err(Failure::Refused)?;
            for groups in groups.chunks(STEPS) {
                let statements: Vec<Rendered> = groups.iter().map(|group| group.statement.clone()).collect();
                let results = self.transaction.run(&statements).await.map_err(Failure::of)?;
                for (group, result) in groups.iter().zip(&results) {
                    self.applied.count_steps(&piece[group.steps.clone()], std::slice::from_ref(result));
                }
            }
        }
        Ok(())
    }

    async fn singles(&mut self) -> Result<(), Failure> {
        let plan = self.plan;
        for singles in plan.singles.chunks(FLIGHT) {
            let (mut statements, mut ends) = (Vec::with_capacity(singles.len()), Vec::new());
            for (at, column) in singles {
                statements.extend(plan.single(*at, *column).map_err(Failure::Refused)?);
                ends.push((statements.len(), plan.route(at.route).table.quoted()));
            }
            let results = self.transaction.run(&statements).await.map_err(Failure::of)?;
            let mut begin = 0;
            for (end, table) in ends {
                self.applied.count_alone(1, &results[begin..end], Some(table));
                begin = end;
            }
        }
        Ok(())
    }

    /// While the server works on one flight the next one is made.
    async fn sets(&mut self) -> Result<(), Failure> {
        let plan = self.plan;
        let mut flights = plan.sets.chunks(FLIGHT).map(|sets| flight_of(plan, sets));
        let mut ready = flights.next();
        while let Some((statements, parts)) = ready {
            crash!("flush.mid_transaction");
            let sent = self.transaction.run(&statements);
            let (results, next) = join(sent, async { flights.next() }).await;
            self.take(&parts, &results.map_err(Failure::of)?).await?;
            ready = next;
        }
        Ok(())
    }

    async fn send(&mut self, statements: Vec<(Rendered, Part<'p>)>) -> Result<(), Failure> {
        let (statements, parts): (Vec<Rendered>, Vec<Part<'p>>) = statements.into_iter().unzip();
        if statements.is_empty() {
            return Ok(());
        }
        let results = self.transaction.run(&statements).await.map_err(Failure::of)?;
        self.take(&parts, &results).await
    }

    async fn take(&mut self, parts: &[Part<'p>], results: &[ExecResult]) -> Result<(), Failure> {
        for (part, result) in parts.iter().zip(results) {
            match part {
                Part::Other => {}
                Part::Collisions(table) if has_rows(std::slice::from_ref(result)) => {
                    return Err(Failure::Entangled((*table).into()));
                }
                Part::Collisions(_) => {}
                Part::Set(set) => {
                    let missed = self.applied.count_set(self.plan, set, result);
                    let mut again = Again::of(self.plan, set, missed);
                    while let Some(update) = again.next() {
                        let results = self.transaction.run(&[update]).await.map_err(Failure::of)?;
                        again.found(&results, &mut self.applied)?;
                    }
                    again.end(&mut self.applied);
                }
            }
        }
        Ok(())
    }
}

fn flight_of<'p>(plan: &'p Plan<'p>, sets: &'p [Set]) -> (Vec<Rendered>, Vec<Part<'p>>) {
    let mut statements = Vec::with_capacity(sets.len());
    let mut parts = Vec::with_capacity(sets.len());
    for set in sets {
        let (insert, update) = plan.statements(set, &set.rows);
        parts.extend(insert.as_ref().map(|_| Part::Other));
        parts.push(Part::Set(set));
        statements.extend(insert.into_iter().chain([update]));
    }
    (statements, parts)
}

/// Rows that an UPDATE did not find are missing, or were found under another spelling of the key, which it did not
/// apply: of several inputs for one row an UPDATE takes one. So it is said again for the rest.
pub(super) struct Again<'a> {
    plan: &'a Plan<'a>,
    set: &'a Set,
    missed: Vec<u32>,
    /// Those of which it does not matter which they are.
    missing: u64,
    over: bool,
}

impl<'a> Again<'a> {
    pub(super) fn of(plan: &'a Plan<'a>, set: &'a Set, missed: Missed) -> Again<'a> {
        let (missed, missing) = match missed {
            Missed::Count(rows) => (Vec::new(), rows),
            Missed::Rows(rows) => (rows, 0),
        };
        Again { plan, set, missed, missing, over: plan.tells_apart(set.route) }
    }

    pub(super) fn next(&self) -> Option<Rendered> {
        let wanted = !self.over && !self.missed.is_empty();
        wanted.then(|| self.plan.statements(self.set, &self.missed).1)
    }

    /// What the last one found.
    pub(super) fn found(&mut self, results: &[ExecResult], applied: &mut Applied) -> Result<(), Failure> {
        let found = super::positions(results.first());
        self.over = found.is_empty();
        if !self.over && !self.plan.commutes(self.set) {
            return Err(Failure::Entangled(self.plan.route(self.set.route).table.last().into()));
        }
        applied.report.rows += found.len() as u64;
        let kept = (1_u64..).zip(&self.missed).filter(|(position, _)| !found.contains(position));
        self.missed = kept.map(|(_, row)| *row).collect();
        Ok(())
    }

    /// The rows that are left, which somebody else sees to.
    pub(super) fn left(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.missed)
    }

    pub(super) fn end(self, applied: &mut Applied) {
        let missing = self.missing + self.missed.len() as u64;
        applied.miss(self.plan.route(self.set.route).table.quoted(), missing);
    }
}

pub(super) fn has_rows(results: &[ExecResult]) -> bool {
    results.iter().any(|it| !it.rows.is_empty())
}

pub(super) fn version_of(results: &[ExecResult]) -> Result<u64, Failure> {
    match results.last().and_then(|it| it.rows.first()).map(|row| row.values.as_slice()) {
        Some([Value::Int(version)]) => Ok(version.unsigned_abs()),
        _ => {
            let message = "the transaction of a batch was ended by something in it";
            Err(Failure::Again(Error::new(ErrorKind::Internal, message)))
        }
    }
}
