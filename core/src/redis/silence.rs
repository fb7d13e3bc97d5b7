//! How long nothing has been answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::Clock;

/// Told of every command's end, it says when its connection counts as dead: the system sees nothing wrong with a peer that
/// takes bytes and never answers, and a driver would wait on it for ever.
pub(super) struct Silence {
    /// On the monotonic clock; 0 if the last command was answered.
    since_ms: AtomicU64,
    dead_after: Duration,
    clock: Clock,
}

impl Silence {
    /// A connection is dead after that much of it.
    pub(super) fn new(dead_after: Duration, clock: Clock) -> Silence {
        Silence { since_ms: AtomicU64::new(0), dead_after, clock }
    }

    /// Something was answered.
    pub(super) fn end(&self) {
        if self.since_ms.load(Ordering::Relaxed) != 0 {
            self.since_ms.store(0, Ordering::Relaxed);
        }
    }

    /// A command was given up that had waited for so long; says whether the connection is dead.
    pub(super) fn is_death_after(&self, waited: Duration) -> bool {
        let now = self.clock.mono_ms();
        let begun = now.saturating_sub(waited.as_millis() as u64).max(1);
        let first = self.since_ms.compare_exchange(0, begun, Ordering::Relaxed, Ordering::Relaxed);
        let since = first.map_or_else(|since| since, |_| begun);
        u128::from(now.saturating_sub(since)) >= self.dead_after.as_millis()
    }
}
