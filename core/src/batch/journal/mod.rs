//! The write-ahead journal: what an acknowledged operation rests on until the database has it.
//!
//! Each start of a process is a new *stream*: a folder of its own, under a lock that a forked child does not inherit,
//! with segments that are filled one after the other. Payloads are opaque here. They may refer to earlier ones of the
//! same segment, so reading always begins where a segment begins.
//!
//! ```text
//! <journal_dir>/<stream>/lock           held while the stream has an owner
//!                        00000000.seg   header twice, then records, then zeros
//!                        00000001.seg
//! <journal_dir>/<stream>.done           wholly applied; waits for its removal, is never replayed
//! ```
//!
//! | class | acknowledged once | survives |
//! |---|---|---|
//! | `journal` | the bytes are stored into a shared mapping | kill -9, out of memory, panic |
//! | `journal_fsync` | a later `fdatasync` has succeeded | power loss as well |
//! | `memory` | they are in memory | nothing |
//!
//! A segment lives like this:
//!
//! ```text
//! made whole under another name ── renamed ──▶ live ── too small for the next ──▶ rolled ── applied ──▶ removed
//!                                               ╰──── its fdatasync failed ─────▶ sealed: as rolled, never synced again
//! ```
//!
//! Invariants: an append cannot fail, since [`Journal::room`] made room before anything was promised. A room that is
//! refused leaves nothing behind. Sequence numbers of records have no gaps. A record checks out only behind the one that
//! was written before it (its checksum continues the other's), so that nothing can be lost between two that are read.
//! What was torn at the very end is cut; anything else that is wrong is reported with its range of numbers, and the
//! files are left as they are.

mod disk;
mod folder;
mod frame;
mod header;
mod loaded;
mod lock;
mod recover;
mod resync;
mod scan;
mod segment;
mod sync;
mod timeline;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use disk::{Disk, MemoryDisk, RealDisk};
pub(crate) use folder::{done, finish, headers, orphans, remove_done};
pub(crate) use frame::framed;
pub(crate) use header::{Class, StreamHeader};
pub(crate) use loaded::LoadedSegment;
pub(crate) use lock::StreamLock;
pub(crate) use recover::{End, Recovered, recover};
pub(crate) use writer::{Journal, Limits, Refused};
