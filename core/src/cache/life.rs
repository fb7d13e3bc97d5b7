//! How long an entry lives in which tier.

use std::time::Duration;

use crate::base::random;
use crate::cache::SourceLife;
use crate::config::Ttl;

/// No life is longer: adding more to a time could overflow it.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// No life is shorter: Redis counts milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);

/// How long an entry lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// While it is fresh; `None` is for ever.
    pub(crate) fresh: Option<Duration>,
    /// Behind that, while it is the last good value.
    pub(crate) stale: Duration,
}

/// How long a copy of an entry stays in L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stay {
    /// While it answers reads.
    pub(crate) read: Duration,
    /// While it is fresh: longer than it answers reads if somebody should look whether to renew it.
    pub(crate) fresh: Duration,
    /// Until it is gone: longer than it is fresh if it may be the last good value.
    pub(crate) last: Duration,
}

impl Stay {
    /// Answers reads until it is gone.
    pub(crate) fn plain(life: Duration) -> Stay {
        Stay { read: life, fresh: life, last: life }
    }
}

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
    /// For how long a value is kept, when it is not fresh any more, for the case that its source fails.
    pub(crate) stale_ttl: Duration,
    /// In which last part of its life a value is loaded anew before it ends; 0 is never.
    pub(crate) refresh_ahead: f64,
}

impl LifeRules {
    /// The same, with what a source or a call says for itself.
    pub(crate) fn with(&self, own: &SourceLife) -> LifeRules {
        LifeRules {
            stale_ttl: own.stale_ttl.unwrap_or(self.stale_ttl),
            refresh_ahead: own.refresh_ahead.unwrap_or(self.refresh_ahead),
            ..*self
        }
    }

    /// The life of a value.
    pub(crate) fn of_value(&self, ttl: Option<Ttl>) -> Life {
        let fresh = match ttl.unwrap_or(self.default_ttl) {
            Ttl::Never => None,
            Ttl::For(life) => Some(self.moved(life)),
        };
        // Not moved by itself: it begins where a moved life ends.
        Life { fresh, stale: self.stale_ttl.min(LONGEST) }
    }

    /// The life of an absence, which is never a last good value.
    pub(crate) fn of_absence(&self, ttl: Option<Duration>) -> Life {
        Life { fresh: Some(self.moved(ttl.unwrap_or(self.absent_ttl))), stale: Duration::ZERO }
    }

    /// The stay in L1 of an entry of which so much life is left.
    pub(crate) fn in_l1(&self, left: Option<Duration>) -> Duration {
        // Moved down only: the setting is a bound.
        let longest = self.moved(self.l1_ttl).min(self.l1_ttl);
        left.map_or(longest, |left| left.min(longest))
    }

    /// The stay in L1 of a value of which so much is left of the life it was given, and whether it is to be loaded anew now.
    ///
    /// Refresh ahead: the moment is drawn anew whenever somebody looks, as in XFetch (Vattani, Chierichetti, Lowenstein,
    /// "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015): so long before the end that a read at distance d would
    /// renew with probability exp(-d / s). There s is the time of a load; here it is a quarter of `refresh_ahead` of the
    /// life, and nothing is renewed earlier than `refresh_ahead` says. So a value that is read often is renewed early and one
    /// that is read seldom late, without anybody having measured a load.
    ///
    /// Until that moment the copy answers reads; then one of them looks.
    pub(crate) fn stay(&self, left: Option<Duration>, span: Option<Duration>) -> (Stay, bool) {
        let fresh = self.in_l1(left);
        let last = fresh.saturating_add(self.stale_ttl.min(LONGEST));
        let whole = Stay { read: fresh, fresh, last };
        let (Some(left), Some(span)) = (left, span) else { return (whole, false) };
        if self.refresh_ahead <= 0.0 {
            return (whole, false);
        }
        let window = span.mul_f64(self.refresh_ahead);
        let early = window.mul_f64((random::exponential() / 4.0).min(1.0));
        if left <= early {
            // Should the load fail, then half-way to the end somebody tries again.
            return (Stay { read: (left / 2).min(fresh), ..whole }, true);
        }
        (Stay { read: (left - early).min(fresh), ..whole }, false)
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
        stale_ttl: Duration::from_secs(7),
        refresh_ahead: 0.2,
    };

    #[test]
    fn lives_stay_in_their_band() {
        for _ in 0..1_000 {
            let Life { fresh, stale } = RULES.of_value(None);
            let life = fresh.unwrap().as_secs_f64();
            assert_eq!(stale, Duration::from_secs(7));
            assert!((950.0..=1_050.0).contains(&life), "{life}");
            let Life { fresh: absent, stale } = RULES.of_absence(None);
            let absent = absent.unwrap().as_secs_f64();
            assert_eq!(stale, Duration::ZERO);
            assert!((28.5..=31.5).contains(&absent), "{absent}");
            let stay = RULES.in_l1(None).as_secs_f64();
            assert!((57.0..=60.0).contains(&stay), "{stay}");
        }
        assert_eq!(RULES.of_value(Some(Ttl::Never)).fresh, None);
        assert_eq!(RULES.in_l1(Some(Duration::from_secs(3))), Duration::from_secs(3));
    }

    #[test]
    fn extremes_neither_panic_nor_vanish() {
        assert!(RULES.of_value(Some(Ttl::For(Duration::MAX))).fresh.unwrap() <= LONGEST.mul_f64(1.06));
        assert_eq!(RULES.of_value(Some(Ttl::For(Duration::from_nanos(1)))).fresh, Some(SHORTEST));
    }

    #[test]
    fn a_value_is_renewed_within_the_last_part_of_its_life_and_the_more_surely_the_later() {
        let rules = LifeRules { l1_ttl: Duration::from_secs(10_000), jitter: 0.0, ..RULES };
        let span = Some(Duration::from_secs(1_000));
        let due = |left| (0..2_000).filter(|_| rules.stay(Some(Duration::from_secs(left)), span).1).count();
        assert_eq!(due(1_000) + due(201), 0, "not before the window");
        let (early, middle, late) = (due(199), due(100), due(1));
        assert!((5..100).contains(&early), "1.9 %: {early}");
        assert!((180..380).contains(&middle), "13.5 %: {middle}");
        assert!(late > 1_900, "98 %: {late}");
        for _ in 0..1_000 {
            let (stay, _) = rules.stay(Some(Duration::from_secs(1_000)), span);
            assert!((800.0..=1_000.0).contains(&stay.read.as_secs_f64()), "somebody looks in time: {stay:?}");
            assert_eq!((stay.fresh.as_secs(), stay.last.as_secs()), (1_000, 1_007));
        }
        assert!(!rules.stay(None, None).1);
        assert!(!LifeRules { refresh_ahead: 0.0, ..rules }.stay(Some(SHORTEST), span).1);
    }
}
