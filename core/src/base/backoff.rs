//! Waiting between tries: exponential with full jitter.
//!
//! Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: a delay drawn evenly from
//! zero to the exponential bound makes the fewest clashes among many callers.

use std::time::Duration;

use crate::base::random;

/// The delays of one retried operation.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    /// Delays up to `first`, then twice that and so on, never above `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, tries: 0 }
    }

    /// The next delay.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let bound = self.first.saturating_mul(1 << self.tries.min(20)).min(self.longest);
        self.tries += 1;
        Duration::from_nanos(random::below(bound.as_nanos() as u64 + 1))
    }

    /// How many delays were given.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_bounded() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));
        for _ in 0..100 {
            assert!(backoff.next_delay() <= Duration::from_millis(50));
        }
        assert_eq!(backoff.tries(), 100);
    }
}
