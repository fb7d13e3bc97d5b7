//! A circuit breaker: a server that keeps failing is left alone for a while, so that nobody waits for it in vain.
//!
//! ```text
//!            `limit` failures in a row                 `pause` passed: one trial
//! closed ──────────────────────────────▶ open ─────────────────────────────────▶ half-open
//!    ▲                                    ▲ the trial failed, or nobody heard of it ──┤
//!    ╰──────────────────────── the trial ended well ─────────────────────────────────╯
//! ```
//! Source: M. Nygard, "Release It!", 2007. With a limit of 0 it never opens, and costs nothing.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::Clock;

/// The breaker of one server.
#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    pause_ms: u64,
    clock: Clock,
    phase: Mutex<Phase>,
    opened: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed { failures: u32 },
    Open { until_ms: u64 },
    HalfOpen { until_ms: u64 },
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing, for so long.
    Open(Duration),
    /// The trial.
    HalfOpen,
}

impl Breaker {
    /// A closed one.
    pub(crate) fn new(limit: u32, pause: Duration, clock: Clock) -> Breaker {
        let phase = Mutex::new(Phase::Closed { failures: 0 });
        Breaker { limit, pause_ms: pause.as_millis() as u64, clock, phase, opened: Notify::new() }
    }

    /// Whether it can open at all.
    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// How long it stays open.
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(self.pause_ms)
    }

    /// Failures in a row that open it.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// What it lets through now.
    pub(crate) fn state(&self) -> BreakerState {
        if !self.is_on() {
            return BreakerState::Closed;
        }
        match *self.phase.lock() {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::Open { until_ms } => {
                let left = until_ms.saturating_sub(self.clock.mono_ms());
                BreakerState::Open(Duration::from_millis(left))
            }
        }
    }

    /// Makes the caller the one who tries, if it is time: it says with [`Breaker::settle`] how that went.
    pub(crate) fn try_again(&self) -> bool {
        let (mut phase, now) = (self.phase.lock(), self.clock.mono_ms());
        match *phase {
            // A trial that nobody heard of again is followed by the next one.
            Phase::Open { until_ms } | Phase::HalfOpen { until_ms } if until_ms <= now => {
                *phase = Phase::HalfOpen { until_ms: now.saturating_add(self.pause_ms) };
                true
            }
            _ => false,
        }
    }

    /// The end of a trial.
    pub(crate) fn settle(&self, well: bool) {
        *self.phase.lock() = if well { Phase::Closed { failures: 0 } } else { self.open() };
    }

    /// The end of a call that was let through while it was closed; says whether that opened it. One that ends later counts
    /// for nothing: the trial decides.
    pub(crate) fn note(&self, away: bool) -> bool {
        if !self.is_on() {
            return false;
        }
        let mut phase = self.phase.lock();
        let Phase::Closed { failures } = &mut *phase else { return false };
        *failures = if away { *failures + 1 } else { 0 };
        let opens = *failures >= self.limit;
        if opens {
            *phase = self.open();
            self.opened.notify_one();
        }
        opens
    }

    /// Resolves when it was opened.
    pub(crate) async fn opened(&self) {
        self.opened.notified().await;
    }

    fn open(&self) -> Phase {
        Phase::Open { until_ms: self.clock.mono_ms().saturating_add(self.pause_ms) }
    }
}

impl BreakerState {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open(_) => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    #[test]
    fn failures_in_a_row_open_it_and_one_trial_decides() {
        let clock = Clock::manual(0);
        let breaker = Breaker::new(3, PAUSE, clock.clone());
        for away in [true, true, false, true, true] {
            assert!(!breaker.note(away));
        }
        assert!(breaker.note(true), "three in a row");
        assert_eq!(breaker.state(), BreakerState::Open(PAUSE));
        assert!(!breaker.note(false) && !breaker.try_again(), "what was under way counts for nothing");
        clock.advance(PAUSE);
        assert!(breaker.try_again() && !breaker.try_again(), "one trial");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.settle(false);
        assert_eq!(breaker.state(), BreakerState::Open(PAUSE));
        clock.advance(PAUSE);
        assert!(breaker.try_again());
        clock.advance(PAUSE);
        assert!(breaker.try_again(), "nobody heard of the first trial");
        breaker.settle(true);
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(!breaker.note(true) && !breaker.note(true), "counted anew");
    }

    #[test]
    fn without_a_limit_it_never_opens() {
        let breaker = Breaker::new(0, PAUSE, Clock::manual(0));
        assert!((0..100).all(|_| !breaker.note(true)));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
