//! Around a COMMIT that comes later than its write was accepted: until the caches are told of it nobody finds in them what is
//! older than the rows.
//!
//! ```text
//! statements ─▶ cover ─▶ COMMIT ─▶ drop unless ─ the value of the write, or of a later accepted one, stays all the time
//!                 ╰─ called off ─▶ as before
//! ```
//! The cover is a fence that a value may be put over, as that came later than what is about to commit. Whoever dies between
//! leaves it there for a while, and nothing old.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Caches, Settle, Stays};
use crate::base::{Deadline, random};
use crate::error::Result;

/// A transaction's mark on those of its keys that had something older.
pub(crate) struct Covered {
    token: String,
    under_way: Vec<Settle>,
}

impl Covered {
    /// Of no key yet.
    pub(crate) fn new() -> Covered {
        // See `is_cover` in scripts/fences.lua.
        Covered { token: format!("+{:015x}", random::word() >> 4), under_way: Vec::new() }
    }

    /// What tells it from other covers of the same keys.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }
}

impl Caches {
    /// Covers further keys for at most `life`, but for those under which there is what may stay.
    ///
    /// # Errors
    /// If L2 failed: some of the keys may be covered then, until they are let go or `life` has passed. L1 has none of them.
    pub(crate) async fn cover(
        &self,
        covered: &mut Covered,
        keys: &[(Arc<str>, Stays)],
        life: Duration,
        deadline: Deadline,
    ) -> Result<()> {
        let token = &covered.token;
        let covering = keys.iter().map(|(key, stays)| async move {
            let change = self.begin(std::slice::from_ref(key));
            let fenced = match &self.l2 {
                Some(l2) => l2.cover(key, *stays, token, life, deadline).await,
                None => Ok(!self.holds(key, *stays)),
            };
            (change, fenced)
        });
        let mut done = Ok(());
        for (change, fenced) in join_all(covering).await {
            match fenced {
                Ok(false) => change.call_off(),
                fenced => {
                    self.close(&change);
                    covered.under_way.push(change);
                    done = done.and(fenced.map(|_| ()));
                }
            }
        }
        done.inspect_err(|error| self.note_failure(error))
    }

    /// The transaction certainly left nothing: what was there before is there again.
    pub(crate) async fn call_off(&self, covered: Covered, deadline: Deadline) {
        let Covered { token, under_way } = covered;
        let keys = under_way.iter().flat_map(|change| change.keys());
        self.lift_all(&token, keys, deadline).await;
        under_way.into_iter().for_each(Settle::call_off);
    }

    /// Takes what a change concerns out of L1, before its end is known: reads meanwhile do not put it back.
    pub(crate) fn close(&self, change: &Settle) {
        change.keys().iter().for_each(|key| self.l1.remove(key));
    }
}
