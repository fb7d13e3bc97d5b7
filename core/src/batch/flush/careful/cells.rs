//! Cells that were refused as composed: their operations run again from the journal, composed as far as that is accepted,
//! until the refused ones are found.

use std::collections::BTreeMap;

use super::Surgery;
use super::halves::{Part, Tried};
use crate::batch::batch::Slot;
use crate::batch::flush::apply::Failure;
use crate::batch::flush::plan::alone;
use crate::batch::flush::replay::{Step, Steps, What};
use crate::error::{Error, ErrorKind};
use crate::ops::Form;
use crate::sql::{Cell, Rendered};

impl Surgery<'_> {
    pub(super) async fn cells_once_more(&mut self) -> Result<(), Failure> {
        let cells = std::mem::take(&mut self.refused_cells);
        if cells.is_empty() {
            return Ok(());
        }
        let batch = self.flight.batch;
        let slot = |cell: &Cell| batch.locate(cell).filter(|slot| cells.contains(slot));
        let mut letters = self.letters();
        let mut steps = Steps::wanted(self.log, batch, |_, cell| cell.and_then(slot).is_some());
        while let Some(piece) = steps.piece()? {
            self.cells(piece).await?;
            self.write(&mut letters).await?;
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
            match self.hopeless.why(slot).cloned() {
                Some(error) => steps.iter().for_each(|step| self.bury_operation(step, &error)),
                None => self.cell(slot, &steps).await?,
            }
        }
        Ok(())
    }

    async fn cell(&mut self, slot: Slot, steps: &[Step]) -> Result<(), Failure> {
        let say = |range: std::ops::Range<usize>| {
            let statements = composed(&steps[range.clone()])?;
            Ok(vec![Part { items: range, statements }])
        };
        for tried in self.tried((steps.len(), steps.len()), &say, is_structural).await? {
            match tried {
                Tried::Done(items, results) => {
                    self.applied.count_alone(1, &results, steps[items.start].table());
                }
                Tried::Refused(item, error) => {
                    self.bury_operation(&steps[item], &error);
                    self.hopeless.learn(slot, &error, self.plan);
                }
            }
        }
        Ok(())
    }
}

/// The statements of several operations on one cell; an error if they do not compose.
pub(super) fn composed(steps: &[Step]) -> Result<Vec<Rendered>, Error> {
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

/// There is no such table or column, or nothing can be done to its type: what follows on that cell would be told the same.
/// A missing privilege (42501) is none of these, since a row may be refused for what is in it.
pub(super) fn is_structural(error: &Error) -> bool {
    matches!(error.sqlstate(), Some("42P01" | "42703" | "42804" | "42883"))
}
