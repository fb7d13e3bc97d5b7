//! Group commit: what waits for an `fdatasync`, and the handle that does it on another thread.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, SyncBlock};

/// Syncs what had been appended when it was made. Made under the lock of the journal, run without it.
pub(crate) struct Syncer {
    pub(super) disk: Arc<dyn Disk>,
    /// The folder, if it has names that may not be on the disk.
    pub(super) dir: Option<PathBuf>,
    pub(super) blocks: Vec<SyncBlock>,
    pub(super) done: Synced,
}

/// What a [`Syncer`] has done, for [`Journal::synced`](super::Journal::synced).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Synced {
    /// The last sequence number that is on the disk.
    pub(crate) up_to: u64,
    /// Blocks with a ticket up to this one need no sync any more.
    pub(super) ticket: u64,
}

impl Syncer {
    /// Waits until it is on the disk.
    ///
    /// # Errors
    /// What the system says. Then call [`Journal::sync_failed`](super::Journal::sync_failed) before anything else is
    /// appended, and never run another syncer that was made before.
    pub(crate) fn run(self) -> io::Result<Synced> {
        for block in &self.blocks {
            block()?;
        }
        if let Some(dir) = &self.dir {
            self.disk.sync_dir(dir)?;
        }
        Ok(self.done)
    }
}

/// Blocks that are complete but may not be on the disk, each with a ticket that grows.
#[derive(Default)]
pub(super) struct Waiting {
    blocks: Vec<(u64, SyncBlock)>,
    ticket: u64,
    /// The ticket under which the folder last got a new name.
    named: u64,
    /// The ticket up to which all is on the disk.
    synced: u64,
}

impl Waiting {
    /// A block that will not be the live one any more.
    pub(super) fn add(&mut self, block: SyncBlock) {
        self.ticket += 1;
        self.blocks.push((self.ticket, block));
    }

    /// The folder has a new name in it.
    pub(super) fn named(&mut self) {
        self.ticket += 1;
        self.named = self.ticket;
    }

    /// All that waits, and whether the folder does.
    pub(super) fn all(&self) -> (Vec<SyncBlock>, bool, u64) {
        let blocks = self.blocks.iter().map(|(_, block)| block.clone()).collect();
        (blocks, self.named > self.synced, self.ticket)
    }

    /// Up to this ticket all is on the disk.
    pub(super) fn settle(&mut self, ticket: u64) {
        self.synced = self.synced.max(ticket);
        self.blocks.retain(|(waiting, _)| *waiting > ticket);
    }

    /// None of it is to be synced any more. The folder is no block: it is asked again.
    pub(super) fn give_up(&mut self) {
        self.blocks.clear();
    }
}
