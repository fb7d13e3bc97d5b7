//! How long things take, in buckets that grow with the time: a quantile is right to a quarter of itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets for each doubling.
const STEPS: usize = 4;
/// Doublings of a microsecond: more than an hour.
const DOUBLINGS: usize = 32;

/// Times, counted.
#[derive(Debug)]
pub(crate) struct Histogram([AtomicU64; STEPS * DOUBLINGS]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([const { AtomicU64::new(0) }; STEPS * DOUBLINGS])
    }
}

impl Histogram {
    /// The time in milliseconds that this part of those counted does not exceed; 0 if none were.
    pub(crate) fn quantile_ms(&self, part: f64) -> f64 {
        self.quantile(part).as_secs_f64() * 1e3
    }

    /// Counts one time.
    pub(crate) fn record(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.0[bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time that this part of those counted does not exceed; zero if none were.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let counts: Vec<u64> = self.0.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let wanted = ((all as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(upper(at));
            }
        }
        Duration::ZERO
    }
}

/// Four buckets between a power of two and the next.
fn bucket(us: u64) -> usize {
    let doubling = us.ilog2() as usize;
    let step = if doubling < 2 { 0 } else { (us >> (doubling - 2)) as usize & (STEPS - 1) };
    (doubling * STEPS + step).min(STEPS * DOUBLINGS - 1)
}

fn upper(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    let whole = 1_u64 << doubling;
    if doubling < 2 { 2 * whole - 1 } else { whole + (step as u64 + 1) * (whole / STEPS as u64) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_quarter_above_what_was_recorded() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for us in 1..=10_000 {
            histogram.record(Duration::from_micros(us));
        }
        for (part, exact) in [(0.5, 5_000.0), (0.99, 9_900.0), (0.001, 10.0)] {
            let found = histogram.quantile(part).as_micros() as f64;
            assert!(found >= exact && found <= exact * 1.25 + 1.0, "{part}: {found} for {exact}");
        }
        histogram.record(Duration::MAX);
        assert!(histogram.quantile(1.0) > Duration::from_secs(1_000));
    }
}
