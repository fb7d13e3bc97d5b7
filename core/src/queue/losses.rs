//! Whether Redis still has what it was given.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Shared;
use super::answers::Standing;

/// What this process knows of the queue.
#[derive(Default)]
pub(super) struct Known {
    last: Mutex<Last>,
    highest: AtomicU64,
    losses: AtomicU64,
}

#[derive(Default)]
struct Last {
    /// What it is called.
    epoch: Option<Bytes>,
    /// The highest sequence when a loss was told of last.
    told_of: u64,
}

/// What was known when something was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The highest sequence that this process had heard of: whoever answers must know it too.
    pub(super) sequence: u64,
    losses: u64,
}

impl Known {
    fn asks(&self) -> Asked {
        // In this order: a loss in between makes the answer one from before it.
        let losses = self.losses.load(Ordering::Acquire);
        Asked { sequence: self.highest.load(Ordering::Acquire), losses }
    }

    /// Whether the queue has lost something that nobody has told of. What it has given stays known: of two values that were
    /// cached with accepted writes the later one has to have the higher number.
    fn note(&self, now: &Standing, asked: Asked) -> bool {
        let mut last = self.last.lock();
        let same = last.epoch.as_ref() == Some(&now.epoch);
        if asked.losses < self.losses.load(Ordering::Acquire) {
            // An answer that was under way when the loss was noticed says nothing of what has been since.
            if same {
                self.highest.fetch_max(now.sequence, Ordering::AcqRel);
            }
            return false;
        }
        let emptied = last.epoch.replace(now.epoch.clone()).is_some() && !same;
        // Told again until the next write raises it.
        let put_back = now.lost && last.told_of < self.highest.load(Ordering::Acquire);
        let highest = self.highest.fetch_max(now.sequence, Ordering::AcqRel).max(now.sequence);
        if emptied || put_back {
            last.told_of = highest;
            self.losses.fetch_add(1, Ordering::AcqRel);
        }
        emptied || put_back
    }
}

impl Shared {
    pub(super) fn asks(&self) -> Asked {
        self.known.asks()
    }

    /// A queue that has lost something says so once.
    pub(super) fn note_standing(&self, now: &Standing, asked: Asked) {
        if self.known.note(now, asked) {
            self.counters.queue_losses.inc();
            log::error!(
                "Redis has lost delayed writes that it had accepted: it was emptied, or an earlier state was put back; what \
                 had its effect keeps it, and what is run again has none"
            );
            self.waiting.look_soon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(epoch: &'static str, sequence: u64, known: u64) -> Standing {
        Standing { epoch: epoch.into(), sequence, lost: sequence < known }
    }

    #[test]
    fn a_queue_that_was_emptied_is_told_of_once_however_late_the_answers_of_the_old_one_come() {
        let known = Known::default();
        assert!(!known.note(&standing("old", 5, 0), known.asks()));
        let early = known.asks();
        assert!(known.note(&standing("new", 9, early.sequence), known.asks()));
        for late in [standing("old", 6, early.sequence), standing("new", 10, early.sequence)] {
            assert!(!known.note(&late, early));
        }
        assert!(!known.note(&standing("new", 11, 10), known.asks()));
        assert!(known.note(&standing("old", 5, 11), known.asks()), "the old one was put back");
    }

    #[test]
    fn a_queue_that_was_put_back_is_told_of_once_however_late_the_answers_come() {
        let known = Known::default();
        assert!(!known.note(&standing("one", 10, 0), known.asks()));
        let early = known.asks();
        assert!(known.note(&standing("one", 4, early.sequence), known.asks()));
        assert!(!known.note(&standing("one", 4, 10), known.asks()), "until the next write raises it");
        assert!(!known.note(&standing("one", 11, 10), known.asks()));
        assert!(!known.note(&standing("one", 4, early.sequence), early));
        assert!(known.note(&standing("one", 4, 11), known.asks()));
    }
}
