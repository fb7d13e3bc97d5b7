//! The delay queue: writes that wait in Redis and reach PostgreSQL once, in order.
//!
//! ```text
//!               ╭──────── in line behind an earlier one of its key ────────╮
//! accepted ─────┤                                                          ▼
//!               ╰─▶ scheduled ── its time ──▶ due ── leased ──▶ begun ──▶ done
//!                       ▲                      ▲ ▲        │       │ │ │
//!                       │                      │ ╰────────╯       │ │ ╰──▶ dead: refused, or too many tries
//!                       │                      │    worker gone   │ │
//!                       │                      ╰─ suspect, alone ◀╯ │
//!                       ╰──── failed: later each time ◀─────────────╯
//! ```
//! A lease alone says nothing: its worker may have ended before it looked at the operation, or Redis' answer was lost. Only
//! what it says it begins, right before the transaction, can be what killed it, and can no longer be taken back.
//!
//! May use `store`, `redis`, `sql`, `config`, `value`, `base`, `telemetry`, `error`. It knows no cache: what a commit does to
//! the caches is a [`KeyHooks`](crate::store::KeyHooks) that the engine plugs in.
//!
//! | file | what it knows |
//! |---|---|
//! | `accept` | how an operation comes in, and how it is taken back |
//! | `lanes`, `answers`, `scripts/` | the moves, in Redis |
//! | `body` | what an operation says |
//! | `effect`, `burial` | from leased operations to their effect, once, or to a dead letter |
//! | `worker`, `keeper` | when: the services |
//! | `leases`, `losses`, `server` | what this process has, what Redis still has, and whether it is one to keep it |
//! | `wait` | who waits for an operation's end |
//!
//! Invariants:
//! - An operation has its effect at most once, whoever runs it how often: its row in `zmsg_done` is written in the same
//!   transaction, as is that of a dead one.
//! - What is accepted is done, dead, taken back by its caller, or waits: nothing is dropped.
//! - Operations of one key run one at a time, in the order in which they were accepted, across retries, deaths and workers.
//! - All times are Redis' time, or time that passes.

mod accept;
mod answers;
mod body;
mod burial;
mod effect;
mod keeper;
mod lanes;
mod leases;
mod losses;
mod server;
#[cfg(test)]
mod tests;
mod wait;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::backoff::Backoff;
use crate::base::service::Services;
use crate::base::{Clock, Deadline};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::redis::Redis;
use crate::store::{KeyHooks, Store};
use crate::telemetry::{Counters, Histogram};
use answers::{Depth, How};
use lanes::Lanes;
use leases::Held;
use losses::Known;
use server::Server;
use wait::Waiting;

pub(crate) use accept::{Accepted, Delayed};
pub use answers::Cancelled;
pub(crate) use body::read_letter;
pub(crate) use wait::Ticket;

/// Which way these dead letters came.
pub(crate) const PATH: &str = "queue";
/// The longest name of an operation.
pub(crate) const MOST_OP_ID: usize = 200;

/// What a queue goes by.
#[derive(Debug, Clone)]
struct Settings {
    lease: Duration,
    /// Transactions at a time.
    runners: usize,
    task_timeout: Duration,
    retry_max: u32,
    retention: Duration,
    worker: bool,
}

/// Figures of the queue; see the engine's `Stats`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueueStats {
    pub(crate) scheduled: u64,
    pub(crate) due: u64,
    pub(crate) waiting: u64,
    pub(crate) leased: u64,
    pub(crate) oldest_due_ms: u64,
    pub(crate) paused: bool,
    pub(crate) done: u64,
    pub(crate) retried: u64,
    pub(crate) dead: u64,
    pub(crate) replaced: u64,
    pub(crate) cancelled: u64,
    pub(crate) damaged: u64,
    /// Of the operations that this process ran.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// The queue of one engine.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Shared>);

struct Shared {
    settings: Settings,
    lanes: Lanes,
    store: Arc<dyn Store>,
    hooks: Arc<dyn KeyHooks>,
    counters: Arc<Counters>,
    clock: Clock,
    server: Server,
    held: Held,
    waiting: Waiting,
    /// Leases have ended, or the worker has.
    released: Notify,
    works: AtomicBool,
    /// There is something to look for before the worker would look again.
    wake: Notify,
    looks_again_ms: AtomicU64,
    /// PostgreSQL is away: nothing is leased before then.
    away_until_ms: AtomicU64,
    away: Mutex<Backoff>,
    stopping: AtomicBool,
    complained: AtomicBool,
    used: AtomicBool,
    known: Known,
    depth: Mutex<Depth>,
    latency: Histogram,
}

impl Queue {
    /// Checks that the Redis is one that keeps what it is given.
    ///
    /// # Errors
    /// `Config` if it was named for the queue, may evict keys and the configuration does not allow that; `Queue` if it
    /// cannot be asked and `start_degraded` is not set.
    pub(crate) async fn open(
        config: &Config,
        redis: Redis,
        store: Arc<dyn Store>,
        hooks: Arc<dyn KeyHooks>,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Result<Queue> {
        let server = Server::open(redis.clone(), config, clock.clone()).await?;
        let settings = Settings {
            lease: config.queue.lease,
            // Reads and synchronous writes need connections as well.
            runners: config.queue.concurrency.min(config.pool_size.saturating_sub(2).max(1)),
            task_timeout: config.queue.task_timeout,
            retry_max: config.queue.retry_max,
            retention: config.done_retention,
            worker: config.queue.worker,
        };
        Ok(Queue(Arc::new(Shared {
            settings,
            lanes: Lanes::new(redis, &config.namespace),
            store,
            hooks,
            counters,
            clock,
            server,
            held: Held::default(),
            waiting: Waiting::default(),
            released: Notify::new(),
            works: AtomicBool::new(config.queue.worker),
            wake: Notify::new(),
            looks_again_ms: AtomicU64::new(0),
            away_until_ms: AtomicU64::new(0),
            away: Mutex::new(away_backoff()),
            stopping: AtomicBool::new(false),
            complained: AtomicBool::new(false),
            used: AtomicBool::new(config.queue.worker),
            known: Known::default(),
            depth: Mutex::default(),
            latency: Histogram::default(),
        })))
    }

    /// Starts the services.
    pub(crate) fn start(&self, services: &Services) {
        let shared = self.0.clone();
        services.start(move |stop| keeper::figures(shared, stop));
        let shared = self.0.clone();
        services.start(move |stop| wait::answer(shared, stop));
        if self.0.settings.worker {
            let shared = self.0.clone();
            services.start(move |stop| worker::run(shared, stop));
            let shared = self.0.clone();
            services.start(move |stop| keeper::extend(shared, stop));
            let shared = self.0.clone();
            services.start(move |stop| keeper::prune(shared, stop));
        }
    }

    /// Says which database the operations are for. The queue of another one is not touched.
    pub(crate) fn belong_to(&self, database: [u8; 16]) {
        self.0.lanes.belong_to(database);
        self.0.wake.notify_one();
    }

    /// Keeps all workers from leasing, or lets them go on.
    pub(crate) async fn pause(&self, paused: bool, deadline: Deadline) -> Result<()> {
        self.0.lanes.pause(paused, deadline).await?;
        self.0.wake.notify_one();
        Ok(())
    }

    /// Gives back what the stopped services still held.
    pub(crate) async fn close(&self, deadline: Deadline) {
        let shared = &self.0;
        shared.stops();
        shared.waiting.leave();
        let claimed = shared.held.drain();
        if claimed.is_empty() {
            return;
        }
        let ended: Vec<_> = claimed.iter().map(|it| (it, How::Again(Duration::ZERO))).collect();
        if let Err(error) = shared.lanes.settle(&ended, deadline).await {
            log::warn!("{} delayed writes run elsewhere once their leases end: {error}", ended.len());
        }
    }

    /// Figures: of the queue as they were read last, a second ago at most while it is used.
    pub(crate) fn stats(&self) -> QueueStats {
        let depth = *self.0.depth.lock();
        let running = depth.scheduled + depth.due + depth.suspects + depth.leased;
        QueueStats {
            scheduled: depth.scheduled,
            due: depth.due + depth.suspects,
            waiting: depth.all.saturating_sub(running),
            leased: depth.leased,
            oldest_due_ms: depth.oldest_due_ms,
            paused: depth.paused,
            done: depth.done,
            retried: depth.retried,
            dead: depth.dead,
            replaced: depth.replaced,
            cancelled: depth.cancelled,
            damaged: depth.damaged,
            p50: self.0.latency.quantile(0.5),
            p99: self.0.latency.quantile(0.99),
        }
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stops(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The worker has ended.
    fn ends_work(&self) {
        self.works.store(false, Ordering::Release);
        self.released.notify_one();
    }

    fn works(&self) -> bool {
        self.works.load(Ordering::Acquire)
    }

    fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    fn note_depth(&self, depth: Depth) {
        *self.depth.lock() = depth;
    }

    async fn read_figures(&self, deadline: Deadline) {
        match self.lanes.look(&[], deadline).await {
            Ok((depth, _)) => self.note_depth(depth),
            Err(error) => log::debug!("the figures of the queue could not be read: {error}"),
        }
    }

    /// The worker looks again then.
    fn looks_again_in(&self, pause: Duration) {
        self.looks_again_ms.store(self.clock.mono_ms() + pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// Wakes the worker if it would look too late for something that is due after `delay`.
    fn wake_in(&self, delay: Duration) {
        let due = self.clock.mono_ms() + delay.as_millis() as u64;
        if self.settings.worker && due < self.looks_again_ms.load(Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// PostgreSQL could not be reached: leasing more would be in vain for a while.
    fn note_away(&self, error: &Error) {
        let mut away = self.away.lock();
        if away.tries() == 0 {
            log::warn!("delayed writes wait for PostgreSQL: {error}");
        }
        let until = self.clock.mono_ms() + away.next_delay().as_millis() as u64;
        self.away_until_ms.fetch_max(until, Ordering::Relaxed);
    }

    /// Says once what will not pass by itself.
    fn complain(&self, error: &Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            log::error!("no delayed write is run: {error}");
        }
    }

    fn takes_a_break(&self) -> Option<Duration> {
        let left = self.away_until_ms.load(Ordering::Relaxed).checked_sub(self.clock.mono_ms())?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    fn note_back(&self) {
        let mut away = self.away.lock();
        if away.tries() > 0 {
            *away = away_backoff();
        }
    }
}

fn away_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}
