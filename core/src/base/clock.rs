//! Time, from the system or from a test.

// The one place that may read the system's clocks.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// A clock: monotonic time that never goes back, and wall time that may.
///
/// Clones share one source. [`Clock::manual`] stands still until it is moved.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    System,
    Manual { mono_ns: AtomicU64, wall_ms: AtomicI64 },
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Clock {
        Clock(Arc::new(Source::System))
    }

    /// A clock that only [`Clock::advance`] and [`Clock::step_wall`] move.
    pub fn manual(wall_ms: i64) -> Clock {
        // Not at zero, so that "a minute ago" exists.
        let mono_ns = AtomicU64::new(3_600_000_000_000);
        Clock(Arc::new(Source::Manual { mono_ns, wall_ms: AtomicI64::new(wall_ms) }))
    }

    /// Monotonic milliseconds since an arbitrary start; read from the kernel's tick (1–10 ms coarse), which
    /// costs a quarter of the precise clock.
    pub fn mono_ms(&self) -> u64 {
        match &*self.0 {
            Source::System => {
                let now = clock_gettime(ClockId::MonotonicCoarse);
                now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
            }
            Source::Manual { mono_ns, .. } => mono_ns.load(Ordering::Acquire) / 1_000_000,
        }
    }

    /// Monotonic nanoseconds since the same start, precise.
    pub fn mono_ns(&self) -> u64 {
        match &*self.0 {
            Source::System => {
                let now = clock_gettime(ClockId::Monotonic);
                now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
            }
            Source::Manual { mono_ns, .. } => mono_ns.load(Ordering::Acquire),
        }
    }

    /// Wall time in milliseconds since 1970; it may jump, so nothing but display and logs may rest on it.
    pub fn wall_ms(&self) -> i64 {
        match &*self.0 {
            Source::System => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_millis() as i64),
            Source::Manual { wall_ms, .. } => wall_ms.load(Ordering::Acquire),
        }
    }

    /// Moves a manual clock forward, monotonic and wall alike.
    ///
    /// # Panics
    /// On the system clock: a test mistook which clock it holds.
    pub fn advance(&self, by: Duration) {
        let Source::Manual { mono_ns, wall_ms } = &*self.0 else {
            panic!("the system clock cannot be moved")
        };
        mono_ns.fetch_add(by.as_nanos() as u64, Ordering::AcqRel);
        wall_ms.fetch_add(by.as_millis() as i64, Ordering::AcqRel);
    }

    /// Steps the wall time of a manual clock, forward or back, leaving monotonic time alone.
    ///
    /// # Panics
    /// On the system clock.
    pub fn step_wall(&self, by_ms: i64) {
        let Source::Manual { wall_ms, .. } = &*self.0 else { panic!("the system clock cannot be moved") };
        wall_ms.fetch_add(by_ms, Ordering::AcqRel);
    }
}

/// The instant that network timeouts count from. These are not under a test's clock: a socket does not wait
/// for one.
pub(crate) fn now() -> Instant {
    Instant::now()
}
