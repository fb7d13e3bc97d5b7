//! Changes without a fence: what no transaction wrote, and what is dropped.

use std::sync::Arc;

use super::{Caches, Covered, NewValue, Settle, Stays};
use crate::base::Deadline;
use crate::cache::life::Life;
use crate::error::Result;

/// What [`Caches::drop_unless`] knows a value by: its SHA-1. Not for secrets.
pub(crate) fn digest(data: &[u8]) -> [u8; 20] {
    sha1_smol::Sha1::from(data).digest().bytes()
}

impl Caches {
    /// A change of keys begins that one of the following will end: for a transaction before its
    /// COMMIT, so that the later one of two that overlap cannot go unseen by the earlier.
    pub(crate) fn begin<K: AsRef<str>>(&self, keys: &[K]) -> Settle {
        let keys = keys.iter().map(|key| key.as_ref().into()).collect();
        Settle::begin(&self.l1, &self.loader, keys)
    }

    /// The same for what a transaction is about to change, and nobody finds in L2 any more: it is gone from L1 at once.
    pub(crate) fn begin_commit(&self, keys: &[Arc<str>]) -> Settle {
        let change = self.begin(keys);
        keys.iter().for_each(|key| self.l1.remove(key));
        change
    }

    /// Puts a value under the change's one key into both tiers: one that no transaction wrote, or, with its accept sequence,
    /// that of a delayed write. If a writer is under way, or a later accepted value is there, the key is left without.
    ///
    /// # Errors
    /// If L2 failed. The key is gone from L1 then; L2 may or may not have the value.
    pub(crate) async fn put(
        &self,
        change: Settle,
        value: NewValue,
        accepted: Option<u64>,
        deadline: Deadline,
    ) -> Result<()> {
        self.counters.cache_writes.inc();
        let key = change.key()?;
        let life = self.rules(key).of_value(value.ttl);
        let stored = match &self.l2 {
            Some(l2) => l2.put(key, value.content(), life, accepted, deadline).await,
            None => Ok(true),
        };
        self.follow(change, value, life, stored)
    }

    /// Ends a change with a value whose way into L2 is known.
    pub(super) fn follow(
        &self,
        change: Settle,
        value: NewValue,
        life: Life,
        stored: Result<bool>,
    ) -> Result<()> {
        match stored {
            Ok(true) => {
                let (stay, _) = self.rules(change.key()?).stay(life.fresh, life.fresh);
                change.commit(value.data, stay, value.tags.map(|tags| tags.marks));
            }
            // Something else is there: what L1 has may be neither.
            Ok(false) => drop(change),
            Err(error) => {
                drop(change);
                self.note_failure(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Drops the change's keys from both tiers.
    ///
    /// # Errors
    /// If L2 failed: it may still have them. They are gone from L1.
    pub(crate) async fn drop_keys(&self, change: Settle, deadline: Deadline) -> Result<()> {
        let keys = change.keys();
        if keys.is_empty() {
            return Ok(());
        }
        self.counters.cache_drops.add(keys.len() as u64);
        // Gone from L1 at once, and again when the change ends, as a read in between may have found it in L2.
        keys.iter().for_each(|key| self.l1.remove(key));
        let Some(l2) = &self.l2 else { return Ok(()) };
        let dropped = l2.drop_keys(keys, deadline).await;
        dropped.map(|_| ()).inspect_err(|error| self.note_failure(error))
    }

    /// Drops the change's one key from both tiers, unless L2 holds what may stay; without L2, unless L1 does. If the key is
    /// covered, that ends.
    ///
    /// # Errors
    /// If L2 failed: it may still have it. It is gone from L1.
    pub(crate) async fn drop_unless(
        &self,
        change: Settle,
        stays: Stays,
        covered: Option<&Covered>,
        deadline: Deadline,
    ) -> Result<()> {
        let key = change.key()?;
        let cover = covered.map_or("", Covered::token);
        let stays = match &self.l2 {
            Some(l2) => l2.drop_unless(key, stays, cover, deadline).await,
            None => Ok(self.holds(key, stays)),
        };
        match stays {
            Ok(true) => change.call_off(),
            Ok(false) => self.counters.cache_drops.inc(),
            Err(error) => {
                self.note_failure(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether L1, which is alone, holds what may stay.
    pub(super) fn holds(&self, key: &str, stays: Stays) -> bool {
        match stays {
            Stays::Digest(kept) => self.l1.get(key).flatten().is_some_and(|data| digest(&data) == kept),
            // An entry does not say which write it is of.
            Stays::Since(_) | Stays::Nothing => false,
        }
    }
}
