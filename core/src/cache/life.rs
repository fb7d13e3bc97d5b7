//! How long an entry lives in which tier.

use std::time::Duration;

use crate::base::random;
use crate::config::Ttl;

/// No life is longer: adding more to a time could overflow it.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// No life is shorter: Redis counts milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);

/// The configured lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LifeRules {
    /// Longest stay in L1.
    pub(crate) l1_ttl: Duration,
    /// Of a value whose write names none.
    pub(crate) default_ttl: Ttl,
    /// Of an absence whose source names none.
    pub(crate) absent_ttl: Duration,
    /// Lives are moved by up to ± this fraction, once, when an entry is written, so that entries written together do not
    /// end together.
    pub(crate) jitter: f64,
}

impl LifeRules {
    /// The life of a value; `None` is for ever.
    pub(crate) fn of_value(&self, ttl: Option<Ttl>) -> Option<Duration> {
        match ttl.unwrap_or(self.default_ttl) {
            Ttl::Never => None,
            Ttl::For(life) => Some(self.moved(life)),
        }
    }

    /// The life of an absence.
    pub(crate) fn of_absence(&self, ttl: Option<Duration>) -> Duration {
        self.moved(ttl.unwrap_or(self.absent_ttl))
    }

    /// The stay in L1 of an entry of which so much life is left.
    pub(crate) fn in_l1(&self, left: Option<Duration>) -> Duration {
        // Moved down only: the setting is a bound.
        let longest = self.moved(self.l1_ttl).min(self.l1_ttl);
        left.map_or(longest, |left| left.min(longest))
    }

    fn moved(&self, life: Duration) -> Duration {
        random::jitter(life.min(LONGEST), self.jitter).max(SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: LifeRules = LifeRules {
        l1_ttl: Duration::from_secs(60),
        default_ttl: Ttl::For(Duration::from_secs(1_000)),
        absent_ttl: Duration::from_secs(30),
        jitter: 0.05,
    };

    #[test]
    fn lives_stay_in_their_band() {
        for _ in 0..1_000 {
            let life = RULES.of_value(None).unwrap().as_secs_f64();
            assert!((950.0..=1_050.0).contains(&life), "{life}");
            let absent = RULES.of_absence(None).as_secs_f64();
            assert!((28.5..=31.5).contains(&absent), "{absent}");
            let stay = RULES.in_l1(None).as_secs_f64();
            assert!((57.0..=60.0).contains(&stay), "{stay}");
        }
        assert_eq!(RULES.of_value(Some(Ttl::Never)), None);
        assert_eq!(RULES.in_l1(Some(Duration::from_secs(3))), Duration::from_secs(3));
    }

    #[test]
    fn extremes_neither_panic_nor_vanish() {
        assert!(RULES.of_value(Some(Ttl::For(Duration::MAX))).unwrap() <= LONGEST.mul_f64(1.06));
        assert_eq!(RULES.of_value(Some(Ttl::For(Duration::from_nanos(1)))), Some(SHORTEST));
    }
}
