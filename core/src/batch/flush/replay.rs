//! What runs one by one, in the order in which it was accepted: statements in the caller's words, the operations of
//! ordered domains, and those of cells that do not compose.

use std::sync::Arc;

use crate::batch::batch::Batch;
use crate::batch::records::{Definitions, Item, Log};
use crate::batch::route::State;
use crate::error::Result;
use crate::sql::multi_row::MultiRow;
use crate::sql::{Cell, Rendered};

/// One task of a record.
#[derive(Clone)]
pub(super) struct Step {
    pub sequence: u64,
    pub what: What,
    /// Whether its record holds other tasks too.
    pub of_list: bool,
}

/// What it does.
#[derive(Clone)]
pub(super) enum What {
    Cell(Arc<Cell>),
    Statement(Rendered),
}

impl Step {
    pub(super) fn statement(&self) -> Result<Rendered> {
        match &self.what {
            What::Cell(cell) => Cell::clone(cell).statement(),
            What::Statement(statement) => Ok(statement.clone()),
        }
    }
}

/// The steps of a batch that are not composed, in order.
pub(super) fn steps(log: &dyn Log, batch: &Batch) -> Result<Vec<Step>> {
    select(log, batch, |cell| matches!(batch.find(cell), Some(State::Replayed)))
}

/// The same for the cells that `wanted` says, and for all statements.
pub(super) fn select(log: &dyn Log, batch: &Batch, wanted: impl Fn(&Cell) -> bool) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut definitions = Definitions::default();
    log.read(batch.lo, batch.hi, &mut |segment, sequence, payload| {
        let counts = sequence > batch.lo && sequence <= batch.hi && !batch.excluded.contains(&sequence);
        let (before, mut items) = (steps.len(), 0);
        definitions.read(segment, payload, &mut |item, _| {
            items += 1;
            let what = match item {
                _ if !counts => None,
                Item::Cell(cell) => wanted(cell).then(|| What::Cell(Arc::new(cell.clone()))),
                Item::Statement { statement, batch_key } => {
                    // Of one batch key the last statement counts.
                    let superseded = batch_key
                        .is_some_and(|key| batch.coalesced.get(key).is_some_and(|last| *last != sequence));
                    (!superseded).then_some(What::Statement(statement))
                }
                Item::Settled(_) => None,
            };
            steps.extend(what.map(|what| Step { sequence, what, of_list: false }));
            Ok(())
        })?;
        steps[before..].iter_mut().for_each(|step| step.of_list = items > 1);
        Ok(())
    })?;
    Ok(steps)
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
