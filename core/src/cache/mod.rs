//! The caches: process memory (L1), Redis (L2), and what loads when both miss.
//!
//! May use `redis`, `sql` (a source's template), `value`, `config`, `base`, `telemetry`, `error`. It knows no store: the
//! engine runs the source's query and hands the result to [`Caches::fill`]. quick_cache is known to `l1` only; the redis crate
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
//! - A copy of an L1 entry nearer to the reader counts only while nothing in its stripe of L1 was changed (`front`,
//!   `warrant`).
//! - An entry stays in L1 no longer than what is left of its life, and never longer than `l1_ttl`.
//! - A read that begins after an acknowledged write never joins a load that began before it.
//! - A reader that asked the source and may keep nothing leaves nothing older in L1 either: it may have what comes next. It
//!   looks into the outbox before it answers (`around`).
//! - Of two overlapping changes of a key, neither leaves a value in L1: nobody knows which one reached L2 last.
//! - A tagged entry is read while the versions of its tags are those from before it was written (`tags`).
//! - A write or drop whose caller goes away half-way leaves nothing old in L1.
//! - Redis' content is untrusted input: what does not check out is a miss.

mod admit;
mod answer;
mod around;
mod bloom;
mod bus;
mod cover;
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
mod reads;
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
mod warrant;
mod writes;

pub use bloom::BloomFigures;
pub(crate) use bloom::{Filters, Wanted};
pub(crate) use cover::Covered;
pub(crate) use fence::Fence;
pub(crate) use l1::L1Stats;
pub(crate) use l2::later::Stays;
pub(crate) use life::LifeRules;
pub(crate) use loader::{FlightGuard, Loaded, Loader, Waiter, Whose};
pub(crate) use lock::{Holder, Taken};
pub(crate) use reads::{Lookup, Miss};
pub(crate) use rows::first_row_bytes;
pub(crate) use settle::Settle;
pub(crate) use source::{Match, Source, SourceLife, SourceTable};
pub(crate) use tagged::MOST_TAGS;
pub(crate) use tags::TagSet;
pub use toolbox::Left;
pub(crate) use value::NewValue;
pub use warrant::{Warrant, WarrantWords};
pub(crate) use writes::digest;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::breaker::{Breaker, BreakerState};
use crate::base::service::Services;
use crate::base::{Clock, Deadline};
use crate::cache::around::Around;
use crate::cache::bus::{Address, BeforeListening, Bus, BusParts};
use crate::cache::epochs::Epochs;
use crate::cache::generation::Generation;
use crate::cache::l1::L1;
use crate::cache::l2::{L2, L2Parts};
use crate::cache::left_alone::LeftAlone;
use crate::cache::lock::Locks;
use crate::cache::tags::Tags;
use crate::cache::trust::Trust;
use crate::error::{Error, Result};
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
    around: Around,
    coherence_bound: Duration,
    epochs: Arc<Epochs>,
    trust: Arc<Trust>,
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
                trust: trust.clone(),
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
            around: Around::default(),
            coherence_bound: settings.coherence_bound,
            epochs,
            trust,
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

    /// Begins to listen to the other processes, and to take back the memory of what has ended.
    pub(crate) fn start(&self, services: &Services) {
        let l1 = self.l1.clone();
        services.start(move |stop| l1.sweep_on(stop));
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
        Some(answer.and_then(|took| if self.is_coherent() { Ok(took) } else { Err(reads::deaf()) }))
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

    /// The lives of a key: as its source says, else as the settings do.
    fn rules(&self, key: &str) -> LifeRules {
        self.life.with(&self.sources.life_of(key))
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
