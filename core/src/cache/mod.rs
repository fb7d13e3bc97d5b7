//! The caches: process memory (L1), Redis (L2), and what loads when both miss.
//!
//! May use `redis`, `sql` (a source's template), `value`, `config`, `base`, `telemetry`, `error`. It knows no store: the
//! engine runs the source's query and hands the result to [`Caches::fill`]. moka is known to `l1` only; the redis crate
//! to nobody here.
//!
//! A read, as the engine plays it:
//! ```text
//! peek ─ hit ─▶ done
//!   └ miss ─▶ loader.begin ─ this process loads ─▶ wait
//!                  └ mine ─▶ get_shared ─ hit ─▶ complete
//!                                 └ miss ─▶ admit ─ another process loaded ─▶ complete
//!                                             └ Miss{epoch, lease} ─▶ source ─▶ fill(miss) ─▶ complete
//! ```
//! Invariants:
//! - Nothing that was read before a write of its key was acknowledged is put into L1 after it: the stripe's epoch is
//!   taken before the read and checked, under the stripe's lock, at the insert. Other processes' writes move it too.
//! - A read fills L2 under a lease only, which ends with anything that happens to the key.
//! - A transaction fences its keys in L2 before its COMMIT. It leaves its value only if nothing else happened to the key
//!   meanwhile; a writer that goes away leaves nothing once its fence ends, whatever became of its transaction (ADR 0011).
//! - Neither tier is read while this process does not hear what the others change (`bus`).
//! - L2 entries belong to one database; those of another one are misses, as its rows are others.
//! - A copy of an L1 entry nearer to the reader counts only while nothing in its stripe of L1 was changed.
//! - An entry stays in L1 no longer than what is left of its life, and never longer than `l1_ttl`.
//! - A read that begins after an acknowledged write never joins a load that began before it.
//! - A reader that asked the source and may keep nothing leaves nothing older in L1 either: it may have what comes next.
//! - Of two overlapping changes of a key, neither leaves a value in L1: nobody knows which one reached L2 last.
//! - A tagged entry is read while the versions of its tags are those from before it was written (`tags`).
//! - A write or drop whose caller goes away half-way leaves nothing old in L1.
//! - Redis' content is untrusted input: what does not check out is a miss.

mod admit;
mod answer;
mod bloom;
mod bus;
mod epochs;
mod fence;
mod front;
mod generation;
mod header;
mod l1;
mod l2;
mod left_alone;
mod life;
mod loader;
mod lock;
mod rows;
mod scripts;
mod settle;
mod source;
mod stale;
mod tagged;
mod tags;
#[cfg(test)]
mod tests;
mod toolbox;
mod trust;
mod value;

pub use bloom::BloomFigures;
pub(crate) use bloom::{Filters, Wanted};
pub(crate) use epochs::Epoch;
pub(crate) use fence::Fence;
pub(crate) use l1::L1Stats;
pub(crate) use life::LifeRules;
pub(crate) use loader::{FlightGuard, Loaded, Loader, Waiter, Whose};
pub(crate) use lock::{Holder, Taken};
pub(crate) use rows::first_row_bytes;
pub(crate) use settle::Settle;
pub(crate) use source::{Match, Source, SourceLife, SourceTable};
pub(crate) use tagged::MOST_TAGS;
pub(crate) use tags::TagSet;
pub use toolbox::Left;
pub(crate) use value::NewValue;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::base::breaker::{Breaker, BreakerState};
use crate::base::service::Services;
use crate::base::{Clock, Deadline};
use crate::cache::admit::Permit;
use crate::cache::answer::{Answer, Found};
use crate::cache::bus::{Address, BeforeListening, Bus, BusParts};
use crate::cache::epochs::Epochs;
use crate::cache::generation::Generation;
use crate::cache::l1::L1;
pub(crate) use crate::cache::l2::Stays;
use crate::cache::l2::{L2, L2Parts};
use crate::cache::left_alone::LeftAlone;
use crate::cache::life::{Life, Stay};
use crate::cache::lock::Locks;
use crate::cache::tags::{Marks, Tags};
use crate::cache::trust::Trust;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Keyspace, Redis};
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
    /// How long a value that another process has overwritten may be served at the most.
    pub(crate) coherence_bound: Duration,
    /// How long a read waits for another process that loads the same key.
    pub(crate) lease_wait: Duration,
    /// Time to subscribe to the bus.
    pub(crate) connect_timeout: Duration,
}

/// The tiers as one.
pub(crate) struct Caches {
    l1: L1,
    l2: Option<L2>,
    /// None without L2: nobody else is heard then.
    bus: Option<Arc<Bus>>,
    left_alone: Arc<LeftAlone>,
    relay: OnceLock<BeforeListening>,
    epochs: Arc<Epochs>,
    tags: Arc<Tags>,
    /// None without L2.
    locks: Option<Locks>,
    loader: Loader,
    sources: Arc<SourceTable>,
    life: LifeRules,
    /// Held by a verb that looks and then changes, where there is no L2 to do both at once.
    alone: Mutex<()>,
    lease_wait: Duration,
    clock: Clock,
    counters: Arc<Counters>,
    logged_ms: AtomicU64,
}

/// What a read of the tiers gave.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    /// A value, or `None` for a known absence.
    Hit(Option<Bytes>),
    /// The same, and whoever can should load it anew: it ends soon.
    Ahead(Option<Bytes>, Miss),
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
    /// What may be done with what a source gives.
    permit: Permit,
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
        breaker: Breaker,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> Caches {
        let epochs = Arc::new(Epochs::new());
        let trust = Arc::new(if redis.is_some() { Trust::none() } else { Trust::always() });
        let l1 =
            L1::new(settings.l1_max_cost, epochs.clone(), trust.clone(), clock.clone(), counters.clone());
        let loader = Loader::new(counters.clone());
        let address = Arc::new(Address::new(Keyspace::new(&settings.namespace).engine("bus")));
        let space = Keyspace::new(&settings.namespace).engine("generation");
        let left_alone = Arc::new(LeftAlone::new(breaker, counters.clone()));
        let tags = Arc::new(Tags::new(redis.clone(), &settings.namespace));
        let of_redis = |redis| {
            let generation = Arc::new(Generation::new(Redis::clone(&redis), clock.clone(), space));
            let bus = Arc::new(Bus::new(BusParts {
                redis: redis.clone(),
                address: address.clone(),
                generation: generation.clone(),
                l1: l1.clone(),
                loader: loader.clone(),
                tags: tags.clone(),
                trust,
                clock: clock.clone(),
                counters: counters.clone(),
                bound: settings.coherence_bound,
                connect_timeout: settings.connect_timeout,
            }));
            let l2 = L2::new(L2Parts {
                redis,
                namespace: &settings.namespace,
                address: address.clone(),
                generation,
                left_alone: left_alone.clone(),
                tags: tags.clone(),
                clock: clock.clone(),
                counters: counters.clone(),
            });
            (l2, bus)
        };
        let (l2, bus): (_, Option<Arc<Bus>>) = redis.clone().map(of_redis).unzip();
        let locks = redis.zip(bus.clone());
        let locks = locks.map(|(redis, bus)| Locks::new(redis, &settings.namespace, address, bus));
        Caches {
            l1,
            l2,
            bus,
            left_alone,
            relay: OnceLock::new(),
            epochs,
            tags,
            locks,
            loader,
            sources: Arc::default(),
            life: settings.life,
            alone: Mutex::new(()),
            lease_wait: settings.lease_wait,
            clock,
            counters,
            logged_ms: AtomicU64::new(0),
        }
    }

    /// The locks, if there is an L2.
    pub(crate) fn locks(&self) -> Option<&Locks> {
        self.locks.as_ref()
    }

    /// Whether there is an L2.
    pub(crate) fn has_shared(&self) -> bool {
        self.l2.is_some()
    }

    /// Says what has to be done each time before this process trusts what it hears from then on.
    pub(crate) fn before_listening(&self, hook: BeforeListening) {
        let _ = self.relay.set(hook.clone());
        if let Some(bus) = &self.bus {
            bus.before_listening(hook);
        }
    }

    /// Begins to listen to the other processes.
    pub(crate) fn start(&self, services: &Services) {
        if let Some(bus) = &self.bus {
            let bus = bus.clone();
            services.start(move |stop| bus.run(stop));
        }
        if let Some(l2) = &self.l2 {
            let (left_alone, redis, relay) = (self.left_alone.clone(), l2.redis(), self.relay.get().cloned());
            services.start(move |stop| left_alone.watch(redis, relay, stop));
        }
    }

    /// Whether Redis is asked.
    pub(crate) fn breaker(&self) -> BreakerState {
        self.left_alone.state()
    }

    /// Waits until the other processes are heard.
    ///
    /// # Errors
    /// Why they are not.
    pub(crate) async fn joined(&self, deadline: Deadline) -> Result<()> {
        match &self.bus {
            Some(bus) => bus.joined(deadline).await,
            None => Ok(()),
        }
    }

    /// Whether the caches may be read: the other processes are heard, or there are none.
    pub(crate) fn is_coherent(&self) -> bool {
        self.bus.as_ref().is_none_or(|bus| bus.is_heard())
    }

    /// The time in which a message on the bus comes back that this part of them did not exceed.
    pub(crate) fn bus_lag(&self, part: f64) -> Duration {
        self.bus.as_ref().map_or(Duration::ZERO, |bus| bus.lag.quantile(part))
    }

    /// Says which database the entries of L2 belong to. Until then L2 is as if it were away.
    pub(crate) fn belong_to(&self, database: &str) {
        if let Some((l2, bus)) = self.l2.as_ref().zip(self.bus.as_ref()) {
            l2.belongs_to(database);
            bus.belongs_to(database);
        }
    }

    /// Where key families are read from.
    pub(crate) fn sources(&self) -> Arc<SourceTable> {
        self.sources.clone()
    }

    /// The flights of this process. Writes and drops detach those of their keys.
    pub(crate) fn loader(&self) -> &Loader {
        &self.loader
    }

    /// What L1 holds.
    pub(crate) fn l1_stats(&self) -> L1Stats {
        self.l1.stats()
    }

    /// A round trip to Redis, where the other processes are heard; `None` without L2.
    pub(crate) async fn ping(&self, deadline: Deadline) -> Option<Result<Duration>> {
        let answer = self.l2.as_ref()?.ping(deadline).await;
        Some(answer.and_then(|took| if self.is_coherent() { Ok(took) } else { Err(deaf()) }))
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
        let lookup = match &self.l2 {
            Some(l2) => self.look(l2, key, deadline).await,
            None => self.look_in_memory(key),
        };
        self.count(&lookup);
        lookup
    }

    async fn look(&self, l2: &L2, key: &Arc<str>, deadline: Deadline) -> Lookup {
        let epoch = self.epochs.epoch(key);
        match self.while_coherent(l2.get(key, deadline)).await {
            Ok(answer) => self.take_in(key, answer, epoch),
            Err(error) => self.failed(epoch, error),
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
        let lookups: Vec<Lookup> = match self.l2.as_ref().filter(|_| !keys.is_empty()) {
            Some(l2) => match self.while_coherent(l2.get_many(keys, deadline)).await {
                Ok(found) => {
                    let each = keys.iter().zip(found).zip(epochs);
                    each.map(|((key, answer), epoch)| self.take_in(key, answer, epoch)).collect()
                }
                Err(error) => epochs.into_iter().map(|epoch| self.failed(epoch, error.clone())).collect(),
            },
            None => keys.iter().map(|key| self.look_in_memory(key)).collect(),
        };
        lookups.iter().for_each(|lookup| self.count(lookup));
        lookups
    }

    fn count(&self, lookup: &Lookup) {
        if matches!(lookup, Lookup::Miss(_)) {
            self.counters.misses.inc();
        }
    }

    /// A read of L2, which says nothing while the other processes are not heard.
    async fn while_coherent<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let heard = || self.bus.as_ref().and_then(|bus| bus.heard());
        let before = heard().ok_or_else(deaf)?;
        let found = read.await?;
        if heard() == Some(before) { Ok(found) } else { Err(deaf()) }
    }

    /// A change of keys begins that one of the following will end: for a transaction before its
    /// COMMIT, so that the later one of two that overlap cannot go unseen by the earlier.
    pub(crate) fn begin<K: AsRef<str>>(&self, keys: &[K]) -> Settle {
        let keys = keys.iter().map(|key| key.as_ref().into()).collect();
        Settle::begin(&self.l1, &self.loader, keys)
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
    fn follow(&self, change: Settle, value: NewValue, life: Life, stored: Result<bool>) -> Result<()> {
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

    /// Drops the change's one key from both tiers, unless L2 holds what may stay; without L2, unless L1 does.
    ///
    /// # Errors
    /// If L2 failed: it may still have it. It is gone from L1.
    pub(crate) async fn drop_unless(&self, change: Settle, stays: Stays, deadline: Deadline) -> Result<()> {
        let key = change.key()?;
        let stays = match &self.l2 {
            Some(l2) => l2.drop_unless(key, stays, deadline).await,
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

    /// Lets L2 be read although nobody listens, for tests of one process.
    #[cfg(test)]
    pub(crate) fn trust_forever(&self) {
        self.bus.iter().for_each(|bus| bus.trust_forever());
    }

    fn take_in(&self, key: &Arc<str>, answer: Answer, epoch: Epoch) -> Lookup {
        let Found { data, life, span, seen, marks } = match answer {
            Answer::Found(found) => found,
            Answer::Nothing(seen) => return miss(epoch, Permit::Ask(seen)),
            Answer::Busy => return miss(epoch, Permit::Wait),
            Answer::Closed => return miss(epoch, Permit::Nothing),
        };
        self.counters.l2_hits.inc();
        if data.is_none() {
            self.counters.absent_hits.inc();
        }
        if self.keep(key, data.clone(), (life, span), &self.rules(key), epoch, marks) {
            return Lookup::Ahead(data, Miss { epoch, error: None, permit: Permit::Ask(seen) });
        }
        Lookup::Hit(data)
    }

    /// Keeps in L1 what was read, by what is left of its life and the life that it was given; says whether it should be loaded
    /// anew.
    fn keep(
        &self,
        key: &Arc<str>,
        data: Option<Bytes>,
        (left, span): (Option<Duration>, Option<Duration>),
        rules: &LifeRules,
        seen: Epoch,
        marks: Option<Marks>,
    ) -> bool {
        let (stay, due) = match &data {
            Some(_) => rules.stay(left, span),
            None => (Stay::plain(rules.in_l1(left)), false),
        };
        if !self.l1.insert_gated(key, data, stay, seen, marks) {
            self.counters.l1_refused.inc();
        }
        due
    }

    /// The lives of a key: as its source says, else as the settings do.
    fn rules(&self, key: &str) -> LifeRules {
        self.life.with(&self.sources.life_of(key))
    }

    /// L2 did not answer: what a source gives stays in this process.
    fn failed(&self, epoch: Epoch, error: Error) -> Lookup {
        self.note_failure(&error);
        Lookup::Miss(Miss { epoch, error: Some(error), permit: Permit::Memory })
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

fn deaf() -> Error {
    let why =
        "Redis is not read while the bus of invalidations, on which processes hear of one another, is silent";
    Error::new(ErrorKind::Cache, why)
}

fn miss(epoch: Epoch, permit: Permit) -> Lookup {
    Lookup::Miss(Miss { epoch, error: None, permit })
}
