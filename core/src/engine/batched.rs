//! What a COMMIT that came later does to the caches, be it of a batch or of delayed writes: each of its keys is dropped,
//! unless the caches hold the value of the last accepted write on it. What Redis could not be told is told again.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::signal::Signal;
use crate::base::Deadline;
use crate::base::service::{Services, StopSignal};
use crate::batch::{Gate, WeakBatcher};
use crate::cache::{Caches, Filters, Stays};
use crate::error::Result;
use crate::store::outbox::{self, Told};
use crate::store::{BatchHooks, DelayedKey, KeyHooks, QueueHooks, Store};

/// Keys that Redis is told of at once.
const AT_ONCE: usize = 500;
/// When it is told again, in seconds after the time before.
const AGAIN_AFTER: [u64; 3] = [1, 4, 25];

/// Tells the caches.
#[derive(Clone)]
pub(super) struct CachesFollow(Arc<Inner>);

struct Inner {
    caches: Arc<Caches>,
    store: Arc<dyn Store>,
    filters: Arc<Filters>,
    gate: Arc<Gate>,
    /// Knows the last values of aggregated writes. Weak, as it holds this.
    batcher: OnceLock<WeakBatcher>,
    /// A service holds this: strong, the services of a forgotten engine would keep each other.
    services: Weak<Services>,
    /// That a row was put into the outbox.
    signal: Arc<Signal>,
    redis_timeout: Duration,
}

/// A key that was changed.
#[derive(Clone)]
struct Changed {
    key: Arc<str>,
    /// The delayed write that changed it: its value and later ones may stay.
    since: Option<u64>,
}

impl CachesFollow {
    pub(super) fn new(
        caches: Arc<Caches>,
        store: Arc<dyn Store>,
        filters: Arc<Filters>,
        gate: Arc<Gate>,
        services: &Arc<Services>,
        signal: Arc<Signal>,
        redis_timeout: Duration,
    ) -> CachesFollow {
        let (batcher, services) = (OnceLock::new(), Arc::downgrade(services));
        CachesFollow(Arc::new(Inner {
            caches,
            store,
            filters,
            gate,
            batcher,
            services,
            signal,
            redis_timeout,
        }))
    }

    /// Says who knows the last values.
    pub(super) fn ask(&self, batcher: WeakBatcher) {
        let _ = self.0.batcher.set(batcher);
    }

    /// Tells of keys that any process has changed. Where writes did that which commit later, what this process accepted last
    /// may stay.
    ///
    /// # Errors
    /// If Redis failed: it may not have been told of all of them. They are gone from this process's memory.
    pub(super) async fn tell_of(&self, told: Vec<Told>) -> Result<()> {
        let (accepted, plain): (Vec<Told>, Vec<Told>) = told.into_iter().partition(|it| it.accepted);
        let keys = |told: Vec<Told>| told.into_iter().flat_map(|it| it.keys).collect::<Vec<_>>();
        let mut done = Ok(());
        for chunk in keys(plain).chunks(AT_ONCE) {
            let caches = &self.0.caches;
            done = done.and(caches.drop_keys(caches.begin(chunk), self.0.deadline()).await);
        }
        let changed: Vec<Changed> =
            keys(accepted).into_iter().map(|key| Changed { key, since: None }).collect();
        for chunk in changed.chunks(AT_ONCE) {
            done = done.and(self.0.tell(chunk).await);
        }
        done
    }

    async fn follow(&self, keys: Vec<Changed>) {
        let failed = self.0.tell_all(&keys).await;
        if failed.is_empty() {
            return;
        }
        log::warn!("the caches could not follow a transaction; {} keys are dropped later", failed.len());
        match self.0.leave_to_all(&failed).await {
            Ok(()) => return,
            Err(error) => log::debug!("the outbox did not take them: {error}"),
        }
        if let Some(services) = self.0.services.upgrade() {
            let inner = Arc::downgrade(&self.0);
            services.start(move |stop| tell_again(inner, failed, stop));
        }
    }
}

impl Inner {
    /// Gives the keys of which Redis could not be told.
    async fn tell_all(&self, keys: &[Changed]) -> Vec<Changed> {
        let mut failed: Vec<Changed> = Vec::new();
        for chunk in keys.chunks(AT_ONCE) {
            // Once Redis has failed, the rest is left to the repetition: each would wait as long.
            let told = if failed.is_empty() { self.tell(chunk).await.is_ok() } else { false };
            if !told {
                failed.extend_from_slice(chunk);
            }
        }
        // This process's own memory at least has nothing older.
        drop(self.caches.begin(&keys_of(&failed)));
        failed
    }

    async fn tell(&self, changed: &[Changed]) -> Result<()> {
        let _alone = self.gate.write().await;
        let deadline = self.deadline();
        let last = self.last_values(&keys_of(changed));
        let (mut plain, mut unless) = (Vec::new(), Vec::new());
        for (Changed { key, since }, digest) in changed.iter().zip(last) {
            match since.map(Stays::Since).or(digest.map(Stays::Digest)) {
                Some(stays) => unless.push((key, stays)),
                None => plain.push(key),
            }
        }
        let dropped = self.caches.drop_keys(self.caches.begin(&plain), deadline).await;
        let unless = unless.into_iter().map(|(key, stays)| {
            let change = self.caches.begin(std::slice::from_ref(key));
            self.caches.drop_unless(change, stays, deadline)
        });
        join_all(unless).await.into_iter().fold(dropped, |all, one| all.and(one))
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.redis_timeout.saturating_mul(2))
    }

    /// Whoever reaches Redis drops them.
    async fn leave_to_all(&self, failed: &[Changed]) -> Result<()> {
        outbox::add(&*self.store, &keys_of(failed), true, self.deadline()).await?;
        self.signal.raise();
        Ok(())
    }

    fn last_values(&self, keys: &[Arc<str>]) -> Vec<Option<[u8; 20]>> {
        match self.batcher.get().and_then(WeakBatcher::upgrade) {
            Some(batcher) => batcher.last_values(keys),
            None => vec![None; keys.len()],
        }
    }
}

fn keys_of(changed: &[Changed]) -> Vec<Arc<str>> {
    changed.iter().map(|it| it.key.clone()).collect()
}

/// What was accepted meanwhile stays, as it would have.
async fn tell_again(inner: Weak<Inner>, mut keys: Vec<Changed>, mut stop: StopSignal) {
    for seconds in AGAIN_AFTER {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let failed = inner.tell_all(&keys).await;
        if failed.is_empty() || inner.leave_to_all(&failed).await.is_ok() {
            return;
        }
        keys = failed;
    }
    log::warn!(
        "Redis was not told that {} keys have changed: it may serve them until they expire",
        keys.len()
    );
}

#[async_trait]
impl KeyHooks for CachesFollow {
    async fn prepare(&self, keys: &[Arc<str>], deadline: Deadline) -> Result<()> {
        // The values that were accepted with it are cached by then: one that came after the COMMIT could hide what another
        // process has written since. Here, where no row is locked yet.
        drop(deadline.run("waiting for values to be cached", self.0.gate.write()).await?);
        self.0.filters.prepare(keys, deadline).await
    }

    async fn before_commit(&self, keys: &[Arc<str>], deadline: Deadline) -> Result<()> {
        self.0.filters.admit(keys, deadline).await
    }
}

#[async_trait]
impl BatchHooks for CachesFollow {
    async fn committed(&self, keys: Vec<Arc<str>>) {
        self.follow(keys.into_iter().map(|key| Changed { key, since: None }).collect()).await;
    }
}

#[async_trait]
impl QueueHooks for CachesFollow {
    async fn committed(&self, keys: Vec<DelayedKey>) {
        let changed = keys.into_iter().map(|DelayedKey { key, sequence }| Changed { key, since: sequence });
        self.follow(changed.collect()).await;
    }

    fn seen(&self, keys: &[Arc<str>]) {
        drop(self.0.caches.begin(keys));
    }
}
