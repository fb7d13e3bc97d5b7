//! What a COMMIT that comes later does to the caches, be it of a batch or of delayed writes: each of its keys is covered
//! before it and dropped after it, unless the caches hold the value of the last accepted write on it. What Redis could not be
//! told is told again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::order::FENCE_GUARD;
use super::signal::Signal;
use crate::base::Deadline;
use crate::base::service::{Services, StopSignal};
use crate::batch::{Gate, WeakBatcher};
use crate::cache::{Caches, Covered, Filters, Stays};
use crate::error::Result;
use crate::store::outbox::{Outbox, Told};
use crate::store::{ChangedKey, Cover, KeyHooks};

/// Keys that Redis is told of at once.
const AT_ONCE: usize = 500;
/// The longest that a transaction, with its locks, waits for its keys to be covered.
const LONGEST_COVERING: Duration = Duration::from_secs(2);
/// The longest that a COMMIT is covered for: of one that takes longer the caches hear when it is over.
const LONGEST_COMMIT: Duration = Duration::from_secs(10);
/// When it is told again, in seconds after the time before.
const AGAIN_AFTER: [u64; 3] = [1, 4, 25];

/// Tells the caches.
#[derive(Clone)]
pub(super) struct CachesFollow(Arc<Inner>);

struct Inner {
    caches: Arc<Caches>,
    outbox: Arc<Outbox>,
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

/// The keys of one transaction that is about to commit, and what keeps old values out of them.
struct CoveredKeys {
    follower: CachesFollow,
    keys: Vec<ChangedKey>,
    covered: Covered,
}

impl CachesFollow {
    pub(super) fn new(
        caches: Arc<Caches>,
        outbox: Arc<Outbox>,
        filters: Arc<Filters>,
        gate: Arc<Gate>,
        services: &Arc<Services>,
        signal: Arc<Signal>,
        redis_timeout: Duration,
    ) -> CachesFollow {
        let (batcher, services) = (OnceLock::new(), Arc::downgrade(services));
        CachesFollow(Arc::new(Inner {
            caches,
            outbox,
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
        let changed: Vec<ChangedKey> = keys(accepted).into_iter().map(ChangedKey::from).collect();
        for chunk in changed.chunks(AT_ONCE) {
            done = done.and(self.0.tell(chunk, None).await);
        }
        done
    }

    async fn follow(&self, keys: &[ChangedKey], covered: Option<&Covered>) {
        let failed = self.0.tell_all(keys, covered).await;
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
    async fn tell_all(&self, keys: &[ChangedKey], covered: Option<&Covered>) -> Vec<ChangedKey> {
        let mut failed: Vec<ChangedKey> = Vec::new();
        for chunk in keys.chunks(AT_ONCE) {
            // Once Redis has failed, the rest is left to the repetition: each would wait as long.
            let told = if failed.is_empty() { self.tell(chunk, covered).await.is_ok() } else { false };
            if !told {
                failed.extend_from_slice(chunk);
            }
        }
        // This process's own memory at least has nothing older.
        drop(self.caches.begin(&keys_of(&failed)));
        failed
    }

    async fn tell(&self, changed: &[ChangedKey], covered: Option<&Covered>) -> Result<()> {
        let (stays, _alone) = self.what_stays(changed).await;
        let deadline = self.deadline();
        let plain = |stays: &Stays| covered.is_none() && matches!(stays, Stays::Nothing);
        let (plain, unless): (Vec<_>, Vec<_>) = stays.into_iter().partition(|(_, stays)| plain(stays));
        let plain: Vec<Arc<str>> = plain.into_iter().map(|(key, _)| key).collect();
        let dropped = self.caches.drop_keys(self.caches.begin(&plain), deadline).await;
        let unless = unless.into_iter().map(|(key, stays)| {
            let change = self.caches.begin(&[key]);
            self.caches.drop_unless(change, stays, covered, deadline)
        });
        join_all(unless).await.into_iter().fold(dropped, |all, one| all.and(one))
    }

    /// What may stay under each key, as long as the guard is held.
    async fn what_stays(
        &self,
        changed: &[ChangedKey],
    ) -> (Vec<(Arc<str>, Stays)>, Option<impl Sized + use<'_>>) {
        // Of delayed writes Redis has the numbers.
        let asks = changed.iter().any(|it| it.since.is_none());
        let alone = if asks { Some(self.gate.write().await) } else { None };
        let last = if asks { self.last_values(&keys_of(changed)) } else { vec![None; changed.len()] };
        let stays = changed.iter().zip(last).map(|(ChangedKey { key, since }, digest)| {
            let stays = since.map(Stays::Since).or(digest.map(Stays::Digest));
            (key.clone(), stays.unwrap_or(Stays::Nothing))
        });
        (stays.collect(), alone)
    }

    /// For a transaction whose COMMIT is sent next, and not after the deadline.
    async fn cover(&self, keys: &[ChangedKey], deadline: Deadline) -> Covered {
        let (mut covered, life) =
            (self.caches.new_cover(), deadline.remaining().min(LONGEST_COMMIT) + FENCE_GUARD);
        // Rows are locked meanwhile: where Redis is slow the COMMIT goes ahead without.
        let patience = self.redis_timeout.min(LONGEST_COVERING).min(deadline.remaining() / 2);
        let within = Deadline::after(patience);
        let mut reached = true;
        for chunk in keys.chunks(AT_ONCE) {
            if reached {
                let covering = async {
                    let (stays, _alone) = self.what_stays(chunk).await;
                    self.caches.cover(&mut covered, &stays, life, within).await
                };
                if let Err(error) = within.run("covering keys", covering).await.flatten() {
                    log::debug!("a transaction commits with keys that are not covered: {error}");
                    reached = false;
                }
            }
            if !reached {
                chunk.iter().for_each(|it| self.caches.cover_here(&mut covered, &it.key));
            }
        }
        covered
    }

    /// The transaction certainly left nothing: what was there before is there again.
    async fn call_off(&self, covered: Covered) {
        for chunk in covered.keys().chunks(AT_ONCE) {
            if self.caches.lift_all(covered.token(), chunk, self.deadline()).await.is_err() {
                return;
            }
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.redis_timeout.saturating_mul(2))
    }

    /// Whoever reaches Redis drops them.
    async fn leave_to_all(&self, failed: &[ChangedKey]) -> Result<()> {
        self.outbox.add(&keys_of(failed), true).await?;
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

fn keys_of(changed: &[ChangedKey]) -> Vec<Arc<str>> {
    changed.iter().map(|it| it.key.clone()).collect()
}

/// What was accepted meanwhile stays, as it would have.
async fn tell_again(inner: Weak<Inner>, mut keys: Vec<ChangedKey>, mut stop: StopSignal) {
    for seconds in AGAIN_AFTER {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let failed = inner.tell_all(&keys, None).await;
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

    async fn cover(&self, keys: Vec<ChangedKey>, deadline: Deadline) -> Box<dyn Cover> {
        let keys = each_once(keys);
        let covered = self.0.cover(&keys, deadline).await;
        Box::new(CoveredKeys { follower: self.clone(), keys, covered })
    }

    async fn committed(&self, keys: Vec<ChangedKey>) {
        self.follow(&keys, None).await;
    }

    fn seen(&self, keys: &[Arc<str>]) {
        drop(self.0.caches.begin(keys));
    }
}

#[async_trait]
impl Cover for CoveredKeys {
    async fn committed(self: Box<Self>) {
        self.follower.follow(&self.keys, Some(&self.covered)).await;
    }

    async fn called_off(self: Box<Self>) {
        let CoveredKeys { follower, covered, .. } = *self;
        follower.0.call_off(covered).await;
    }
}

/// A cover has a key once. What may stay of it by one write and not by another may not.
fn each_once(keys: Vec<ChangedKey>) -> Vec<ChangedKey> {
    let mut at: HashMap<Arc<str>, usize> = HashMap::with_capacity(keys.len());
    let mut once: Vec<ChangedKey> = Vec::with_capacity(keys.len());
    for key in keys {
        match at.entry(key.key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(once.len());
                once.push(key);
            }
            Entry::Occupied(known) => {
                let known = &mut once[*known.get()];
                known.since = known.since.zip(key.since).map(|(one, other)| one.max(other));
            }
        }
    }
    once
}
