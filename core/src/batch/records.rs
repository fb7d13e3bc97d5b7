//! Where the records of a batch can be read again: the journal of this process, or an adopted one.

use std::collections::HashMap;

use super::entry::{Entries, Entry, KeyList, NotAnEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Cell, Rendered};
use crate::value::codec::Reader;

/// Gives the segment, the sequence number and the payload of a record.
pub(super) type Visit<'a> = &'a mut dyn FnMut(u32, u64, &[u8]) -> Result<()>;

/// Records in order.
pub(super) trait Log: Send + Sync {
    /// Every record from the start of the segment that holds what follows `lo`, because definitions come first in a
    /// segment, up to `hi`.
    fn read(&self, lo: u64, hi: u64, visit: Visit<'_>) -> Result<()>;
}

/// One task of a record, with the cell as the record defines it.
pub(super) enum Item<'a> {
    /// A cell with its operations.
    Cell(&'a Cell),
    Statement {
        statement: Rendered,
        batch_key: Option<&'a str>,
    },
    Settled(u64),
}

/// What is known while records are read.
#[derive(Default)]
pub(super) struct Definitions {
    segment: u32,
    cells: HashMap<u32, (Cell, Vec<String>)>,
}

impl Definitions {
    /// Gives the items of one record with their keys. The definitions are remembered for the records that follow.
    pub(super) fn read(
        &mut self,
        segment: u32,
        payload: &[u8],
        take: &mut dyn FnMut(Item<'_>, &[&str]) -> Result<()>,
    ) -> Result<()> {
        if segment != self.segment {
            self.cells.clear();
            self.segment = segment;
        }
        for entry in Entries::of(payload) {
            match entry.map_err(|NotAnEntry| unreadable())? {
                Entry::Define { id, keys, identity } => self.define(id, keys, identity)?,
                Entry::Operations { id, mut operations } => {
                    let (cell, keys) = self.cells.get(&id).ok_or_else(unreadable)?;
                    let mut cell = cell.clone();
                    cell.read_operations(&mut operations).ok_or_else(unreadable)?;
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    take(Item::Cell(&cell), &keys)?;
                }
                Entry::Statement { statement, batch_key, keys } => {
                    take(Item::Statement { statement, batch_key }, &keys)?;
                }
                Entry::Settled(up_to) => take(Item::Settled(up_to), &[])?,
            }
        }
        Ok(())
    }

    fn define(&mut self, id: u32, keys: KeyList<'_>, identity: &[u8]) -> Result<()> {
        let mut reader = Reader::new(identity);
        let cell = Cell::read_identity(&mut reader).filter(|_| reader.is_empty()).ok_or_else(unreadable)?;
        self.cells.insert(id, (cell, keys.into_iter().map(str::to_owned).collect()));
        Ok(())
    }
}

/// A record whose checksum is right and whose content is not: another version's, or a bug.
fn unreadable() -> Error {
    Error::new(
        ErrorKind::Internal,
        "a record of the journal cannot be understood; was it written by another version?",
    )
}
