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
//! This process's memory hears before the COMMIT that a change is under way: of two transactions on one key the later one may be
//! acknowledged while the earlier one has yet to tell the caches, and must not have its outcome undone by it.
//!
//! A write without data drops its key rather than leaving it: nothing older than an acknowledged write of a named
//! key may be served (ADR 0002).
//!
//! Before the first task is sent the keys are fenced in Redis: until the transaction's end nobody reads or fills them there,
//! and whoever dies in between leaves nothing old. If Redis cannot be told, `on_cache_down` decides: `strict` fails here,
//! `available` commits along with a row in the outbox, from which any process drops the keys.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::WriteOptions;
use super::caller::Caller;
use super::state::State;
use crate::base::Deadline;
use crate::base::crash::crash;
use crate::cache::{Fence, NewValue, Settle, TagSet};
use crate::config::{OnCacheDown, Ttl};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Rendered;
use crate::store::{CommitHooks, ExecResult, Outcome};

/// What is left of a fence at the last moment at which a COMMIT may be sent.
pub(super) const FENCE_GUARD: Duration = Duration::from_secs(2);

/// What one write does to the caches once its fate is known.
pub(super) struct CacheAfterCommit {
    state: Arc<State>,
    /// The key and its new value; `None` drops the key.
    entry: Option<(Arc<str>, Option<Bytes>)>,
    ttl: Option<Ttl>,
    /// The names of the entry's tags.
    tags: Vec<String>,
    /// All keys: that of the entry first.
    keys: Vec<Arc<str>>,
    caller: Caller,
    /// The end of the call: no COMMIT is sent after it.
    deadline: Deadline,
    /// Of this run of the transaction and those it is repeated by, until one of them is known to have left nothing.
    fence: Mutex<Option<Arc<Fence>>>,
    /// The entry's tags as they were before the first task; none if they could not be asked for.
    tagged: OnceLock<Option<TagSet>>,
    under_way: Mutex<Option<UnderWay>>,
    cached: AtomicBool,
}

/// The changes that a COMMIT will make, from before it is sent.
struct UnderWay {
    written: Option<Settle>,
    dropped: Settle,
}

impl CacheAfterCommit {
    pub(super) fn new(
        state: Arc<State>,
        entry: Option<(String, Option<Bytes>)>,
        options: WriteOptions,
        caller: Caller,
        deadline: Deadline,
    ) -> CacheAfterCommit {
        let entry = entry.map(|(key, data)| (Arc::<str>::from(key), data));
        let mut keys: Vec<Arc<str>> = entry.iter().map(|(key, _)| key.clone()).collect();
        for key in options.invalidates {
            // The key's own entry says what becomes of it.
            if !keys.iter().any(|own| **own == *key) {
                keys.push(key.into());
            }
        }
        CacheAfterCommit {
            state,
            entry,
            ttl: options.ttl,
            tags: options.tags,
            keys,
            caller,
            deadline,
            fence: Mutex::new(None),
            tagged: OnceLock::new(),
            under_way: Mutex::new(None),
            cached: AtomicBool::new(false),
        }
    }

    /// Whether the caches took what they were told.
    pub(super) fn cached(&self) -> bool {
        self.cached.load(Ordering::Acquire)
    }

    /// Of the keys: the first one is written if the entry has a value, the others are dropped.
    fn split(&self) -> (&[Arc<str>], &[Arc<str>]) {
        let written = usize::from(matches!(&self.entry, Some((_, Some(_)))));
        self.keys.split_at(written)
    }

    fn fence(&self) -> Option<Arc<Fence>> {
        self.fence.lock().clone()
    }

    fn begin(&self) -> UnderWay {
        let (caches, (written, dropped)) = (&self.state.caches, self.split());
        let written = (!written.is_empty()).then(|| caches.begin_commit(written));
        UnderWay { written, dropped: caches.begin_commit(dropped) }
    }

    async fn apply(&self, under_way: UnderWay) -> Result<()> {
        let UnderWay { written, dropped } = under_way;
        let (caches, deadline) = (&self.state.caches, self.state.cache_deadline());
        let Some(fence) = self.fence() else {
            // What was committed along says it to every process, this one included. Redis is not waited for again.
            drop((written, dropped));
            self.state.signal_outbox();
            let why = "Redis could not be told of the write; what it holds under the keys is dropped once it is reached";
            return if self.keys.is_empty() { Ok(()) } else { Err(Error::new(ErrorKind::Cache, why)) };
        };
        let dropping = caches.leave_nothing(&fence, dropped, deadline);
        let writing = async {
            match (written, &self.entry) {
                (Some(change), Some((_, Some(data)))) => match self.tagged.get() {
                    Some(tags) => {
                        let value = NewValue { data: data.clone(), ttl: self.ttl, tags: tags.clone() };
                        caches.leave_value(&fence, change, value, deadline).await
                    }
                    None => caches.leave_nothing(&fence, change, deadline).await.and(Err(untagged())),
                },
                _ => Ok(()),
            }
        };
        let (dropped, written) = futures_util::future::join(dropping, writing).await;
        let done = dropped.and(written);
        if done.is_err() {
            // The fence may have been lost with the Redis that had it, and with it what kept the old value out.
            self.state.tell_later(&self.keys).await;
        }
        done
    }

    /// A drop of everything, as nobody knows which value is the right one.
    async fn doubt(&self, under_way: UnderWay) -> Result<()> {
        let UnderWay { written, dropped } = under_way;
        self.state.drop_again_later(self.keys.clone());
        // The fence stays until it ends by itself: the COMMIT may become visible late.
        self.state.drop_all(written.into_iter().chain([dropped]).collect()).await
    }
}

#[async_trait]
impl CommitHooks for CacheAfterCommit {
    async fn before_tasks(&self, _run: u32) -> Result<()> {
        self.caller.check_waits()?;
        if self.fence().is_some() || self.keys.is_empty() {
            return Ok(());
        }
        let life = self.deadline.remaining() + FENCE_GUARD;
        // The other half of the caller's time is for the database.
        let deadline =
            Deadline::after(self.deadline.remaining() / 2).at_most(self.state.config.redis_timeout);
        let fencing = self.state.fence(&self.keys, life, deadline);
        let tagging = self.state.caches.tags(&self.tags, deadline);
        let (fenced, tags) = futures_util::future::join(fencing, tagging).await;
        match fenced {
            Ok(fence) => *self.fence.lock() = Some(Arc::new(fence)),
            Err(error) if self.state.config.on_cache_down == OnCacheDown::Strict => return Err(error),
            Err(error) => log::debug!("a write goes on without a fence: {error}"),
        }
        match tags {
            Ok(tags) => drop(self.tagged.set(tags)),
            Err(error) if self.state.config.on_cache_down == OnCacheDown::Strict => return Err(error),
            Err(error) => log::debug!("a write will not be cached: {error}"),
        }
        crash!("write.fenced");
        Ok(())
    }

    async fn before_commit(&self, _version: u64, _results: &[ExecResult]) -> Result<Option<Rendered>> {
        // The run before, if there was one, left nothing.
        let earlier = self.under_way.lock().take();
        earlier.into_iter().for_each(UnderWay::call_off);
        *self.under_way.lock() = Some(self.begin());
        crash!("write.before_commit");
        let unfenced = self.fence().is_none() && !self.keys.is_empty();
        Ok(unfenced.then(|| self.state.outbox.entry(&self.keys, false)))
    }

    async fn after(&self, outcome: &Outcome) {
        let under_way = self.under_way.lock().take();
        let done = match (outcome, under_way) {
            (Outcome::Aborted(_), under_way) => {
                under_way.into_iter().for_each(UnderWay::call_off);
                let lifted = self.fence.lock().take();
                if let Some(fence) = lifted {
                    self.state.caches.lift(&fence, &self.keys, self.state.cache_deadline()).await;
                }
                Ok(())
            }
            (Outcome::Committed(_), under_way) => {
                crash!("write.after_commit");
                let applied = self.apply(under_way.unwrap_or_else(|| self.begin())).await;
                crash!("write.after_unfence");
                applied
            }
            (Outcome::Unknown(_), under_way) => self.doubt(under_way.unwrap_or_else(|| self.begin())).await,
        };
        if let Err(error) = &done {
            log::debug!("the caches could not follow a write: {error}");
        }
        self.cached.store(done.is_ok(), Ordering::Release);
    }
}

impl UnderWay {
    fn call_off(self) {
        self.written.into_iter().chain([self.dropped]).for_each(Settle::call_off);
    }
}

fn untagged() -> Error {
    Error::new(
        ErrorKind::Cache,
        "Redis did not say which versions the value's tags have, so it is not cached",
    )
}
