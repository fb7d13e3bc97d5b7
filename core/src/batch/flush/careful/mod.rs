//! The careful way: after something was refused. Every part goes out behind a savepoint; what is refused is halved until
//! the cell is found, and that cell's operations run again from the journal until the operation is found. It becomes a
//! dead letter in the same transaction, and everything else is applied.
//!
//! ```text
//! watermark ─▶ steps ─┬─▶ sets ─┬─▶ singles ─┬─▶ what was refused, once more ─▶ version ─▶ COMMIT
//!                     ╰ refused ╰ refused    ╰ refused                │
//!                                                                     ╰ a task of a list was: again, with the list apart
//! ```
//! | file | what it knows |
//! |---|---|
//! | `steps`, `atoms` | what runs in order, and what of it goes out together |
//! | `sets` | what is composed |
//! | `cells`, `hopeless` | the operations of refused cells |
//! | `halves` | how a refused one is found among many |
//! | `burial` | what becomes of it |
//! | `lists` | lists of tasks, and why there are several passes |
//! | `constraints` | when deferred constraints are asked |

mod atoms;
mod burial;
mod cells;
mod constraints;
mod halves;
mod hopeless;
mod lists;
mod sets;
mod steps;

use std::collections::HashSet;

use crate::base::crash::crash;
use crate::batch::batch::Slot;
use crate::batch::flush::apply::{Failure, commit, has_rows, move_watermark, version_of};
use crate::batch::flush::plan::Plan;
use crate::batch::flush::replay::At;
use crate::batch::flush::watermark::number;
use crate::batch::flush::{Applied, Flight, Tables};
use crate::batch::records::Log;
use crate::error::Error;
use crate::sql::Rendered;
use crate::store::{Access, ExecResult, StepFailure, Transaction};
use constraints::Constraints;
use hopeless::Hopeless;
use lists::Lists;

/// What part of the time of a transaction one flight of statements has, once it is given up on.
const PATIENCE: u128 = 20;

/// Applies a batch of which something is refused, be it at COMMIT.
pub(super) async fn apply(flight: &Flight<'_>, tables: &Tables, log: &dyn Log) -> Result<Applied, Failure> {
    let constraints = Constraints::of(flight.store, flight.deadline).await.map_err(Failure::Again)?;
    let mut lists = Lists::default();
    loop {
        let rebuilt = lists.taken_out(flight.batch, log).map_err(Failure::Again)?;
        let batch = rebuilt.as_ref().unwrap_or(flight.batch);
        let flight = Flight { batch, ..*flight };
        let plan = Plan::of(batch, tables, flight.store, flight.deadline).await.map_err(Failure::Again)?;
        plan.check().map_err(Failure::Entangled)?;
        let access = if plan.by_key { Access::ByKey } else { Access::Any };
        let transaction = flight.store.begin(access, flight.deadline).await.map_err(Failure::of)?;
        let mut surgery = Surgery {
            transaction,
            flight: &flight,
            plan: &plan,
            log,
            constraints: &constraints,
            applied: Applied::new(batch),
            fresh: Vec::new(),
            refused_steps: HashSet::new(),
            refused_cells: HashSet::new(),
            hopeless: Hopeless::default(),
            broken_lists: HashSet::new(),
        };
        match surgery.run().await {
            Ok(()) if surgery.broken_lists.is_empty() => {
                return commit(&flight, surgery.transaction, surgery.applied).await;
            }
            Ok(()) => {
                surgery.transaction.roll_back().await;
                lists.note(surgery.broken_lists, batch, log).map_err(Failure::Again)?;
            }
            Err(why) => {
                surgery.transaction.roll_back().await;
                return Err(why);
            }
        }
    }
}

/// One pass.
struct Surgery<'a> {
    transaction: Box<dyn Transaction>,
    flight: &'a Flight<'a>,
    plan: &'a Plan<'a>,
    log: &'a dyn Log,
    constraints: &'a Constraints,
    applied: Applied,
    /// Dead, and not yet written down.
    fresh: Vec<(u64, Error)>,
    /// Refused because a row is missing that may come later.
    refused_steps: HashSet<At>,
    /// Refused as composed.
    refused_cells: HashSet<Slot>,
    hopeless: Hopeless,
    /// Lists of which a task was refused while others of their tasks are composed with something else: with any of these
    /// the pass was in vain.
    broken_lists: HashSet<u64>,
}

/// What became of statements behind a savepoint; `Err` is a refusal.
type Outcome = Result<Vec<ExecResult>, Error>;

impl Surgery<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        move_watermark(&mut *self.transaction, self.flight).await?;
        self.hurry().await?;
        for lock in self.plan.locks() {
            // A table that is gone is found out below.
            self.attempt(&[lock]).await?.ok();
        }
        self.steps().await?;
        self.sets().await?;
        self.singles().await?;
        self.steps_once_more().await?;
        self.cells_once_more().await?;
        for (table, question) in self.plan.collisions() {
            if let Ok(results) = self.attempt(&[question]).await?
                && has_rows(&results)
            {
                return Err(Failure::Entangled(table.into()));
            }
        }
        if !self.broken_lists.is_empty() {
            return Ok(());
        }
        self.applied.dead.sort();
        self.applied.report.dead = self.applied.dead.len() as u64;
        if self.applied.report.dead > 0 {
            crash!("flush.after_burial");
        }
        let number = number(self.flight.stream, self.flight.batch.hi);
        let results = self.transaction.run(&[number]).await.map_err(Failure::of)?;
        self.applied.version = version_of(&results)?;
        Ok(())
    }

    async fn hurry(&mut self) -> Result<(), Failure> {
        if self.flight.gives_up {
            // One that never ends is found before the time of the whole transaction is over.
            let milliseconds = (self.flight.deadline.remaining().as_millis() / PATIENCE).max(1);
            let less = format!("SET LOCAL statement_timeout = {milliseconds}");
            let less = Rendered { sql: less.into(), params: [].into() };
            self.transaction.run(&[less]).await.map_err(Failure::of)?;
        }
        Ok(())
    }

    /// Runs statements behind a savepoint.
    async fn attempt(&mut self, statements: &[Rendered]) -> Result<Outcome, Failure> {
        if statements.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let all = self.constraints.behind(statements);
        let attempted = self.transaction.attempt(&all).await;
        self.outcome(attempted, statements.len())
    }

    /// The same for each of several groups.
    async fn attempt_each(&mut self, groups: &[Vec<Rendered>]) -> Result<Vec<Outcome>, Failure> {
        let all: Vec<_> = groups.iter().map(|group| self.constraints.behind(group)).collect();
        let attempted = self.transaction.attempt_each(&all).await.map_err(Failure::of)?;
        let counted = attempted.into_iter().zip(groups);
        counted.map(|(attempted, group)| self.outcome(attempted, group.len())).collect()
    }

    fn outcome(
        &self,
        attempted: Result<Vec<ExecResult>, StepFailure>,
        statements: usize,
    ) -> Result<Outcome, Failure> {
        match attempted {
            Ok(mut results) => {
                results.truncate(statements);
                Ok(Ok(results))
            }
            Err(StepFailure::Refused { index, error })
                if self.constraints.is_putting_back(index, statements) =>
            {
                Err(Failure::Again(error))
            }
            Err(StepFailure::Refused { error, .. }) => Ok(Err(error)),
            Err(StepFailure::Again(error)) if self.flight.gives_up && error.sqlstate().is_some() => {
                Ok(Err(error))
            }
            Err(StepFailure::Again(error)) => Err(Failure::Again(error)),
        }
    }
}
