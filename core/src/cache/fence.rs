//! What a transaction does to the caches around its COMMIT.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;

use super::{Caches, NewValue, Settle};
use crate::base::{Deadline, random};
use crate::cache::l2::End;
use crate::error::Result;

/// A transaction's mark on its keys: while it is there nobody fills them, and nobody reads what they had.
///
/// Whoever made it says how the transaction ended, key by key; what is not said ends by itself and leaves nothing.
#[derive(Debug)]
pub(crate) struct Fence {
    token: String,
    /// Of L2 when it went up: should Redis be another one by the end, the value is none for it.
    generation: OnceLock<u64>,
}

impl Caches {
    /// One that is not up yet.
    pub(crate) fn new_fence(&self) -> Fence {
        Fence { token: format!("{:016x}", random::word()), generation: OnceLock::new() }
    }

    /// Fences keys for at most `life`. Without L2 there is nothing to fence.
    ///
    /// # Errors
    /// If L2 failed: some of the keys may be fenced then, until they are let go or `life` has passed.
    pub(crate) async fn put_up(
        &self,
        fence: &Fence,
        keys: &[Arc<str>],
        life: Duration,
        deadline: Deadline,
    ) -> Result<()> {
        let Some(l2) = &self.l2 else { return Ok(()) };
        let fencing = async {
            let generation = l2.generation(deadline).await?;
            fence.generation.get_or_init(|| generation);
            let fences = keys.iter().map(|key| l2.fence(key, &fence.token, life, deadline));
            join_all(fences).await.into_iter().collect::<Result<()>>()
        };
        fencing.await.inspect_err(|error| self.note_failure(error))
    }

    /// The transaction committed, and gave the change's one key this value. It stays if nothing else happened to the key.
    ///
    /// # Errors
    /// If L2 failed: nobody reads what it has, until the fence ends by itself and takes it along.
    pub(crate) async fn leave_value(
        &self,
        fence: &Fence,
        change: Settle,
        value: NewValue,
        deadline: Deadline,
    ) -> Result<()> {
        self.counters.cache_writes.inc();
        let key = change.key()?;
        let life = self.rules(key).of_value(value.ttl);
        let stored = match &self.l2 {
            Some(l2) => {
                let generation = fence.generation.get().copied().unwrap_or(0);
                let end = End::Value(value.content(), life, generation);
                l2.unfence(key, &fence.token, end, deadline).await
            }
            None => Ok(true),
        };
        self.follow(change, value, life, stored)
    }

    /// The transaction committed, or may have, and changed these keys.
    ///
    /// # Errors
    /// As [`Caches::leave_value`].
    pub(crate) async fn leave_nothing(
        &self,
        fence: &Fence,
        change: Settle,
        deadline: Deadline,
    ) -> Result<()> {
        self.counters.cache_drops.add(change.keys().len() as u64);
        let Some(l2) = &self.l2 else { return Ok(()) };
        let ends = change.keys().iter().map(|key| l2.unfence(key, &fence.token, End::Dropped, deadline));
        let ended: Result<Vec<bool>> = join_all(ends).await.into_iter().collect();
        ended.map(|_| ()).inspect_err(|error| self.note_failure(error))
    }

    /// The transaction certainly left nothing: what was there before is there again.
    pub(crate) async fn lift(&self, fence: &Fence, keys: &[Arc<str>], deadline: Deadline) {
        drop(self.lift_all(&fence.token, keys, deadline).await);
    }

    /// The same for whatever has put up a fence.
    ///
    /// # Errors
    /// If L2 failed: some of the keys may still be fenced, until their time is up.
    pub(crate) async fn lift_all(&self, token: &str, keys: &[Arc<str>], deadline: Deadline) -> Result<()> {
        let Some(l2) = &self.l2 else { return Ok(()) };
        let ends = keys.iter().map(|key| l2.unfence(key, token, End::Aborted, deadline));
        let ended: Result<Vec<bool>> = join_all(ends).await.into_iter().collect();
        ended.map(|_| ()).inspect_err(|error| self.note_failure(error))
    }
}
