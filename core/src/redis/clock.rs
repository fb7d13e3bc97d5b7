//! Redis' time, estimated, so that processes whose clocks differ agree on when an entry ends.
//!
//! A sample pairs Redis' TIME with the monotonic clock *before* the question was sent. Counted from there, the estimate
//! is never behind Redis and ahead of it by one round trip at most: an entry may seem older than it is, never younger.
//! A sample is renewed along with the next command once it is a second old; a command that must know the time before it
//! is sent waits for a new one only if there is none, or if it is so old that a step of Redis' clock or drift could
//! matter.

use std::time::Duration;

use parking_lot::Mutex;

use crate::base::{Clock, Deadline};
use crate::error::Result;
use crate::redis::Redis;

/// Age from which a sample is renewed beside the next command.
const RENEW_AFTER: Duration = Duration::from_secs(1);
/// Age from which a sample is no longer good enough to go on with.
const USELESS_AFTER: Duration = Duration::from_secs(60);

/// An estimate of Redis' time.
pub(crate) struct RedisClock {
    redis: Redis,
    clock: Clock,
    sample: Mutex<Option<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    asked_ns: u64,
    redis_us: u64,
}

impl Sample {
    fn age(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(now_ns.saturating_sub(self.asked_ns))
    }

    fn redis_ms(&self, now_ns: u64) -> u64 {
        self.redis_us.saturating_add(self.age(now_ns).as_micros() as u64) / 1_000
    }
}

impl RedisClock {
    /// No sample yet.
    pub(crate) fn new(redis: Redis, clock: Clock) -> RedisClock {
        RedisClock { redis, clock, sample: Mutex::new(None) }
    }

    /// Redis' time now in milliseconds since 1970, asking Redis only if there is no usable sample.
    pub(crate) async fn now_ms(&self, deadline: Deadline) -> Result<u64> {
        match self.usable() {
            Some(sample) => Ok(sample.redis_ms(self.clock.mono_ns())),
            None => {
                Box::pin(self.renew(deadline)).await?;
                Ok(self.estimate_ms())
            }
        }
    }

    /// Runs `command` and renews the sample beside it if it is due, both on their way at once. Gives what the command
    /// gave and Redis' time after it.
    pub(crate) async fn beside<T>(
        &self,
        command: impl Future<Output = Result<T>>,
        deadline: Deadline,
    ) -> Result<(T, u64)> {
        let command = std::pin::pin!(command);
        if !self.is_due() {
            return Ok((command.await?, self.estimate_ms()));
        }
        let (done, renewed) = futures_util::future::join(command, Box::pin(self.renew(deadline))).await;
        let done = done?;
        if self.usable().is_none() {
            renewed?;
        }
        Ok((done, self.estimate_ms()))
    }

    fn usable(&self) -> Option<Sample> {
        self.sample_younger_than(USELESS_AFTER)
    }

    fn is_due(&self) -> bool {
        self.sample_younger_than(RENEW_AFTER).is_none()
    }

    fn sample_younger_than(&self, limit: Duration) -> Option<Sample> {
        let now = self.clock.mono_ns();
        (*self.sample.lock()).filter(|sample| sample.age(now) < limit)
    }

    fn estimate_ms(&self) -> u64 {
        let now = self.clock.mono_ns();
        // Every caller has seen to it that there is a sample; without one nothing would seem to have expired.
        (*self.sample.lock()).map_or(u64::MAX, |sample| sample.redis_ms(now))
    }

    async fn renew(&self, deadline: Deadline) -> Result<()> {
        let asked_ns = self.clock.mono_ns();
        let redis_us = self.redis.time_us(deadline).await?;
        let mut sample = self.sample.lock();
        // Of two that overlapped, the later question counts.
        if sample.is_none_or(|old| old.asked_ns <= asked_ns) {
            *sample = Some(Sample { asked_ns, redis_us });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::testing;

    #[test]
    fn an_estimate_counts_from_the_question() {
        let sample = Sample { asked_ns: 5_000_000, redis_us: 1_000_000 };
        assert_eq!(sample.redis_ms(5_000_000), 1_000);
        assert_eq!(sample.redis_ms(7_000_000), 1_002);
        assert_eq!(sample.redis_ms(0), 1_000, "never before the sample");
    }

    #[tokio::test]
    async fn the_estimate_is_never_behind_redis_and_follows_the_clock() {
        let redis = testing::connect().await;
        let deadline = Deadline::after(Duration::from_secs(5));
        let clock = RedisClock::new(redis.clone(), Clock::system());
        for _ in 0..20 {
            let before = redis.time_us(deadline).await.unwrap() / 1_000;
            let estimate = clock.now_ms(deadline).await.unwrap();
            let after = redis.time_us(deadline).await.unwrap() / 1_000;
            assert!(estimate >= before, "{estimate} is behind {before}");
            assert!(estimate <= after + 1_000, "{estimate} is far ahead of {after}");
        }
    }

    #[tokio::test]
    async fn a_sample_is_renewed_beside_a_command_and_thrown_away_when_old() {
        let redis = testing::connect().await;
        let deadline = Deadline::after(Duration::from_secs(5));
        let manual = Clock::manual(0);
        let clock = RedisClock::new(redis, manual.clone());
        let (seven, first) = clock.beside(async { Ok(7) }, deadline).await.unwrap();
        assert_eq!(seven, 7);
        manual.advance(Duration::from_millis(500));
        let (_, later) = clock.beside(async { Ok(()) }, deadline).await.unwrap();
        assert_eq!(later, first + 500, "the same sample");
        manual.advance(Duration::from_secs(3_600));
        let (_, renewed) = clock.beside(async { Ok(()) }, deadline).await.unwrap();
        assert!(renewed < later + 3_600_000, "a new sample: Redis' hour has not passed");
        manual.advance(Duration::from_secs(59));
        assert_eq!(clock.now_ms(deadline).await.unwrap(), renewed + 59_000);
        manual.advance(Duration::from_secs(2));
        assert!(clock.now_ms(deadline).await.unwrap() < renewed + 59_000);
    }
}
