//! Steps in the careful way, in order. A refused one is dead, and those after it go on: each stands for itself. Run again
//! later, it would apply to what they left; only one that misses a row is, since composed operations may have inserted it.

use std::collections::HashSet;
use std::ops::Range;

use super::Surgery;
use super::atoms::Atoms;
use super::halves::Tried;
use crate::batch::batch::Slot;
use crate::batch::flush::apply::Failure;
use crate::batch::flush::replay::{Step, Steps, What};
use crate::error::Error;
use crate::store::ExecResult;

/// Steps behind one savepoint at first.
const FIRST_TRY: usize = 256;
/// A foreign key refers to a row that is not there.
const MISSING_ROW: &str = "23503";

impl Surgery<'_> {
    pub(super) async fn steps(&mut self) -> Result<(), Failure> {
        if !self.flight.batch.replays {
            return Ok(());
        }
        self.all_steps(Steps::replayed(self.log, self.flight.batch), true).await
    }

    pub(super) async fn steps_once_more(&mut self) -> Result<(), Failure> {
        let again = std::mem::take(&mut self.refused_steps);
        if again.is_empty() {
            return Ok(());
        }
        let steps = Steps::wanted(self.log, self.flight.batch, |at, _| again.contains(&at));
        self.all_steps(steps, false).await
    }

    async fn all_steps(&mut self, mut steps: Steps<'_>, may_wait: bool) -> Result<(), Failure> {
        let mut letters = self.letters();
        while let Some(piece) = steps.piece()? {
            self.some_steps(piece, may_wait).await?;
            self.write(&mut letters).await?;
        }
        Ok(())
    }

    async fn some_steps(&mut self, mut piece: Vec<Step>, may_wait: bool) -> Result<(), Failure> {
        self.bury_hopeless(&mut piece);
        let atoms = Atoms::of(piece, self.flight.batch);
        let say = |range| atoms.parts(range);
        for tried in self.tried((atoms.len(), FIRST_TRY), &say, |_| false).await? {
            match tried {
                Tried::Done(part, results) => self.count(&atoms, part, &results),
                Tried::Refused(atom, error) => {
                    let steps = atoms.steps(atom);
                    steps.iter().for_each(|step| self.learn(step, &error));
                    if may_wait && error.sqlstate() == Some(MISSING_ROW) {
                        self.refused_steps.extend(steps.iter().map(|step| step.at));
                    } else {
                        self.bury(&steps[0], &error);
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, atoms: &Atoms, part: Range<usize>, results: &[ExecResult]) {
        let steps = atoms.steps(part.start);
        if atoms.is_composed(&part) {
            self.applied.count_alone(1, results, steps[0].table());
        } else if steps.len() > 1 {
            for (step, result) in steps.iter().zip(results) {
                self.applied.count_alone(1, std::slice::from_ref(result), step.table());
            }
        } else {
            self.applied.count_alone(part.len() as u64, results, steps[0].table());
        }
    }

    fn bury_hopeless(&mut self, piece: &mut Vec<Step>) {
        if self.hopeless.is_empty() {
            return;
        }
        let mut dead: HashSet<u64> = HashSet::new();
        for step in piece.iter() {
            let why = self.slot(step).and_then(|slot| self.hopeless.why(slot)).cloned();
            if let Some(error) = why
                && dead.insert(step.at.sequence)
            {
                self.bury(step, &error);
            }
        }
        piece.retain(|step| !dead.contains(&step.at.sequence));
    }

    /// What a refused step, or list, says of the columns that are not there.
    fn learn(&mut self, step: &Step, error: &Error) {
        if let Some(slot) = self.slot(step)
            && self.plan.lacks(slot.route, slot.column)
        {
            self.hopeless.learn(slot, error, self.plan);
        }
    }

    fn slot(&self, step: &Step) -> Option<Slot> {
        match &step.what {
            What::Cell(cell) => self.flight.batch.locate(cell),
            What::Statement(_) => None,
        }
    }
}
