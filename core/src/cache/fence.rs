//! What a transaction does to the caches around its COMMIT.

use std::sync::Arc;
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
}

impl Caches {
    /// Fences keys for at most `life`. Without L2 there is nothing to fence.
    ///
    /// # Errors
    /// If L2 failed: some of the keys may be fenced then, until `life` has passed.
    pub(crate) async fn fence(&self, keys: &[Arc<str>], life: Duration, deadline: Deadline) -> Result<Fence> {
        let fence = Fence { token: format!("{:016x}", random::word()) };
        if let Some(l2) = &self.l2 {
            let fences = keys.iter().map(|key| l2.fence(key, &fence.token, life, deadline));
            let fenced: Result<()> = join_all(fences).await.into_iter().collect();
            fenced.inspect_err(|error| self.note_failure(error))?;
        }
        Ok(fence)
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
        let life = self.life.of_value(value.ttl);
        let key = change.key()?;
        let stored = match &self.l2 {
            Some(l2) => l2.unfence(key, &fence.token, End::Value(value.content(), life), deadline).await,
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
        let Some(l2) = &self.l2 else { return };
        let ends = keys.iter().map(|key| l2.unfence(key, &fence.token, End::Aborted, deadline));
        for error in join_all(ends).await.into_iter().filter_map(Result::err) {
            self.note_failure(&error);
        }
    }
}
