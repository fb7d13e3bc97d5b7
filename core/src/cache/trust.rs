//! Whether what this process has heard of the others is good enough to read caches by.

use std::sync::atomic::{AtomicU64, Ordering};

/// Until when, on the engine's monotonic clock. Past that nothing is read that another process may have changed.
#[derive(Debug)]
pub(crate) struct Trust(AtomicU64);

impl Trust {
    /// For ever: nobody else writes.
    pub(crate) fn always() -> Trust {
        Trust(AtomicU64::new(u64::MAX))
    }

    /// Not yet.
    pub(crate) fn none() -> Trust {
        Trust(AtomicU64::new(0))
    }

    /// The word itself, for who checks it from outside.
    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.0
    }

    /// Whether it holds at this time.
    #[inline]
    pub(crate) fn holds(&self, now_ms: u64) -> bool {
        now_ms < self.0.load(Ordering::Acquire)
    }

    /// It holds at least until then.
    pub(super) fn extend(&self, until_ms: u64) {
        self.0.fetch_max(until_ms, Ordering::AcqRel);
    }

    /// It ends now.
    pub(super) fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// For ever, for tests of one process.
    #[cfg(test)]
    pub(super) fn forever(&self) {
        self.extend(u64::MAX);
    }
}
