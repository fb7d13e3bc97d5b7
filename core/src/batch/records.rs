//! Where the records of a batch can be read again: the journal of this process, or an adopted one.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::entry::{Entries, Entry, KeyList, NotAnEntry};
use super::journal::LoadedSegment;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Cell, Rendered};
use crate::value::codec::Reader;

/// A journal that can be read again, one segment in memory at a time.
pub(super) trait Log: Send + Sync {
    /// The segment that holds the first record above `after`; `None` if there is no such record.
    fn load(&self, after: u64) -> Result<Option<LoadedSegment>>;
}

/// The records in (lo, hi], in order.
pub(super) struct Records<'l> {
    log: &'l dyn Log,
    lo: u64,
    hi: u64,
    /// The last record that was given, or `lo`.
    at: u64,
    segment: Option<LoadedSegment>,
    definitions: Definitions,
}

impl<'l> Records<'l> {
    pub(super) fn new(log: &'l dyn Log, lo: u64, hi: u64) -> Records<'l> {
        Records { log, lo, hi, at: lo, segment: None, definitions: Definitions::default() }
    }

    /// Gives the items of the next record, each with the record's keys, and then its number and its length; `None` behind
    /// the last one.
    pub(super) fn next(&mut self, take: Take<'_>) -> Result<Option<(u64, usize)>> {
        while self.at < self.hi {
            let segment = match &mut self.segment {
                Some(segment) => segment,
                none => match self.log.load(self.at)? {
                    Some(segment) => none.insert(segment),
                    None => return Ok(None),
                },
            };
            let index = segment.index;
            let Some((sequence, payload)) = segment.next() else {
                self.at = self.at.max(segment.last);
                self.segment = None;
                continue;
            };
            if sequence > self.hi {
                self.at = self.hi;
            } else if sequence <= self.lo {
                // Its segment defines there what follows.
                self.definitions.learn(index, sequence, &payload)?;
            } else {
                self.at = sequence;
                self.definitions.read(index, sequence, &payload, take)?;
                return Ok(Some((sequence, payload.len())));
            }
        }
        Ok(None)
    }

    /// The same for each record that is left.
    pub(super) fn each(&mut self, take: Take<'_>) -> Result<()> {
        while self.next(take)?.is_some() {}
        Ok(())
    }
}

/// Gets the number of a record, one of its items, and its keys.
pub(super) type Take<'t> = &'t mut dyn FnMut(u64, Item<'_>, &[&str]) -> Result<()>;

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
    pub(super) fn read(&mut self, segment: u32, sequence: u64, payload: &[u8], take: Take<'_>) -> Result<()> {
        self.enter(segment);
        let unreadable = || unreadable(sequence);
        for entry in Entries::of(payload) {
            match entry.map_err(|NotAnEntry| unreadable())? {
                Entry::Define { id, keys, identity } => {
                    self.define(id, keys, identity).ok_or_else(unreadable)?;
                }
                Entry::Operations { id, mut operations } => {
                    let (cell, keys) = self.cells.get(&id).ok_or_else(unreadable)?;
                    let mut cell = cell.clone();
                    cell.read_operations(&mut operations).ok_or_else(unreadable)?;
                    let keys: SmallVec<[&str; 4]> = keys.iter().map(String::as_str).collect();
                    take(sequence, Item::Cell(&cell), &keys)?;
                }
                Entry::Statement { statement, batch_key, keys } => {
                    take(sequence, Item::Statement { statement, batch_key }, &keys)?;
                }
                Entry::Settled(up_to) => take(sequence, Item::Settled(up_to), &[])?,
            }
        }
        Ok(())
    }

    /// Takes the definitions of a record, and nothing else.
    fn learn(&mut self, segment: u32, sequence: u64, payload: &[u8]) -> Result<()> {
        self.enter(segment);
        for entry in Entries::of(payload) {
            if let Entry::Define { id, keys, identity } = entry.map_err(|NotAnEntry| unreadable(sequence))? {
                self.define(id, keys, identity).ok_or_else(|| unreadable(sequence))?;
            }
        }
        Ok(())
    }

    /// What one segment defines is not known in another.
    fn enter(&mut self, segment: u32) {
        if segment != self.segment {
            self.cells.clear();
            self.segment = segment;
        }
    }

    fn define(&mut self, id: u32, keys: KeyList<'_>, identity: &[u8]) -> Option<()> {
        let mut reader = Reader::new(identity);
        let cell = Cell::read_identity(&mut reader).filter(|_| reader.is_empty())?;
        self.cells.insert(id, (cell, keys.into_iter().map(str::to_owned).collect()));
        Some(())
    }
}

/// A record whose checksum is right and whose content is not: another version's, or a bug.
fn unreadable(sequence: u64) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!(
            "the record {sequence} of the journal cannot be understood; was it written by another version?"
        ),
    )
}

/// Whether that is what an error of reading says: reading it again changes nothing.
pub(super) fn is_unreadable(error: &Error) -> bool {
    error.kind() == ErrorKind::Internal
}
