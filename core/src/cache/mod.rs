//! The caches: process memory (L1), Redis (L2), and what loads when both miss.
//!
//! May use `redis`, `sql` (a source's template), `value`, `config`, `base`, `telemetry`, `error`. It knows no store: the
//! engine runs the source's query and hands the result to [`Caches::fill`]. moka is known to `l1` only; the redis crate
//! to nobody here.
//!
//! A read, as the engine plays it:
//! ```text
//! peek ─ hit ─▶ done
//!   └ miss ─▶ loader.begin ─ somebody loads ─▶ wait
//!                  └ mine ─▶ get_shared ─ hit ─▶ complete
//!                                 └ Miss{epoch} ─▶ source ─▶ fill(miss) ─▶ complete
//! ```
//! Invariants:
//! - Nothing that was read before a write of its key was acknowledged is put into L1 after it: the stripe's epoch is
//!   taken before the read and checked, under the stripe's lock, at the insert.
//! - A read never replaces what a writer put: fills are conditional in L2, gated in L1.
//! - Of two transactions that wrote or dropped one key the later one's outcome stays, in either tier, in whatever order
//!   they arrive: in L2 a drop leaves a short-lived entry with its version, which a read after it may fill (ADR 0005); in
//!   L1 a transaction's change is known to be under way from before its COMMIT on.
//! - L2 entries belong to one database; those of another one are misses, as their versions say nothing here.
//! - A copy of an L1 entry nearer to the reader counts only while nothing in its stripe of L1 was changed.
//! - An entry stays in L1 no longer than what is left of its life, and never longer than `l1_ttl`.
//! - A read that begins after an acknowledged write never joins a load that began before it.
//! - Of two overlapping changes of a key, neither leaves a value in L1: nobody knows which one reached L2 last.
//! - A write or drop whose caller goes away half-way leaves nothing old in L1.
//! - Redis' content is untrusted input: what does not check out is a miss.

mod bloom;
mod epochs;
mod front;
mod generation;
mod header;
mod l1;
mod l2;
mod life;
mod loader;
mod rows;
mod settle;
mod source;
#[cfg(test)]
mod tests;

pub use bloom::BloomFigures;
pub(crate) use bloom::{Filters, Wanted};
pub(crate) use epochs::Epoch;
pub(crate) use l1::L1Stats;
pub(crate) use life::LifeRules;
pub(crate) use loader::{FlightGuard, Loaded, Loader, Waiter};
pub(crate) use rows::first_row_bytes;
pub(crate) use settle::Settle;
pub(crate) use source::{Match, Source, SourceLife, SourceTable};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Clock, Deadline};
use crate::cache::epochs::Epochs;
use crate::cache::l1::L1;
use crate::cache::l2::{Answer, Found, L2, Seen};
pub(crate) use crate::cache::l2::{Stamp, Stays};
use crate::config::Ttl;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;
use crate::telemetry::Counters;

/// Failures of L2 are logged once in this time; the counter has them all.
const LOG_EVERY_MS: u64 = 10_000;

/// What the caches are made of.
#[derive(Debug, Clone)]
pub(crate) struct CacheSettings {
    /// Prefix of every Redis key.
    pub(crate) namespace: String,
    /// Bytes held by L1, keys and overhead counted.
    pub(crate) l1_max_cost: u64,
    /// How long entries live.
    pub(crate) life: LifeRules,
}

/// The tiers as one.
pub(crate) struct Caches {
    l1: L1,
    l2: Option<L2>,
    epochs: Arc<Epochs>,
    loader: Loader,
    life: LifeRules,
    clock: Clock,
    counters: Arc<Counters>,
    logged_ms: AtomicU64,
}

/// What a read of the tiers gave.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    /// A value, or `None` for a known absence.
    Hit(Option<Bytes>),
    /// Neither tier knows.
    Miss(Miss),
}

/// What to know about a miss in order to fill it.
#[derive(Debug, Clone)]
pub(crate) struct Miss {
    /// The epoch of the key's stripe before L2 was read.
    pub(crate) epoch: Epoch,
    /// Why L2 could not be asked, if that is why: the key may have a value there.
    pub(crate) error: Option<Error>,
    /// What L2 had that a fill may replace.
    seen: Option<Seen>,
}

/// What [`Caches::drop_unless`] knows a value by: its SHA-1. Not for secrets.
pub(crate) fn digest(data: &[u8]) -> [u8; 20] {
    sha1_smol::Sha1::from(data).digest().bytes()
}

impl Caches {
    /// Empty L1 over a Redis, or alone. Nothing is sent yet.
    pub(crate) fn new(
        settings: CacheSettings,
        redis: Option<Redis>,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> Caches {
        let epochs = Arc::new(Epochs::new());
        let l2 = redis.map(|redis| L2::new(redis, &settings.namespace, clock.clone(), counters.clone()));
        Caches {
            l1: L1::new(settings.l1_max_cost, epochs.clone(), clock.clone(), counters.clone()),
            l2,
            epochs,
            loader: Loader::new(counters.clone()),
            life: settings.life,
            clock,
            counters,
            logged_ms: AtomicU64::new(0),
        }
    }

    /// Says which database the entries of L2 belong to. Until then L2 is as if it were away.
    pub(crate) fn belong_to(&self, database: &str) {
        if let Some(l2) = &self.l2 {
            l2.belongs_to(database);
        }
    }

    /// The flights of this process. Writes and drops detach those of their keys.
    pub(crate) fn loader(&self) -> &Loader {
        &self.loader
    }

    /// What L1 holds.
    pub(crate) fn l1_stats(&self) -> L1Stats {
        self.l1.stats()
    }

    /// A round trip to Redis; `None` without L2.
    pub(crate) async fn ping(&self, deadline: Deadline) -> Option<Result<Duration>> {
        Some(self.l2.as_ref()?.ping(deadline).await)
    }

    /// What L1 has: `Some(Some(_))` a value, `Some(None)` a known absence. No I/O.
    pub(crate) fn peek(&self, key: &str) -> Option<Option<Bytes>> {
        let data = self.l1.get(key)?;
        self.counters.l1_hits.inc();
        if data.is_none() {
            self.counters.absent_hits.inc();
        }
        Some(data)
    }

    /// L1, then L2.
    #[cfg(test)]
    pub(crate) async fn get(&self, key: &Arc<str>, deadline: Deadline) -> Lookup {
        match self.peek(key) {
            Some(data) => Lookup::Hit(data),
            None => self.get_shared(key, deadline).await,
        }
    }

    /// L2 alone, for who has looked into L1 already. A hit enters L1.
    pub(crate) async fn get_shared(&self, key: &Arc<str>, deadline: Deadline) -> Lookup {
        let epoch = self.epochs.epoch(key);
        let found = match &self.l2 {
            Some(l2) => l2.get(key, deadline).await,
            None => Ok(Answer::Nothing(None)),
        };
        match found {
            Ok(answer) => self.take_in(key, answer, epoch),
            Err(error) => {
                self.note_failure(&error);
                self.miss(epoch, Some(error), None)
            }
        }
    }

    /// L1, then one MGET for what is missing there; one result per key, in order.
    #[cfg(test)]
    pub(crate) async fn get_many(&self, keys: &[Arc<str>], deadline: Deadline) -> Vec<Lookup> {
        let mut all: Vec<Option<Lookup>> = keys.iter().map(|key| self.peek(key).map(Lookup::Hit)).collect();
        let missing: Vec<Arc<str>> =
            keys.iter().zip(&all).filter(|(_, found)| found.is_none()).map(|(key, _)| key.clone()).collect();
        let mut shared = self.get_many_shared(&missing, deadline).await.into_iter();
        for slot in all.iter_mut().filter(|slot| slot.is_none()) {
            *slot = shared.next();
        }
        all.into_iter().flatten().collect()
    }

    /// L2 alone for many keys: one MGET; one result per key, in order.
    pub(crate) async fn get_many_shared(&self, keys: &[Arc<str>], deadline: Deadline) -> Vec<Lookup> {
        let epochs: Vec<Epoch> = keys.iter().map(|key| self.epochs.epoch(key)).collect();
        let found = match &self.l2 {
            Some(l2) if !keys.is_empty() => l2.get_many(keys, deadline).await,
            _ => Ok(vec![Answer::Nothing(None); keys.len()]),
        };
        match found {
            Ok(found) => {
                let each = keys.iter().zip(found).zip(epochs);
                each.map(|((key, answer), epoch)| self.take_in(key, answer, epoch)).collect()
            }
            Err(error) => {
                self.note_failure(&error);
                epochs.into_iter().map(|epoch| self.miss(epoch, Some(error.clone()), None)).collect()
            }
        }
    }

    /// A change of keys begins that [`Caches::write`] or [`Caches::drop_keys`] will end: for a transaction before its
    /// COMMIT, so that the later one of two that overlap cannot go unseen by the earlier.
    pub(crate) fn begin<K: AsRef<str>>(&self, keys: &[K]) -> Settle {
        let keys = keys.iter().map(|key| key.as_ref().into()).collect();
        Settle::begin(&self.l1, &self.loader, keys)
    }

    /// Puts a value that was just written under the change's one key into both tiers; if that of a later write, or a later
    /// drop, is there, it is left out. `ttl: None` is `default_ttl`.
    ///
    /// # Errors
    /// If L2 failed. The key is gone from L1 then; L2 may or may not have the value.
    pub(crate) async fn write(
        &self,
        change: Settle,
        data: Bytes,
        ttl: Option<Ttl>,
        stamp: Stamp,
        deadline: Deadline,
    ) -> Result<()> {
        self.counters.cache_writes.inc();
        let life = self.life.of_value(ttl);
        let [key] = change.keys() else { return Err(Error::new(ErrorKind::Internal, "a write of one key")) };
        let stored = match &self.l2 {
            Some(l2) => l2.set(key, data.clone(), life, stamp, deadline).await,
            None => Ok(true),
        };
        // Of an accepted value no transaction is known.
        let version = if let Stamp::Version(version) = stamp { version } else { 0 };
        match stored {
            Ok(true) => change.commit(data, version, self.life.in_l1(life)),
            // A later one's outcome is there: what L1 has may be neither.
            Ok(false) => drop(change),
            Err(error) => {
                drop(change);
                self.note_failure(&error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Keeps what a source gave, where nobody has written meanwhile. Never fails: the reader has its value.
    ///
    /// Run it to its end even if the reader goes away; see [`Loader::load`].
    pub(crate) async fn fill(
        &self,
        key: &Arc<str>,
        data: Option<Bytes>,
        life: SourceLife,
        miss: &Miss,
        deadline: Deadline,
    ) {
        if !self.epochs.is_current(miss.epoch) {
            self.counters.l1_refused.inc();
            return;
        }
        let life = match data {
            Some(_) => self.life.of_value(life.ttl),
            None => Some(self.life.of_absence(life.absent_ttl)),
        };
        // A tier that just failed is not asked again.
        let l2 = self.l2.as_ref().filter(|_| miss.error.is_none());
        if let Some(l2) = l2
            && !self.fill_shared(l2, key, data.clone(), life, miss, deadline).await
        {
            return;
        }
        let version = l2.map_or(0, |l2| l2.version_after(miss.seen.as_ref()));
        self.keep(key, data, version, life, miss.epoch);
        self.counters.cache_fills.inc();
    }

    /// Drops the change's keys from both tiers. `version` is that of the transaction that changed them, whose older ones
    /// then put nothing back; 0 if there was none.
    ///
    /// # Errors
    /// If L2 failed: it may still have them. They are gone from L1.
    pub(crate) async fn drop_keys(&self, change: Settle, version: u64, deadline: Deadline) -> Result<()> {
        let keys = change.keys();
        if keys.is_empty() {
            return Ok(());
        }
        self.counters.cache_drops.add(keys.len() as u64);
        // Gone from L1 at once, and again when the change ends, as a read in between may have found it in L2.
        keys.iter().for_each(|key| self.l1.remove(key));
        let Some(l2) = &self.l2 else { return Ok(()) };
        let dropped = match version {
            0 => l2.delete(keys, deadline).await.map(|_| ()),
            _ => l2.drop_at(keys, version, deadline).await,
        };
        dropped.inspect_err(|error| self.note_failure(error))
    }

    /// Drops the change's one key from both tiers, unless L2 holds what may stay; without L2, unless L1 does.
    ///
    /// # Errors
    /// If L2 failed: it may still have it. It is gone from L1.
    pub(crate) async fn drop_unless(
        &self,
        change: Settle,
        stays: Stays,
        version: u64,
        deadline: Deadline,
    ) -> Result<()> {
        let [key] = change.keys() else { return Err(Error::new(ErrorKind::Internal, "a drop of one key")) };
        let stays = match &self.l2 {
            Some(l2) => l2.drop_unless(key, stays, version, deadline).await,
            None => Ok(match stays {
                Stays::Digest(kept) => self.l1.get(key).flatten().is_some_and(|data| digest(&data) == kept),
                // Nobody else's memory says which one it has.
                Stays::Since(_) => false,
            }),
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

    /// Empties L1.
    #[cfg(test)]
    pub(crate) fn clear_l1(&self) {
        self.l1.clear();
    }

    /// Says whether L1 may keep the value too.
    async fn fill_shared(
        &self,
        l2: &L2,
        key: &Arc<str>,
        data: Option<Bytes>,
        life: Option<Duration>,
        miss: &Miss,
        deadline: Deadline,
    ) -> bool {
        let prepared = l2.prepare_fill(key, data, life, miss.seen.clone(), deadline).await;
        let sent = match prepared {
            // Looked at again after all that was waited for, as close before the fill as can be.
            Ok(Some(_)) if !self.epochs.is_current(miss.epoch) => {
                self.counters.l1_refused.inc();
                return false;
            }
            Ok(Some(fill)) => l2.fill(fill, deadline).await,
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        match sent {
            // Somebody else's value may be a newer one.
            Ok(false) => false,
            Ok(true) if self.epochs.is_current(miss.epoch) => true,
            Ok(true) => {
                // Written or dropped on the way: the fill may have come after it, with what was true before it.
                self.counters.l1_refused.inc();
                let change = self.begin(std::slice::from_ref(key));
                if let Err(error) = l2.delete(change.keys(), deadline).await {
                    self.note_failure(&error);
                }
                false
            }
            Err(error) => {
                self.note_failure(&error);
                true
            }
        }
    }

    fn take_in(&self, key: &Arc<str>, answer: Answer, epoch: Epoch) -> Lookup {
        let Found { data, version, life } = match answer {
            Answer::Found(found) => found,
            Answer::Nothing(seen) => return self.miss(epoch, None, seen),
        };
        self.counters.l2_hits.inc();
        if data.is_none() {
            self.counters.absent_hits.inc();
        }
        self.keep(key, data.clone(), version, life, epoch);
        Lookup::Hit(data)
    }

    fn keep(&self, key: &Arc<str>, data: Option<Bytes>, version: u64, life: Option<Duration>, seen: Epoch) {
        if !self.l1.insert_gated(key, data, version, self.life.in_l1(life), seen) {
            self.counters.l1_refused.inc();
        }
    }

    fn miss(&self, epoch: Epoch, error: Option<Error>, seen: Option<Seen>) -> Lookup {
        self.counters.misses.inc();
        Lookup::Miss(Miss { epoch, error, seen })
    }

    fn note_failure(&self, error: &Error) {
        self.counters.l2_errors.inc();
        let now = self.clock.mono_ms();
        let logged = self.logged_ms.load(Ordering::Relaxed);
        let due = logged == 0 || now.saturating_sub(logged) >= LOG_EVERY_MS;
        if due && self.logged_ms.compare_exchange(logged, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            log::warn!("the Redis cache failed, going on without it: {error}");
        }
    }
}
