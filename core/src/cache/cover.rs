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

use super::{Caches, Stays};
use crate::base::{Deadline, random};
use crate::cache::l1::L1;
use crate::error::Result;

/// A transaction's mark on those of its keys that had something older. In this process's memory it ends with this.
pub(crate) struct Covered {
    token: String,
    l1: L1,
    keys: Vec<Arc<str>>,
}

impl Covered {
    /// What tells it from other covers of the same keys.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The keys.
    pub(crate) fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        self.keys.iter().for_each(|key| self.l1.uncover(key));
    }
}

impl Caches {
    /// One of no key yet.
    pub(crate) fn new_cover(&self) -> Covered {
        // See `is_cover` in scripts/fences.lua.
        let token = format!("+{:015x}", random::word() >> 4);
        Covered { token, l1: self.l1.clone(), keys: Vec::new() }
    }

    /// Covers further keys for at most `life`, but for those under which there is what may stay.
    ///
    /// # Errors
    /// If L2 failed: some of the keys may be covered there, until they are let go or `life` has passed.
    pub(crate) async fn cover(
        &self,
        covered: &mut Covered,
        keys: &[(Arc<str>, Stays)],
        life: Duration,
        deadline: Deadline,
    ) -> Result<()> {
        let token = &covered.token;
        let covering = keys.iter().map(|(key, stays)| async move {
            match &self.l2 {
                Some(l2) => l2.cover(key, *stays, token, life, deadline).await,
                None => Ok(!self.holds(key, *stays)),
            }
        });
        let mut done = Ok(());
        for ((key, _), fenced) in keys.iter().zip(join_all(covering).await) {
            match fenced {
                Ok(true) => self.cover_here(covered, key),
                Ok(false) => {}
                Err(error) => done = Err(error),
            }
        }
        done.inspect_err(|error| self.note_failure(error))
    }

    /// Covers a key in this process's memory alone.
    pub(crate) fn cover_here(&self, covered: &mut Covered, key: &Arc<str>) {
        self.l1.cover(key);
        // Who asks from now on may not be given what was read before the COMMIT.
        self.loader.forget(key);
        covered.keys.push(key.clone());
    }
}
