//! The one place that decides the order of store and cache: first the COMMIT, then the caches.
//!
//! | outcome | what the caches see |
//! |---|---|
//! | committed | the new value under the key, or, without data, nothing under it; nothing under `invalidates` |
//! | aborted | nothing happened |
//! | unknown | nothing under the key nor under `invalidates`: either value may be the right one |
//!
//! After an unknown outcome the drop is repeated a few times: if the COMMIT becomes visible late, a read in between may
//! have cached what was before it.
//!
//! The caches hear before the COMMIT that a change is under way: of two transactions on one key the later one may be
//! acknowledged while the earlier one has yet to tell the caches, and must not have its outcome undone by it.
//!
//! A write without data drops its key rather than leaving it: nothing older than an acknowledged write of a named
//! key may be served (ADR 0002).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::caller::Caller;
use super::state::State;
use crate::cache::{Settle, Stamp};
use crate::config::Ttl;
use crate::error::Result;
use crate::store::{CommitHooks, ExecResult, Outcome};

/// What one write does to the caches once its fate is known.
pub(super) struct CacheAfterCommit {
    state: Arc<State>,
    /// The key and its new value; `None` drops the key.
    entry: Option<(String, Option<Bytes>)>,
    ttl: Option<Ttl>,
    invalidates: Vec<String>,
    caller: Caller,
    under_way: Mutex<Option<UnderWay>>,
    cached: AtomicBool,
}

/// The changes that a COMMIT will make, from before it is sent.
struct UnderWay {
    written: Option<Settle>,
    dropped: Settle,
    version: u64,
}

impl CacheAfterCommit {
    pub(super) fn new(
        state: Arc<State>,
        entry: Option<(String, Option<Bytes>)>,
        ttl: Option<Ttl>,
        mut invalidates: Vec<String>,
        caller: Caller,
    ) -> CacheAfterCommit {
        // The key's own entry says what becomes of it.
        invalidates.retain(|key| entry.as_ref().is_none_or(|(own, _)| own != key));
        CacheAfterCommit {
            state,
            entry,
            ttl,
            invalidates,
            caller,
            under_way: Mutex::new(None),
            cached: AtomicBool::new(false),
        }
    }

    /// Whether the caches took what they were told.
    pub(super) fn cached(&self) -> bool {
        self.cached.load(Ordering::Acquire)
    }

    fn begin(&self, version: u64) -> UnderWay {
        let caches = &self.state.caches;
        let (mut written, mut dropped) = (None, self.invalidates.iter().collect::<Vec<_>>());
        match &self.entry {
            Some((key, Some(_))) => written = Some(caches.begin(std::slice::from_ref(key))),
            Some((key, None)) => dropped.push(key),
            None => {}
        }
        UnderWay { written, dropped: caches.begin(&dropped), version }
    }

    async fn apply(&self, under_way: UnderWay) -> Result<()> {
        let UnderWay { written, dropped, version } = under_way;
        let dropped = self.state.drop_keys(dropped, version).await;
        let written = match (written, &self.entry) {
            (Some(change), Some((_, Some(data)))) => {
                self.state.write_key(change, data.clone(), self.ttl, Stamp::Version(version)).await
            }
            _ => Ok(()),
        };
        dropped.and(written)
    }

    /// A drop of everything, which keeps out what older transactions have yet to write.
    async fn drop_all(&self, under_way: UnderWay) -> Result<()> {
        let UnderWay { written, dropped, version } = under_way;
        let changes = written.iter().chain([&dropped]);
        self.state.drop_again_later(changes.flat_map(Settle::keys).cloned().collect(), version);
        let done = self.state.drop_keys(dropped, version).await;
        match written {
            Some(change) => done.and(self.state.drop_keys(change, version).await),
            None => done,
        }
    }
}

#[async_trait]
impl CommitHooks for CacheAfterCommit {
    async fn before_tasks(&self, _run: u32) -> Result<()> {
        self.caller.check_waits()
    }

    async fn before_commit(&self, version: u64, _results: &[ExecResult]) -> Result<()> {
        // The run before, if there was one, left nothing.
        let earlier = self.under_way.lock().take();
        earlier.into_iter().for_each(UnderWay::call_off);
        *self.under_way.lock() = Some(self.begin(version));
        Ok(())
    }

    async fn after(&self, outcome: &Outcome) {
        let under_way = self.under_way.lock().take();
        let done = match (outcome, under_way) {
            (Outcome::Aborted(_), under_way) => {
                under_way.into_iter().for_each(UnderWay::call_off);
                Ok(())
            }
            (Outcome::Committed(committed), under_way) => {
                self.apply(under_way.unwrap_or_else(|| self.begin(committed.version))).await
            }
            (Outcome::Unknown(_), under_way) => {
                self.drop_all(under_way.unwrap_or_else(|| self.begin(0))).await
            }
        };
        if let Err(error) = &done {
            log::warn!("the caches could not follow a write: {error}");
        }
        self.cached.store(done.is_ok(), Ordering::Release);
    }
}

impl UnderWay {
    fn call_off(self) {
        self.written.into_iter().chain([self.dropped]).for_each(Settle::call_off);
    }
}
