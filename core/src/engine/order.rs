//! The one place that decides the order of store and cache: first the COMMIT, then the caches.
//!
//! | outcome | what the caches see |
//! |---|---|
//! | committed | the new value under the key, or, without data, nothing under it; nothing under `invalidates` |
//! | aborted | nothing happened |
//! | unknown | nothing under the key nor under `invalidates`: either value may be the right one |
//!
//! A write without data drops its key rather than leaving it: nothing older than an acknowledged write of a named
//! key may be served (ADR 0002).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::caller::Caller;
use super::state::State;
use crate::config::Ttl;
use crate::error::Result;
use crate::store::{CommitHooks, Outcome};

/// What one write does to the caches once its fate is known.
pub(super) struct CacheAfterCommit {
    pub(super) state: Arc<State>,
    /// The key and its new value; `None` drops the key.
    pub(super) entry: Option<(String, Option<Bytes>)>,
    pub(super) ttl: Option<Ttl>,
    pub(super) invalidates: Vec<String>,
    pub(super) caller: Caller,
    /// Whether the caches took what they were told.
    pub(super) cached: AtomicBool,
}

#[async_trait]
impl CommitHooks for CacheAfterCommit {
    async fn before_tasks(&self, _run: u32) -> Result<()> {
        self.caller.check_waits()
    }

    async fn after(&self, outcome: &Outcome) {
        let done = match outcome {
            Outcome::Committed(committed) => self.apply(committed.version).await,
            Outcome::Aborted(_) => Ok(()),
            Outcome::Unknown(_) => self.drop_all().await,
        };
        if let Err(error) = &done {
            log::warn!("the caches could not follow a write: {error}");
        }
        self.cached.store(done.is_ok(), Ordering::Release);
    }
}

impl CacheAfterCommit {
    async fn apply(&self, version: u64) -> Result<()> {
        let invalidated = self.state.drop_keys(&self.invalidates).await;
        let written = match &self.entry {
            Some((key, Some(data))) => self.state.write_key(key, data.clone(), self.ttl, version).await,
            Some((key, None)) => self.state.drop_keys(std::slice::from_ref(key)).await,
            None => Ok(()),
        };
        invalidated.and(written)
    }

    async fn drop_all(&self) -> Result<()> {
        let mut keys = self.invalidates.clone();
        keys.extend(self.entry.iter().map(|(key, _)| key.clone()));
        self.state.drop_keys(&keys).await
    }
}
