//! Aggregation: operations on cells are acknowledged once they are in this process's journal, composed in memory, and
//! flushed to the store in batches. The journal is what an acknowledgement rests on; it knows nothing of cells.

// wired by the batch room
#![allow(dead_code, unused_imports)]

pub(crate) mod journal;
