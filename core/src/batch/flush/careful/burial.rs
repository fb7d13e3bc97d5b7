//! What becomes of a refused operation: a dead letter in the transaction that moves past it, or its list is noted as
//! broken. Letters are written as the operations are found, so that no more than a few thousand of them wait.

use super::Surgery;
use crate::batch::dead::Letters;
use crate::batch::flush::apply::Failure;
use crate::batch::flush::replay::{Record, Step};
use crate::error::Error;

impl<'a> Surgery<'a> {
    /// A step is dead, with the rest of its list if that is a step as well.
    pub(super) fn bury(&mut self, step: &Step, error: &Error) {
        match step.record {
            Record::Alone | Record::Whole => self.fresh.push((step.at.sequence, error.clone())),
            Record::Part => drop(self.broken_lists.insert(step.at.sequence)),
        }
    }

    /// An operation of a cell is dead; of a list it would be only a part.
    pub(super) fn bury_operation(&mut self, step: &Step, error: &Error) {
        match step.record {
            Record::Alone => self.fresh.push((step.at.sequence, error.clone())),
            Record::Whole | Record::Part => drop(self.broken_lists.insert(step.at.sequence)),
        }
    }

    pub(super) fn letters(&self) -> Letters<'a> {
        Letters::new(self.log, self.flight.batch, self.flight.stream)
    }

    /// Writes the letters of those that are dead since the last time.
    pub(super) async fn write(&mut self, letters: &mut Letters<'_>) -> Result<(), Failure> {
        let mut dead = std::mem::take(&mut self.fresh);
        if !self.broken_lists.is_empty() {
            return Ok(());
        }
        dead.sort_unstable_by_key(|(sequence, _)| *sequence);
        dead.iter().for_each(|(sequence, error)| self.applied.dead.add(*sequence, error));
        let mut left = &dead[..];
        while let Some(insert) = letters.next(&mut left).map_err(Failure::Again)? {
            self.transaction.run(&[insert]).await.map_err(Failure::of)?;
        }
        Ok(())
    }
}
