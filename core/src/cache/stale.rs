//! The last good value, for when the source fails, and what is loaded anew before it ends.
//!
//! ```text
//!  fresh ──────────────┬─────────▶ last good value ──────────▶ gone
//!  0     refresh_ahead │ ttl         source fails: served         ttl + stale_ttl
//!        one reader loads it anew, all have the fresh value
//! ```
//! Staleness is about age alone. What was dropped, overwritten or fenced is not in L2 any more, so it is looked up there at
//! the moment it is needed, and nothing is carried along from before. L1's copy counts where L2 was not asked, under L1's
//! own rules: every change takes it out, and it is not read while the other processes are not heard. An absence is never a
//! last good value.

use std::sync::Arc;
use std::time::Duration;

use super::admit::Permit;
use super::reads::miss;
use super::{Caches, Lookup, Miss, SourceLife};
use crate::base::Deadline;
use crate::cache::answer::{Found, Last};
use crate::cache::life::Stay;
use crate::cache::loader::Loaded;

/// For so long a last good value answers reads, so that a source that fails is not asked with each of them.
const PAUSE: Duration = Duration::from_secs(1);

impl Caches {
    /// What may be served in place of what the source did not give: a fresh value or absence that somebody else put there,
    /// or the last good value. `None` if there is neither.
    pub(crate) async fn last_good(
        &self,
        key: &Arc<str>,
        own: &SourceLife,
        deadline: Deadline,
    ) -> Option<Loaded> {
        let rules = self.life.with(own);
        if rules.stale_ttl.is_zero() {
            return None;
        }
        let epoch = self.epochs.epoch(key);
        let asked = match &self.l2 {
            // Boxed, so that the reads which need none of this have no room for it.
            Some(l2) => Some(self.while_coherent(Box::pin(l2.last(key, deadline))).await),
            None => None,
        };
        let (data, last, marks) = match asked {
            Some(Ok(Last::Fresh(Found { data, life, span, marks, .. }))) => {
                self.keep(key, data.clone(), (life, span), &rules, epoch, marks);
                return Some(data);
            }
            Some(Ok(Last::Stale(data, age, marks))) => {
                rules.stale_ttl.checked_sub(age).map(|last| (data, last, marks))
            }
            Some(Ok(Last::Nothing)) => None,
            Some(Err(_)) | None => {
                self.l1.kept(key).and_then(|kept| Some((kept.data?, kept.last, kept.marks)))
            }
        }?;
        self.counters.stale_served.inc();
        let stay = Stay { read: PAUSE.min(last), fresh: Duration::ZERO, last };
        self.l1.insert_gated(key, Some(data.clone()), stay, epoch, marks);
        Some(Some(data))
    }

    /// Without L2: what is to be loaded anew, or a miss.
    pub(super) fn look_in_memory(&self, key: &Arc<str>) -> Lookup {
        let epoch = self.epochs.epoch(key);
        match self.l1.kept(key) {
            // It has ceased to answer reads so that somebody looks.
            Some(kept) if !kept.left.is_zero() => {
                let stay = Stay { read: kept.left / 2, fresh: kept.left, last: kept.last };
                self.l1.insert_gated(key, kept.data.clone(), stay, epoch, kept.marks);
                Lookup::Ahead(kept.data, Miss { epoch, error: None, permit: Permit::Memory })
            }
            _ => miss(epoch, Permit::Memory),
        }
    }
}
