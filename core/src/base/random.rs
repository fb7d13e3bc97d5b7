//! Chance: jitter and identifiers. Not for secrets.

use std::time::Duration;

/// A number below `bound` (0 gives 0).
pub(crate) fn below(bound: u64) -> u64 {
    if bound == 0 { 0 } else { fastrand::u64(..bound) }
}

/// A random 64-bit number that no other process draws.
pub(crate) fn word() -> u64 {
    unique() as u64
}

/// From the system: a process that was forked has a copy of its parent's generator, and so would have the same numbers.
fn unique() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_ne_bytes(bytes),
        Err(_) => fastrand::u128(..),
    }
}

/// `duration` moved by up to ± `fraction` of itself.
pub(crate) fn jitter(duration: Duration, fraction: f64) -> Duration {
    duration.mul_f64(1.0 + fraction * (2.0 * fastrand::f64() - 1.0))
}

/// A draw from the exponential distribution of mean 1.
pub(crate) fn exponential() -> f64 {
    // Of (0, 1]: the logarithm of 0 is none.
    -(1.0 - fastrand::f64()).ln()
}

/// A new operation id: 128 random bits in hexadecimal.
pub(crate) fn operation_id() -> String {
    format!("{:032x}", unique())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_band() {
        let second = Duration::from_secs(1);
        for _ in 0..1_000 {
            let moved = jitter(second, 0.05);
            assert!(moved >= second.mul_f64(0.95) && moved <= second.mul_f64(1.05), "{moved:?}");
        }
        assert_eq!(jitter(second, 0.0), second);
    }
}
