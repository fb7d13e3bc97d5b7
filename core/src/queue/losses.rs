//! Whether Redis still has what it was given.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Shared;
use super::lanes::Standing;

/// What this process knows of the queue.
#[derive(Default)]
pub(super) struct Known {
    /// What it is called.
    epoch: Mutex<Option<Bytes>>,
    highest: AtomicU64,
    /// The highest sequence when a loss was told of last.
    told_of: AtomicU64,
}

impl Shared {
    /// The highest sequence that this process has heard of. Whatever is asked from here on must know it too.
    pub(super) fn known_sequence(&self) -> u64 {
        self.known.highest.load(Ordering::Acquire)
    }

    /// A queue that has lost something says so once. What it has given stays known: of two values that were cached with
    /// accepted writes the later one has to have the higher number.
    pub(super) fn note_standing(&self, now: &Standing) {
        let mut epoch = self.known.epoch.lock();
        let before = epoch.replace(now.epoch.clone());
        let emptied = before.is_some_and(|before| before != now.epoch);
        // Told again until the next write raises it.
        let put_back = now.lost
            && self.known.told_of.swap(self.known_sequence(), Ordering::AcqRel) < self.known_sequence();
        self.known.highest.fetch_max(now.sequence, Ordering::AcqRel);
        if emptied || put_back {
            self.known.told_of.store(self.known_sequence(), Ordering::Release);
            self.counters.queue_losses.inc();
            log::error!(
                "Redis has lost delayed writes that it had accepted: it was emptied, or an earlier state was put back; what \
                 had its effect keeps it, and what is run again has none"
            );
            self.waiting.look_soon();
        }
    }
}
