//! The careful way: after something was refused. Every part goes out behind a savepoint; what is refused is halved until
//! the cell is found, and that cell's operations run again from the journal until the operation is found. It becomes a
//! dead letter in the same transaction, and everything else is applied.
//!
//! ```text
//! watermark ─▶ steps ─┬─▶ sets ─┬─▶ singles ─┬─▶ what was refused, once more ─▶ dead letters ─▶ COMMIT
//!                     ╰ refused ╰ refused    ╰ refused                │
//!                                                                     ╰ a task of a list died: again without the list
//! ```
//! Statements of which a foreign key was refused are tried once more at the end, because they may need what comes later in
//! the transaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use smallvec::SmallVec;

use super::apply::{Failure, commit, has_rows, move_watermark, version_of};
use super::plan::{Plan, RowAt, Set, alone};
use super::replay::{self, At, Group, Step, Steps, What};
use super::watermark::number;
use super::{Applied, Flight, Tables};
use crate::base::crash::crash;
use crate::batch::batch::Slot;
use crate::batch::dead::Letters;
use crate::batch::rebuild::rebuild;
use crate::batch::records::Log;
use crate::error::{Error, ErrorKind};
use crate::ops::Form;
use crate::sql::{Cell, Rendered};
use crate::store::{Access, ExecResult, StepFailure, Transaction};

/// Statements behind one savepoint before halving begins.
const FIRST_TRY: usize = 256;
/// Deferred constraints speak up with the statement that breaks them.
const IMMEDIATE: &str = "SET CONSTRAINTS ALL IMMEDIATE";
/// What part of the time of a transaction one flight of statements has, once it is given up on.
const PATIENCE: u128 = 20;
/// A foreign key refers to a row that is not there.
const MISSING_ROW: &str = "23503";

/// Applies a batch of which something is refused, be it at COMMIT.
pub(super) async fn apply(flight: &Flight<'_>, tables: &Tables, log: &dyn Log) -> Result<Applied, Failure> {
    let mut withdrawn: HashMap<u64, Error> = HashMap::new();
    // The withdrawn ones count as well.
    let operations = flight.batch.operations;
    loop {
        let rebuilt;
        let batch = if withdrawn.is_empty() {
            flight.batch
        } else {
            let excluded: HashSet<u64> = withdrawn.keys().copied().collect();
            rebuilt = rebuild(log, flight.batch.lo, flight.batch.hi, &excluded, &flight.batch.expected)
                .map_err(Failure::Again)?;
            &rebuilt
        };
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
            applied: Applied::new(batch),
            refused_steps: HashSet::new(),
            refused_cells: HashSet::new(),
            hopeless: HashMap::new(),
            list_died: None,
        };
        surgery.applied.dead.clone_from(&withdrawn);
        surgery.applied.report.operations = operations;
        match surgery.run().await {
            Ok(()) if surgery.list_died.is_none() => {
                return commit(surgery.transaction, surgery.applied).await;
            }
            Ok(()) => {
                surgery.transaction.roll_back().await;
                withdrawn.extend(surgery.list_died);
            }
            Err(why) => {
                surgery.transaction.roll_back().await;
                return Err(why);
            }
        }
    }
}

struct Surgery<'a> {
    transaction: Box<dyn Transaction>,
    flight: &'a Flight<'a>,
    plan: &'a Plan<'a>,
    log: &'a dyn Log,
    applied: Applied,
    /// Refused because a row is missing that may come later.
    refused_steps: HashSet<At>,
    /// Refused as composed.
    refused_cells: HashSet<Slot>,
    /// Whatever is done to them is refused, and why.
    hopeless: HashMap<Slot, Error>,
    /// A record of several tasks, one of which was refused: none of them may be applied.
    list_died: Option<(u64, Error)>,
}

/// Parts of a list that are still to be tried, in order.
struct Halves(Vec<Range<usize>>);

impl Halves {
    fn of(length: usize) -> Halves {
        Halves(Vec::from([Range { start: 0, end: length }]))
    }

    fn pop(&mut self) -> Option<Range<usize>> {
        self.0.pop()
    }

    /// The two halves come next.
    fn halve(&mut self, range: Range<usize>) {
        let middle = range.start + range.len() / 2;
        self.0.extend([middle..range.end, range.start..middle]);
    }
}

impl Surgery<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        let batch = self.flight.batch;
        move_watermark(&mut *self.transaction, self.flight).await?;
        // What is refused at COMMIT would be refused with all the rest.
        let at_once = Rendered { sql: IMMEDIATE.into(), params: [].into() };
        self.transaction.run(&[at_once]).await.map_err(Failure::of)?;
        if self.flight.gives_up {
            // One that never ends is found before the time of the whole transaction is over.
            let milliseconds = (self.flight.deadline.remaining().as_millis() / PATIENCE).max(1);
            let less = Rendered {
                sql: format!("SET LOCAL statement_timeout = {milliseconds}").into(),
                params: [].into(),
            };
            self.transaction.run(&[less]).await.map_err(Failure::of)?;
        }
        for lock in self.plan.locks() {
            // A table that is gone is found out below.
            self.attempt(&[lock]).await?.ok();
        }
        if batch.replays {
            let mut steps = Steps::replayed(self.log, batch);
            while let Some(piece) = next_piece(&mut steps)? {
                self.steps(&piece).await?;
            }
        }
        for set in &self.plan.sets {
            self.set(set).await?;
        }
        for (at, column) in self.plan.singles.clone() {
            let outcome = match self.plan.single(at, column) {
                Ok(statements) => self.attempt(&statements).await?,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(results) => {
                    let table = self.plan.route(at.route).table.quoted();
                    self.applied.count_alone(1, &results, Some(table));
                }
                Err(_) => drop(self.refused_cells.insert(at.slot(column))),
            }
        }
        self.once_more().await?;
        for (table, question) in self.plan.collisions() {
            if let Ok(results) = self.attempt(&[question]).await?
                && has_rows(&results)
            {
                return Err(Failure::Entangled(table.into()));
            }
        }
        if self.list_died.is_some() {
            return Ok(());
        }
        let mut letters = Letters::of(self.log, batch, self.flight.stream, &self.applied.dead);
        while let Some(insert) = letters.next().map_err(Failure::Again)? {
            self.transaction.run(&[insert]).await.map_err(Failure::of)?;
        }
        if !self.applied.dead.is_empty() {
            crash!("flush.after_burial");
        }
        self.applied.report.dead = self.applied.dead.len() as u64;
        let results = self
            .transaction
            .run(&[number(self.flight.stream, self.flight.batch.hi)])
            .await
            .map_err(Failure::of)?;
        self.applied.version = version_of(&results)?;
        Ok(())
    }

    /// Runs statements behind a savepoint; `Err` in the result is a refusal.
    async fn attempt(&mut self, statements: &[Rendered]) -> Result<Result<Vec<ExecResult>, Error>, Failure> {
        if statements.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        match self.transaction.attempt(statements).await {
            Ok(results) => Ok(Ok(results)),
            Err(StepFailure::Refused { error, .. }) => Ok(Err(error)),
            Err(StepFailure::Again(error)) if self.flight.gives_up && error.sqlstate().is_some() => {
                Ok(Err(error))
            }
            Err(StepFailure::Again(error)) => Err(Failure::Again(error)),
        }
    }

    /// Steps in order. A refused one is dead, and those after it go on: each stands for itself. Run again later, it would
    /// apply to what they left; only one that misses a row is, since composed operations may have inserted it.
    async fn steps(&mut self, steps: &[Step]) -> Result<(), Failure> {
        let groups = match replay::groups(steps) {
            Ok(groups) => groups,
            // One of them cannot even be written.
            Err(_) => return self.steps_alone(steps).await,
        };
        let mut ranges = Halves::of(groups.len());
        while let Some(range) = ranges.pop() {
            if range.len() > FIRST_TRY {
                ranges.halve(range);
                continue;
            }
            let statements: Vec<Rendered> =
                groups[range.clone()].iter().map(|it| it.statement.clone()).collect();
            match self.attempt(&statements).await? {
                Ok(results) => {
                    for (group, result) in groups[range].iter().zip(&results) {
                        self.applied.count_steps(&steps[group.steps.clone()], std::slice::from_ref(result));
                    }
                }
                Err(error) if range.len() == 1 => {
                    self.group_alone(steps, &groups[range.start], error).await?;
                }
                Err(_) => ranges.halve(range),
            }
        }
        Ok(())
    }

    async fn group_alone(&mut self, steps: &[Step], group: &Group, error: Error) -> Result<(), Failure> {
        if group.steps.len() == 1 {
            self.set_aside(&steps[group.steps.start], error);
            return Ok(());
        }
        self.steps_alone(&steps[group.steps.clone()]).await
    }

    async fn steps_alone(&mut self, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            match self.step(step).await? {
                Ok(results) => self.applied.count_steps(std::slice::from_ref(step), &results),
                Err(error) => self.set_aside(step, error),
            }
        }
        Ok(())
    }

    fn set_aside(&mut self, step: &Step, error: Error) {
        match error.sqlstate() {
            Some(MISSING_ROW) => drop(self.refused_steps.insert(step.at)),
            _ => self.bury(step, error),
        }
    }

    async fn step(&mut self, step: &Step) -> Result<Result<Vec<ExecResult>, Error>, Failure> {
        match step.statement() {
            Ok(statement) => self.attempt(&[statement]).await,
            Err(error) => Ok(Err(error)),
        }
    }

    /// A set, halved where it is refused.
    async fn set(&mut self, set: &Set) -> Result<(), Failure> {
        let mut ranges = Halves::of(set.rows.len());
        while let Some(range) = ranges.pop() {
            let rows = &set.rows[range.clone()];
            let (insert, update) = self.plan.statements(set, rows);
            let statements: SmallVec<[Rendered; 2]> = insert.into_iter().chain([update]).collect();
            match self.attempt(&statements).await? {
                Ok(results) => self.count_rows(set, rows, results.last()).await?,
                Err(_) if rows.len() == 1 => {
                    let at = RowAt { route: set.route, row: rows[0] };
                    self.refused_cells.extend(set.columns.iter().map(|column| at.slot(*column)));
                }
                Err(_) => ranges.halve(range),
            }
        }
        Ok(())
    }

    async fn count_rows(
        &mut self,
        set: &Set,
        rows: &[u32],
        result: Option<&ExecResult>,
    ) -> Result<(), Failure> {
        let Some(result) = result else { return Ok(()) };
        let part =
            Set { route: set.route, columns: set.columns.clone(), first: set.first, rows: rows.to_vec() };
        let missed = self.applied.count_set(self.plan, &part, result);
        super::apply::again(&mut *self.transaction, self.plan, &part, missed, &mut self.applied).await
    }

    async fn once_more(&mut self) -> Result<(), Failure> {
        let (log, batch) = (self.log, self.flight.batch);
        let again = std::mem::take(&mut self.refused_steps);
        if !again.is_empty() {
            let mut steps = Steps::wanted(log, batch, |at, _| again.contains(&at));
            while let Some(piece) = next_piece(&mut steps)? {
                for step in &piece {
                    match self.step(step).await? {
                        Ok(results) => self.applied.count_steps(std::slice::from_ref(step), &results),
                        Err(error) => self.bury(step, error),
                    }
                }
            }
        }
        let cells = std::mem::take(&mut self.refused_cells);
        if !cells.is_empty() {
            let slot = |cell: &Cell| batch.locate(cell).filter(|slot| cells.contains(slot));
            let mut steps = Steps::wanted(log, batch, |_, cell| cell.and_then(slot).is_some());
            while let Some(piece) = next_piece(&mut steps)? {
                self.cells(piece).await?;
            }
        }
        Ok(())
    }

    /// Operations of refused cells, each cell's in order.
    async fn cells(&mut self, steps: Vec<Step>) -> Result<(), Failure> {
        let mut by_cell: BTreeMap<Slot, Vec<Step>> = BTreeMap::new();
        for step in steps {
            if let What::Cell(cell) = &step.what
                && let Some(slot) = self.flight.batch.locate(cell)
            {
                by_cell.entry(slot).or_default().push(step);
            }
        }
        for (slot, steps) in by_cell {
            match self.hopeless.get(&slot).cloned() {
                Some(error) => steps.iter().for_each(|step| self.bury(step, error.clone())),
                None => self.cell(slot, &steps).await?,
            }
        }
        Ok(())
    }

    /// The operations of one cell: composed as far as that is accepted, halved where it is not.
    async fn cell(&mut self, slot: Slot, steps: &[Step]) -> Result<(), Failure> {
        let mut ranges = Halves::of(steps.len());
        while let Some(range) = ranges.pop() {
            let part = &steps[range.clone()];
            let error = match composed(part) {
                Ok(statements) => match self.attempt(&statements).await? {
                    Ok(results) => {
                        self.applied.count_alone(1, &results, part[0].table());
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if part.len() == 1 {
                self.bury(&part[0], error.clone());
                if is_structural(&error) {
                    // There is no such table or column: what follows would be told the same.
                    self.hopeless.insert(slot, error.clone());
                    std::iter::from_fn(|| ranges.pop())
                        .flatten()
                        .for_each(|at| self.bury(&steps[at], error.clone()));
                }
                continue;
            }
            ranges.halve(range);
        }
        Ok(())
    }

    fn bury(&mut self, step: &Step, error: Error) {
        if step.of_list && self.list_died.is_none() {
            self.list_died = Some((step.at.sequence, error.clone()));
        }
        self.applied.dead.insert(step.at.sequence, error);
    }
}

fn next_piece(steps: &mut Steps<'_>) -> Result<Option<Vec<Step>>, Failure> {
    let piece = steps.next().map_err(Failure::Again)?;
    Ok((!piece.is_empty()).then_some(piece))
}

/// The statements of several operations on one cell; an error if they do not compose.
fn composed(steps: &[Step]) -> Result<Vec<Rendered>, Error> {
    if let [step] = steps {
        return step.statement().map(|statement| vec![statement]);
    }
    let apart = || Error::new(ErrorKind::Task, "the operations do not compose");
    let cells = steps.iter().map(|step| match &step.what {
        What::Cell(cell) => Ok(cell),
        What::Statement(_) => Err(apart()),
    });
    let cells = cells.collect::<Result<Vec<_>, Error>>()?;
    let first = cells.first().ok_or_else(apart)?;
    let mut form = Form::new(first.kind().into());
    for cell in &cells {
        for operation in cell.operations().ok_or_else(apart)? {
            form.then(&operation).map_err(|_| apart())?;
        }
    }
    alone(first.at(&first.row_arguments()), &form)
}

fn is_structural(error: &Error) -> bool {
    matches!(error.sqlstate(), Some("42P01" | "42703" | "42501" | "42804" | "42883"))
}
