//! Lists of tasks, all of which are applied or none. While some of a list is composed with what others do to the same
//! cells it cannot be taken back by itself. So a list of which something was refused is noted, and the next pass takes the
//! rows it concerns out of the composed ones: their operations are steps, in order, and the list one savepoint among them.
//!
//! ```text
//! pass 1 ─ a task of a list is refused ─▶ noted ─▶ pass 2: the list runs as a whole, or is dead as a whole
//!                                                   ╰ another list is refused for what changed ─▶ noted ─▶ pass 3 …
//! ```
//! One list seldom brings down another; if it goes on, the last pass takes out the rows of every list.

use std::collections::HashSet;

use crate::batch::batch::Batch;
use crate::batch::rebuild::rebuild;
use crate::batch::records::{Item, Log, Records};
use crate::error::Result;

/// Passes in which lists are noted; in the one behind them there is nothing left to note.
const MOST_PASSES: u32 = 3;

/// The lists that run as a whole.
#[derive(Default)]
pub(super) struct Lists {
    apart: HashSet<u64>,
    passes: u32,
}

impl Lists {
    /// Notes those of one pass, by the numbers of their records.
    pub(super) fn note(&mut self, lists: HashSet<u64>, batch: &Batch, log: &dyn Log) -> Result<()> {
        self.passes += 1;
        self.apart.extend(lists);
        if self.passes >= MOST_PASSES {
            self.apart = every_list(batch, log)?;
        }
        Ok(())
    }

    /// The batch with their rows taken out; `None` if there are none.
    pub(super) fn taken_out(&self, batch: &Batch, log: &dyn Log) -> Result<Option<Batch>> {
        if self.apart.is_empty() {
            return Ok(None);
        }
        rebuild(log, batch.lo, batch.hi, &self.apart, &batch.expected).map(Some)
    }
}

fn every_list(batch: &Batch, log: &dyn Log) -> Result<HashSet<u64>> {
    let mut lists = HashSet::new();
    let mut last = None;
    Records::new(log, batch.lo, batch.hi).each(&mut |sequence, item, _| {
        if matches!(item, Item::Settled(_)) {
            return Ok(());
        }
        if last.replace(sequence) == Some(sequence) {
            lists.insert(sequence);
        }
        Ok(())
    })?;
    Ok(lists)
}
