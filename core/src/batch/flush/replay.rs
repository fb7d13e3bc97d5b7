//! What runs one by one, in the order in which it was accepted: statements in the caller's words, the operations of
//! ordered domains, and those of cells that do not compose. Read from the journal piece by piece.

use std::collections::HashMap;

use super::apply::Failure;
use crate::batch::batch::{Batch, Keyed};
use crate::batch::records::{Item, Log, Records};
use crate::batch::route::State;
use crate::error::Result;
use crate::sql::multi_row::MultiRow;
use crate::sql::{Cell, Rendered};

/// Steps in memory at one time, and the length of their records.
const MOST_STEPS: usize = 4_096;
const MOST_BYTES: usize = 1 << 20;

/// One task of a record.
pub(super) struct Step {
    pub at: At,
    pub what: What,
    pub record: Record,
}

/// What else the record of a step holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// Nothing.
    Alone,
    /// Other tasks, each of which is a step too.
    Whole,
    /// Other tasks, some of which are not steps.
    Part,
}

/// Names a step: the number of its record, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct At {
    pub sequence: u64,
    pub place: usize,
}

/// What it does.
pub(super) enum What {
    Cell(Cell),
    Statement(Rendered),
}

impl Step {
    pub(super) fn statement(&self) -> Result<Rendered> {
        match &self.what {
            What::Cell(cell) => cell.clone().statement(),
            What::Statement(statement) => Ok(statement.clone()),
        }
    }

    /// The table of its cell; none if it is in the caller's words.
    pub(super) fn table(&self) -> Option<&str> {
        match &self.what {
            What::Cell(cell) => Some(cell.table().quoted()),
            What::Statement(_) => None,
        }
    }
}

/// Says whether a step is wanted, from its name and its cell, if it is one's.
type Wanted<'a> = Box<dyn Fn(At, Option<&Cell>) -> bool + Send + Sync + 'a>;

/// Steps of a batch, in order, a few thousand at a time: how many there are is not bounded by anything but the journal.
pub(super) struct Steps<'a> {
    records: Records<'a>,
    batch: &'a Batch,
    wanted: Wanted<'a>,
}

impl<'a> Steps<'a> {
    /// Those that are not composed.
    pub(super) fn replayed(log: &'a dyn Log, batch: &'a Batch) -> Steps<'a> {
        let composed = |cell: &Cell| !matches!(batch.find(cell), Some(State::Replayed));
        Steps::wanted(log, batch, move |_, cell| !cell.is_some_and(composed))
    }

    /// Those that `wanted` says. Of the statements with one batch key only the last one is a step.
    pub(super) fn wanted(
        log: &'a dyn Log,
        batch: &'a Batch,
        wanted: impl Fn(At, Option<&Cell>) -> bool + Send + Sync + 'a,
    ) -> Steps<'a> {
        Steps { records: Records::new(log, batch.lo, batch.hi), batch, wanted: Box::new(wanted) }
    }

    /// The next ones; `None` behind the last one.
    pub(super) fn piece(&mut self) -> std::result::Result<Option<Vec<Step>>, Failure> {
        let piece = self.next().map_err(Failure::Again)?;
        Ok((!piece.is_empty()).then_some(piece))
    }

    fn next(&mut self) -> Result<Vec<Step>> {
        let (mut steps, mut bytes) = (Vec::new(), 0);
        let (batch, wanted) = (self.batch, &self.wanted);
        while steps.len() < MOST_STEPS && bytes < MOST_BYTES {
            let (before, mut items, mut left_out) = (steps.len(), 0, false);
            let mut met = HashMap::new();
            let next = self.records.next(&mut |sequence, item, _| {
                let at = At { sequence, place: items };
                items += 1;
                let cell = match &item {
                    Item::Cell(cell) => Some(*cell),
                    Item::Statement { batch_key, .. } => {
                        if let Some(key) = batch_key
                            && let Some(last) = batch.coalesced.get(*key)
                        {
                            let nth = met.entry(Box::<str>::from(*key)).or_insert(0);
                            *nth += 1;
                            if *last != (Keyed { sequence, nth: *nth }) {
                                return Ok(());
                            }
                        }
                        None
                    }
                    Item::Settled(_) => return Ok(()),
                };
                if !wanted(at, cell) {
                    left_out = true;
                    return Ok(());
                }
                let what = match item {
                    Item::Cell(cell) => What::Cell(cell.clone()),
                    Item::Statement { statement, .. } => What::Statement(statement),
                    Item::Settled(_) => return Ok(()),
                };
                steps.push(Step { at, what, record: Record::Alone });
                Ok(())
            })?;
            let Some((_, length)) = next else { break };
            if items > 1 {
                let record = if left_out { Record::Part } else { Record::Whole };
                steps[before..].iter_mut().for_each(|step| step.record = record);
            }
            bytes += if steps.len() > before { length } else { 0 };
        }
        Ok(steps)
    }
}

/// Steps that go out as one statement.
pub(super) struct Group {
    /// Indexes of the steps.
    pub steps: std::ops::Range<usize>,
    pub statement: Rendered,
}

/// One statement per step, except that INSERTs of one row that follow each other with the same text become one of many.
pub(super) fn groups(steps: &[Step]) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::with_capacity(steps.len());
    let mut at = 0;
    while at < steps.len() {
        let mut many = match &steps[at].what {
            What::Statement(statement) => MultiRow::of(statement),
            What::Cell(_) => None,
        };
        let mut end = at + 1;
        if let Some(many) = &mut many {
            while let Some(Step { what: What::Statement(next), .. }) = steps.get(end)
                && many.take(next)
            {
                end += 1;
            }
        }
        let statement = match many {
            Some(many) if end > at + 1 => many.rendered(),
            _ => steps[at].statement()?,
        };
        groups.push(Group { steps: at..end, statement });
        at = end;
    }
    Ok(groups)
}
