//! Accepts operations: appends them to the journal and composes them, under one lock.
//!
//! ```text
//! accept ─▶ encode ─▶ room in the journal? ─▶ append ─▶ compose into the active batch ─▶ acknowledged
//! freeze ─▶ the active batch becomes the frozen one; its records are (lo, hi]
//! ```
//! One lock for both, so that a batch is exactly what lies between its two positions. The dictionary outlives batches:
//! a cell that comes again costs one look-up and a few bytes of journal.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::batch::{Batch, Digest, Slot};
use super::done::Done;
use super::entry::{Keys, write_define, write_identity, write_operations, write_settled, write_statement};
use super::journal::{Journal, Refused, framed};
use crate::base::Clock;
use crate::base::crash::crash;
use crate::ops::Operation;
use crate::sql::{Cell, Task};

/// What a known cell costs beside its bytes.
const KNOWN_OVERHEAD: usize = 96;

/// How much may be held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Memory of the batches and of the dictionary.
    pub bytes: usize,
    /// A quarter of it: the dictionary is forgotten there, and cells are defined anew.
    pub dictionary: usize,
}

/// Why operations were not accepted. Nothing of them is kept.
#[derive(Debug)]
pub(super) enum NotAccepted {
    /// The memory of this process is full of operations that wait for PostgreSQL.
    Memory,
    /// The journal refused.
    Journal(Refused),
    /// The engine is closed: its journal is left to others, or gone.
    Closed,
}

/// What an accepted record got.
pub(super) struct Accepted {
    pub sequence: u64,
    pub done: Arc<Done>,
    /// Distinct rows of the active batch.
    pub rows: usize,
}

/// A cell that was met before.
#[derive(Clone, Copy)]
struct Known {
    /// The segment that defines `id`.
    segment: u32,
    id: u32,
    /// The batch that `slot` is in.
    batch: u64,
    slot: Slot,
}

/// See the head of this file.
pub(super) struct Accumulator {
    pub journal: Journal,
    dictionary: HashMap<Box<[u8]>, Known, RandomState>,
    dictionary_bytes: usize,
    /// The next free id in the segment.
    next: (u32, u32),
    pub active: Batch,
    pub frozen: Option<Arc<Batch>>,
    /// No value that came with the frozen batch may stay in the caches.
    distrusted: bool,
    bounds: Bounds,
    payload: Vec<u8>,
    identity: Vec<u8>,
}

impl Accumulator {
    pub(super) fn new(journal: Journal, bounds: Bounds) -> Accumulator {
        let last = journal.last();
        Accumulator {
            journal,
            dictionary: HashMap::default(),
            dictionary_bytes: 0,
            next: (u32::MAX, 0),
            active: Batch::new(1, last),
            frozen: None,
            distrusted: false,
            bounds,
            payload: Vec::new(),
            identity: Vec::new(),
        }
    }

    /// Memory held, estimated.
    pub(super) fn bytes(&self) -> usize {
        let composed = self.active.bytes + self.frozen.as_ref().map_or(0, |batch| batch.bytes);
        composed + self.dictionary_bytes + self.journal.memory()
    }

    /// Accepts tasks as one record: all of them or none.
    pub(super) fn accept(
        &mut self,
        tasks: &[Task],
        keys: Keys<'_>,
        digest: Option<Digest>,
        clock: &Clock,
    ) -> Result<Accepted, NotAccepted> {
        if self.bytes() > self.bounds.bytes {
            return Err(NotAccepted::Memory);
        }
        if self.dictionary_bytes > self.bounds.dictionary {
            // Before anything is written: a record relies on what the dictionary says while it is made.
            self.dictionary.clear();
            self.dictionary_bytes = 0;
        }
        let mut segment = self.next.0;
        loop {
            self.encode(tasks, keys, segment);
            let has = self.journal.room(framed(self.payload.len())).map_err(NotAccepted::Journal)?;
            if has == segment {
                break;
            }
            // Another segment: what was defined in the one before is not known there.
            segment = has;
            self.next = (segment, 0);
        }
        crash!("journal.before_append");
        let sequence = self.journal.append(&self.payload);
        crash!("journal.after_append");
        if self.active.is_empty() {
            self.active.since_ms = clock.mono_ms();
        }
        self.active.hi = sequence;
        self.compose(tasks, keys, digest, sequence);
        Ok(Accepted { sequence, done: self.active.done.clone(), rows: self.active.rows })
    }

    /// Writes the record as it would be in that segment.
    fn encode(&mut self, tasks: &[Task], keys: Keys<'_>, segment: u32) {
        self.payload.clear();
        let mut next = self.next.1;
        for (index, task) in tasks.iter().enumerate() {
            // The keys go with the first task: one record, one drop.
            let keys = if index == 0 { keys } else { Keys::default() };
            let Some(cell) = task.cell() else {
                write_statement(task, keys, &mut self.payload);
                continue;
            };
            self.identity.clear();
            write_identity(cell, keys, &mut self.identity);
            let id = match self.dictionary.get(&self.identity[..]) {
                Some(known) if known.segment == segment => known.id,
                _ => {
                    // A cell that comes twice in one record is defined twice; `slot` counts with it.
                    write_define(next, &self.identity, &mut self.payload);
                    next += 1;
                    next - 1
                }
            };
            write_operations(id, cell, &mut self.payload);
        }
    }

    /// Composes what was just appended.
    fn compose(&mut self, tasks: &[Task], keys: Keys<'_>, digest: Option<Digest>, sequence: u64) {
        let mut noted = false;
        let before = self.next.1;
        for (index, task) in tasks.iter().enumerate() {
            let of_task = if index == 0 { keys } else { Keys::default() };
            let Some(cell) = task.cell() else {
                self.active.add_statement(sequence, task.mentions(), task.batch_key());
                continue;
            };
            if tasks.len() > 1 {
                self.identity.clear();
                write_identity(cell, of_task, &mut self.identity);
            }
            let (slot, fresh) = self.slot(cell, before);
            noted |= index == 0 && !fresh;
            self.apply(slot, cell);
        }
        // A cell that this batch has met with these keys needs no note, unless it is about a value.
        if digest.is_some() || self.active.has_digests() || !noted {
            self.note_keys(keys, digest);
        }
    }

    fn note_keys(&mut self, keys: Keys<'_>, digest: Option<Digest>) {
        if let Some(key) = keys.key {
            self.active.add_key(key, digest);
        }
        keys.invalidates.iter().for_each(|key| self.active.add_key(key, None));
    }

    /// The slot of the cell whose identity was written last; whether it is new in this batch. `before` is the first id
    /// that the record could give: one from there on was given to the same cell earlier in the record, which defines it
    /// again, so it takes another id here as it does there.
    fn slot(&mut self, cell: &Cell, before: u32) -> (Slot, bool) {
        let (segment, number) = (self.next.0, self.active.number);
        if let Some(known) = self.dictionary.get_mut(&self.identity[..]) {
            if known.segment != segment || known.id >= before {
                (known.segment, known.id) = (segment, self.next.1);
                self.next.1 += 1;
            }
            if known.batch == number {
                return (known.slot, false);
            }
            let slot = self.active.attach(cell);
            (known.batch, known.slot) = (number, slot);
            return (slot, true);
        }
        let slot = self.active.attach(cell);
        self.dictionary_bytes += KNOWN_OVERHEAD + self.identity.len();
        let known = Known { segment, id: self.next.1, batch: number, slot };
        self.next.1 += 1;
        self.dictionary.insert(self.identity.as_slice().into(), known);
        (slot, true)
    }

    fn apply(&mut self, slot: Slot, cell: &Cell) {
        match cell.operations() {
            Some(operations) => {
                operations.iter().for_each(|it: &Operation| self.active.compose(slot, Some(it)))
            }
            None => self.active.compose(slot, None),
        }
    }

    /// Freezes what was accepted; `None` if a batch is frozen already or nothing was accepted.
    pub(super) fn freeze(&mut self) -> Option<Arc<Batch>> {
        if self.frozen.is_some() || self.active.is_empty() {
            return None;
        }
        let next = Batch::new(self.active.number + 1, self.active.hi);
        let frozen = Arc::new(std::mem::replace(&mut self.active, next));
        self.frozen = Some(frozen.clone());
        self.distrusted = false;
        Some(frozen)
    }

    /// Some of the frozen operations were refused, and nobody says which keys they were accepted with: no value that came
    /// with one of the batch may stay in the caches.
    pub(super) fn distrust_frozen(&mut self) {
        self.distrusted = true;
    }

    /// The digest of the value that came with the last operation on a key, of those that are not settled.
    pub(super) fn last_value(&self, key: &str) -> Option<Digest> {
        let frozen = self.frozen.as_deref().filter(|_| !self.distrusted);
        let batches = [Some(&self.active), frozen];
        batches.into_iter().flatten().find_map(|batch| batch.keys.get(key)).copied().flatten()
    }

    /// The frozen batch is applied and the caches know: says so in the journal, for whoever adopts it.
    pub(super) fn settle(&mut self, up_to: u64) {
        self.frozen = None;
        self.payload.clear();
        write_settled(up_to, &mut self.payload);
        // Without room the caches of a later adopter drop a few keys more.
        if let Ok(segment) = self.journal.room(framed(self.payload.len())) {
            if segment != self.next.0 {
                self.next = (segment, 0);
            }
            self.journal.append(&self.payload);
        }
    }
}
