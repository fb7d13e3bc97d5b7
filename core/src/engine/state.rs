//! What an open engine consists of, and how it comes and goes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

use super::WriteOptions;
use super::again;
use super::batched::CachesFollow;
use super::calls::Calls;
use super::families::Families;
use super::relay::Relay;
use super::signal::Signal;
use super::source_breaker::SourceBreaker;
use crate::base::backoff::Backoff;
use crate::base::breaker::Breaker;
use crate::base::service::{self, Services, StopSignal};
use crate::base::{Clock, Deadline};
use crate::batch::{Batcher, Gate};
use crate::cache::{
    CacheSettings, Caches, Fence, Filters, LifeRules, Loader, NewValue, Settle, SourceTable, Wanted,
};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::Ids;
use crate::queue::Queue;
use crate::redis::{Redis, RedisSettings};
use crate::store::Store;
use crate::store::identity::identity;
use crate::store::outbox::Outbox;
use crate::store::postgres::{PostgresSettings, PostgresStore};
use crate::telemetry::Counters;

/// The rooms of one engine, furnished.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) counters: Arc<Counters>,
    pub(super) calls: Arc<Calls>,
    pub(super) caches: Arc<Caches>,
    pub(super) batcher: Batcher,
    /// None without a Redis.
    pub(super) queue: Option<Queue>,
    /// Between accepted values and what flushes drop.
    pub(super) gate: Arc<Gate>,
    pub(super) outbox: Arc<Outbox>,
    relay: Arc<Relay>,
    /// What tells the caches of a COMMIT that came later.
    pub(super) follower: CachesFollow,
    pub(super) sources: Arc<SourceTable>,
    /// What is loaded anew while it is fresh; nobody waits for these.
    pub(super) refreshing: Loader,
    pub(super) filters: Arc<Filters>,
    pub(super) source_permits: Semaphore,
    pub(super) source_breaker: SourceBreaker,
    /// Families of keys that were missed and have no source.
    pub(super) unsourced: Families,
    pub(super) store: Arc<dyn Store>,
    pub(super) ids: Arc<Ids>,
    services: Arc<Services>,
    /// Set once the engine's own tables are known to be there.
    own_tables: OnceCell<()>,
    /// Why this database will never do, if that turned out after a start without it.
    unusable: OnceLock<Error>,
    closed: OnceCell<()>,
}

impl State {
    pub(super) async fn open(config: Config) -> Result<Arc<State>> {
        let redis_settings = RedisSettings::of_cache(&config);
        let (store, redis) = tokio::join!(PostgresStore::connect(PostgresSettings::from(&config)), async {
            match &redis_settings {
                Some(settings) => Redis::connect(settings).await.map(Some),
                None => Ok(None),
            }
        });
        // PostgreSQL's error first: without it nothing works.
        let (store, redis) = (Arc::new(store?) as Arc<dyn Store>, redis?);
        let of_queue = match RedisSettings::of_queue(&config) {
            Some(settings) => Some(Redis::connect(&settings).await?),
            None => redis.clone(),
        };
        let state = Arc::new(State::furnish(config, store.clone(), redis, of_queue).await?);
        match state.prepare_database().await {
            Ok(()) => {}
            Err(error) if state.config.start_degraded && error.retryable() => {
                // It cannot be asked which one it is: then nobody else's folder is written to.
                if let Err(error) = state.batcher.refuse_other_places() {
                    state.batcher.close(Deadline::after(state.config.connect_timeout)).await;
                    return Err(error);
                }
                log::warn!("starting without PostgreSQL, trying again in the background: {error}");
                let late = Arc::downgrade(&state);
                state.services.start(move |stop| prepare_later(late, stop));
            }
            Err(error) => {
                // Nothing was accepted; what was made for it is removed.
                state.batcher.close(Deadline::after(state.config.connect_timeout)).await;
                state.store.close().await;
                return Err(error);
            }
        }
        state.caches.start(&state.services);
        if let Err(error) = state.join().await {
            state.close(Deadline::after(state.config.connect_timeout)).await;
            return Err(error);
        }
        state.ids.start(&state.services);
        state.filters.start(&state.services);
        state.batcher.start(&state.services);
        if let Some(queue) = &state.queue {
            queue.start(&state.services);
        }
        Ok(state)
    }

    async fn furnish(
        config: Config,
        store: Arc<dyn Store>,
        redis: Option<Redis>,
        of_queue: Option<Redis>,
    ) -> Result<State> {
        let (clock, counters) = (Clock::system(), Arc::new(Counters::default()));
        let life = LifeRules {
            default_ttl: config.default_ttl,
            absent_ttl: config.absent_ttl,
            l1_ttl: config.l1_ttl,
            jitter: config.ttl_jitter,
            stale_ttl: config.stale_ttl,
            refresh_ahead: config.refresh_ahead,
        };
        let settings = CacheSettings {
            namespace: config.namespace.clone(),
            l1_max_cost: config.l1_max_cost,
            life,
            coherence_bound: config.coherence_bound,
            lease_wait: config.lease_wait,
            connect_timeout: config.connect_timeout,
        };
        let statement_time = config.connect_timeout;
        let (failures, pause, time) = (config.breaker_failures, config.breaker_pause, clock.clone());
        let breaker = || Breaker::new(failures, pause, time.clone());
        let wanted = Wanted { capacity: config.bloom_capacity, error_rate: config.bloom_error_rate };
        let aside = PostgresSettings { pool_size: 1, lazy: true, ..PostgresSettings::from(&config) };
        let aside = Arc::new(PostgresStore::connect(aside).await?);
        let signal = Arc::new(Signal::new(aside.clone(), config.connect_timeout));
        let filters = Filters::new(
            store.clone(),
            aside.clone(),
            redis.clone(),
            &config.namespace,
            wanted,
            clock.clone(),
        );
        let filters = Arc::new(filters);
        let caches = Arc::new(Caches::new(settings, redis, breaker(), clock.clone(), counters.clone()));
        let services = Arc::new(Services::new());
        let gate = Arc::new(Gate::default());
        let outbox = Arc::new(Outbox::new(store.clone(), &config.namespace, statement_time));
        let follower = CachesFollow::new(
            caches.clone(),
            outbox.clone(),
            filters.clone(),
            gate.clone(),
            &services,
            signal.clone(),
            config.redis_timeout,
        );
        // Beside the pool: what others have to be told does not wait behind what callers ask for.
        let relay = Arc::new(Relay {
            outbox: Arc::new(Outbox::new(aside, &config.namespace, statement_time)),
            follower: follower.clone(),
            counters: counters.clone(),
            signal,
        });
        // Weak: the caches hold this, and the relay holds them.
        let draining = Arc::downgrade(&relay);
        caches.before_listening(Arc::new(move |deadline| {
            let relay = draining.upgrade();
            Box::pin(async move {
                match relay {
                    Some(relay) => relay.drain(deadline).await,
                    None => Ok(()),
                }
            })
        }));
        let queue = match of_queue {
            Some(redis) => {
                let (hooks, counters) = (Arc::new(follower.clone()), counters.clone());
                Some(Queue::open(&config, redis, store.clone(), hooks, counters, clock.clone()).await?)
            }
            None => None,
        };
        let hooks = Arc::new(follower.clone());
        let batcher = Batcher::open(&config, store.clone(), hooks, counters.clone(), clock.clone())?;
        follower.ask(batcher.downgrade());
        Ok(State {
            batcher,
            queue,
            gate,
            outbox,
            relay,
            follower,
            ids: Ids::new(store.clone(), clock, config.id_grant, statement_time),
            source_breaker: SourceBreaker::new(breaker(), counters.clone()),
            source_permits: Semaphore::new(config.source_concurrency),
            counters,
            calls: Arc::default(),
            sources: caches.sources(),
            refreshing: Loader::new(Arc::default()),
            filters,
            unsourced: Families::default(),
            store,
            services,
            own_tables: OnceCell::new(),
            unusable: OnceLock::new(),
            closed: OnceCell::new(),
            caches,
            config,
        })
    }

    /// Begins to hear the other processes, and to relay what Redis was not told.
    async fn join(&self) -> Result<()> {
        let config = &self.config;
        let deadline = Deadline::after(config.connect_timeout);
        match self.caches.joined(deadline).await {
            Err(error) if config.start_degraded => log::warn!("starting without hearing others: {error}"),
            joined => joined?,
        }
        if self.caches.has_shared() {
            let (relay, every) = (self.relay.clone(), config.coherence_bound / 4);
            let within = config.timeout;
            self.services.start(move |stop| relay.run(every, within, stop));
            self.relay.signal.start(&self.services);
        }
        Ok(())
    }

    /// The engine's own tables, then a node id.
    async fn prepare_database(&self) -> Result<()> {
        // Generous: another process may be migrating.
        let deadline = Deadline::after(self.config.timeout.max(self.config.connect_timeout));
        self.own_tables(deadline).await?;
        self.ids.renew(deadline).await
    }

    /// Sees to it that the engine's own tables are there. They are since `open`, unless PostgreSQL was away then: a
    /// call that comes before the background's next try does not wait for that.
    pub(super) async fn own_tables(&self, deadline: Deadline) -> Result<()> {
        let opening = self.own_tables.get_or_try_init(|| self.open_database(deadline));
        deadline.run("waiting for the engine's own tables", opening).await?.copied()
    }

    /// An error if nothing that is accepted now would ever reach the database.
    #[inline]
    pub(super) fn check_usable(&self) -> Result<()> {
        self.unusable.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// The engine's own tables, and which database they are in, which Redis has to know.
    async fn open_database(&self, deadline: Deadline) -> Result<()> {
        self.store.open_own_tables(self.config.auto_migrate, deadline).await?;
        let identity = identity(&*self.store, deadline).await?;
        self.caches.belong_to(&format!("{:032x}", u128::from_be_bytes(identity)));
        if let Some(queue) = &self.queue {
            queue.belong_to(identity);
        }
        self.batcher.belong_to(identity)
    }

    pub(super) async fn close(&self, deadline: Deadline) {
        self.calls.close();
        self.closed.get_or_init(|| self.shut_down(deadline)).await;
    }

    async fn shut_down(&self, deadline: Deadline) {
        if deadline.run("waiting for calls in flight", self.calls.drained()).await.is_err() {
            log::warn!("closing although calls are in flight: the time limit of close has passed");
        }
        // While PostgreSQL can be reached: then the services, which would try it too.
        self.batcher.close(deadline).await;
        // A tenth of the time is for giving back what does not end within the rest.
        self.services.stop(Deadline::after(deadline.remaining() * 9 / 10)).await;
        if let Some(queue) = &self.queue {
            queue.close(deadline).await;
        }
        // Not worth the whole time of close if PostgreSQL is away: the node comes free by itself.
        if let Err(error) = self.ids.close(deadline.at_most(self.config.connect_timeout)).await {
            log::warn!("the node id could not be given back and will be free once its grant ends: {error}");
        }
        self.filters.close().await;
        self.store.close().await;
    }

    /// The time of a load. It belongs to the load and not to the caller who began it: others may join who can wait
    /// longer. A caller with more time than others gets all of it.
    pub(super) fn load_deadline(&self, callers: Deadline) -> Deadline {
        let usual = Deadline::after(self.config.timeout);
        if callers.remaining() > usual.remaining() { callers } else { usual }
    }

    /// Starts a background service, which ends with the engine.
    pub(super) fn start_service<F: Future<Output = ()> + Send + 'static>(
        &self,
        service: impl FnOnce(StopSignal) -> F,
    ) {
        self.services.start(service);
    }

    pub(super) async fn put_key(&self, change: Settle, value: NewValue, accepted: Option<u64>) -> Result<()> {
        self.caches.put(change, value, accepted, self.cache_deadline()).await
    }

    /// The same for a value whose tags may not be known: then nothing is left under the key.
    pub(super) async fn put_or_drop(
        &self,
        change: Settle,
        value: Result<NewValue>,
        accepted: Option<u64>,
    ) -> Result<()> {
        match value {
            Ok(value) => self.put_key(change, value, accepted).await,
            Err(error) => Box::pin(self.drop_keys(change)).await.and(Err(error)),
        }
    }

    /// A value of a write that begins, with its tags as they are now.
    pub(super) async fn value(&self, data: Bytes, options: &WriteOptions) -> Result<NewValue> {
        let tags = self.caches.tags(&options.tags, self.cache_deadline()).await?;
        Ok(NewValue { data, ttl: options.ttl, tags })
    }

    /// Drops keys again a few times, in the background, for a transaction of which nobody knows when it ends.
    pub(super) fn drop_again_later(&self, keys: Vec<Arc<str>>) {
        again::drop_later(&self.caches, &self.services, keys, self.config.redis_timeout);
    }

    pub(super) async fn drop_keys(&self, change: Settle) -> Result<()> {
        self.caches.drop_keys(change, self.cache_deadline()).await
    }

    /// Fences keys. Where that failed, what may have been fenced all the same is let go in the background.
    ///
    /// # Errors
    /// If Redis failed.
    pub(super) async fn fence(&self, keys: &[Arc<str>], life: Duration, deadline: Deadline) -> Result<Fence> {
        let fence = self.caches.new_fence();
        match self.caches.put_up(&fence, keys, life, deadline).await {
            Ok(()) => Ok(fence),
            Err(error) => {
                let (caches, keys, deadline) = (self.caches.clone(), keys.to_vec(), self.cache_deadline());
                drop(service::detached(async move {
                    caches.lift(&fence, &keys, deadline).await;
                    Ok(())
                }));
                Err(error)
            }
        }
    }

    /// What committed and could not be told leaves a row from which any process tells it; failing that, this one goes on
    /// trying.
    pub(super) async fn tell_later(&self, keys: &[Arc<str>]) {
        match self.outbox.add(keys, false).await {
            Ok(()) => self.signal_outbox(),
            Err(error) => {
                log::debug!("the outbox did not take what the caches were not told: {error}");
                self.drop_again_later(keys.to_vec());
            }
        }
    }

    /// A row was committed from which any process tells Redis.
    pub(super) fn signal_outbox(&self) {
        self.relay.signal.raise();
    }

    pub(super) async fn drop_all(&self, changes: Vec<Settle>) -> Result<()> {
        let drops = changes.into_iter().map(|change| self.drop_keys(change));
        futures_util::future::join_all(drops).await.into_iter().collect()
    }

    /// What the caches get to follow a write: the caller's own time may be up, yet they must hear of the commit.
    pub(super) fn cache_deadline(&self) -> Deadline {
        Deadline::after(self.config.redis_timeout.saturating_mul(2))
    }
}

/// Prepares the database once it is there, for an engine that was opened without.
async fn prepare_later(state: std::sync::Weak<State>, mut stop: StopSignal) {
    let longest = std::time::Duration::from_secs(5);
    let mut backoff = Backoff::new(std::time::Duration::from_millis(200), longest);
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
        let Some(state) = state.upgrade() else { return };
        let prepared = tokio::select! {
            () = stop.stopped() => return,
            prepared = state.prepare_database() => prepared,
        };
        match prepared {
            Ok(()) => return log::info!("PostgreSQL is there now"),
            Err(error) if error.retryable() => log::debug!("PostgreSQL is still away: {error}"),
            Err(error) => {
                log::error!("the database cannot be used: {error}");
                let _ = state.unusable.set(error);
                return;
            }
        }
    }
}
