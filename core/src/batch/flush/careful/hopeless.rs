//! Cells that refuse whatever is done to them. One that is hopeless for itself is known after its first operation; a
//! column that the catalogue does not have is hopeless in every row.

use std::collections::HashMap;

use super::cells::is_structural;
use crate::batch::batch::Slot;
use crate::batch::flush::plan::Plan;
use crate::error::Error;

/// Why, by cell and by column.
#[derive(Default)]
pub(super) struct Hopeless {
    cells: HashMap<Slot, Error>,
    /// By route and column.
    columns: HashMap<(u32, u16), Error>,
}

impl Hopeless {
    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.columns.is_empty()
    }

    pub(super) fn why(&self, slot: Slot) -> Option<&Error> {
        self.columns.get(&(slot.route, slot.column)).or_else(|| self.cells.get(&slot))
    }

    /// What a refusal says of the operations that follow.
    pub(super) fn learn(&mut self, slot: Slot, error: &Error, plan: &Plan<'_>) {
        if self.why(slot).is_some() || !is_structural(error) {
            return;
        }
        if plan.lacks(slot.route, slot.column) {
            self.columns.insert((slot.route, slot.column), error.clone());
        } else {
            self.cells.insert(slot, error.clone());
        }
    }
}
