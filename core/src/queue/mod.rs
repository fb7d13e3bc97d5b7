//! The delay queue: writes that wait in Redis and reach PostgreSQL once, in order.
//!
//! ```text
//!               ╭──────── in line behind an earlier one of its key ────────╮
//! accepted ─────┤                                                          ▼
//!               ╰─▶ scheduled ── its time ──▶ due ── leased ──▶ running ──▶ done
//!                       ▲                      ▲                  │ │ │
//!                       │                      │   worker gone ───╯ │ ╰──▶ dead: refused, or too many tries
//!                       │                      ╰── suspect, alone ◀─╯
//!                       ╰──── failed: later each time
//! ```
//! May use `store`, `redis`, `sql`, `config`, `value`, `base`, `telemetry`, `error`. It knows no cache: what a commit does to
//! the caches is a [`QueueHooks`](crate::store::QueueHooks) that the engine plugs in.
//!
//! | file | what it knows |
//! |---|---|
//! | `lanes`, `scripts/` | the moves, in Redis |
//! | `body` | what an operation says |
//! | `effect` | from leased operations to their effect, once |
//! | `worker`, `keeper` | when: the services |
//! | `wait` | who waits for an operation's end |
//!
//! Invariants:
//! - An operation has its effect at most once, whoever runs it how often: its row in `zmsg_done` is written in the same
//!   transaction, as is that of a dead one.
//! - What is accepted is done, dead, taken back by its caller, or waits: nothing is dropped.
//! - Operations of one key run one at a time, in the order in which they were accepted, across retries, deaths and workers.
//! - All times are Redis' time, or time that passes.

mod body;
mod effect;
mod keeper;
mod lanes;
#[cfg(test)]
mod tests;
mod wait;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::backoff::Backoff;
use crate::base::crash::crash;
use crate::base::service::Services;
use crate::base::{Clock, Deadline};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;
use crate::sql::Task;
use crate::store::{DelayedKey, QueueHooks, Store};
use crate::telemetry::{Counters, Histogram};
use body::Body;
use lanes::{Claimed, Depth, How, Lanes, Standing};
use wait::{Waiting, Where};

pub(crate) use body::read_letter;
pub use lanes::Cancelled;
pub(crate) use wait::Ticket;

/// Which way these dead letters came.
pub(crate) const PATH: &str = "queue";
/// The longest body: well below what Redis takes, and short enough to be sent within the time of a command.
const MOST_BYTES: usize = 32 << 20;
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

/// What is to be accepted.
pub(crate) struct Delayed<'a> {
    pub(crate) op_id: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) invalidates: &'a [String],
    pub(crate) tasks: &'a [Task],
    pub(crate) delay: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) coalesce: bool,
    /// Whether the caller has chosen the `op_id`.
    pub(crate) named: bool,
}

/// What was accepted.
pub(crate) struct Accepted {
    pub(crate) ticket: Ticket,
    /// Of two operations of one key the later one has the higher number; none if it was done before.
    pub(crate) sequence: Option<u64>,
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
    hooks: Arc<dyn QueueHooks>,
    counters: Arc<Counters>,
    clock: Clock,
    /// What an accepted operation survives; an error if this Redis is not one to keep it.
    durability: Result<&'static str>,
    /// The attempt of each lease, and when it began.
    held: Mutex<HashMap<String, (u64, u64)>>,
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
    /// What the queue is called.
    epoch: Mutex<Option<Bytes>>,
    highest: AtomicU64,
    /// The highest sequence when a loss was told of last.
    told_of: AtomicU64,
    depth: Mutex<Depth>,
    latency: Histogram,
}

impl Queue {
    /// Checks that the Redis is one that keeps what it is given.
    ///
    /// # Errors
    /// `Config` if it was named for the queue, may evict keys and the configuration does not allow that; `Queue` if it cannot
    /// be asked.
    pub(crate) async fn open(
        config: &Config,
        redis: Redis,
        store: Arc<dyn Store>,
        hooks: Arc<dyn QueueHooks>,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Result<Queue> {
        let durability = match settings_of(&redis, config).await {
            Err(error) if config.start_degraded && error.retryable() => Ok("redis"),
            // Of a cache that was not named for this: only who writes with a delay is concerned.
            Err(error) if config.queue.addr.is_none() && !error.retryable() => Err(error),
            durability => Ok(durability?),
        };
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
            durability,
            held: Mutex::default(),
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
            epoch: Mutex::new(None),
            highest: AtomicU64::new(0),
            told_of: AtomicU64::new(0),
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

    /// What an accepted operation survives.
    ///
    /// # Errors
    /// `Config` if the Redis may evict keys and the configuration does not allow that.
    pub(crate) fn durability(&self) -> Result<&'static str> {
        self.0.durability.clone()
    }

    /// Says which database the operations are for. The queue of another one is not touched.
    pub(crate) fn belong_to(&self, database: [u8; 16]) {
        self.0.lanes.belong_to(database);
        self.0.wake.notify_one();
    }

    /// Accepts an operation. A lost answer is asked for again: the operation is accepted once.
    ///
    /// # Errors
    /// `Queue` if Redis could not be reached in time. It may have accepted the operation all the same; a call with the same
    /// op_id finds out.
    pub(crate) async fn accept(&self, delayed: &Delayed<'_>, deadline: Deadline) -> Result<Accepted> {
        let shared = &self.0;
        let body = body_of(delayed);
        if body.length() > MOST_BYTES {
            return Err(Error::task(format!(
                "the delayed write has {} bytes with its parameters; at most {MOST_BYTES} are taken",
                body.length()
            )));
        }
        if delayed.coalesce && delayed.named && shared.was_done(delayed.op_id, deadline).await? {
            // It would take the place of another one and then find that nothing is left to do.
            return Ok(Accepted { ticket: shared.ticket(delayed), sequence: None });
        }
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        crash!("queue.before_enqueue");
        let mut maybe_sent = false;
        let enqueued = loop {
            let known = shared.known_sequence();
            let sent = shared
                .lanes
                .enqueue(delayed.op_id, &body, delayed.delay, delayed.coalesce, known, deadline)
                .await;
            match sent {
                Ok(enqueued) => break enqueued,
                Err(error)
                    if error.kind() == ErrorKind::Queue && backoff.tries() < 3 && !deadline.passed() =>
                {
                    maybe_sent |= !error.unsent();
                    let pause = tokio::time::sleep(backoff.next_delay());
                    deadline.run("accepting a delayed write", pause).await?;
                }
                Err(error) => {
                    let error = if maybe_sent || !error.unsent() { in_doubt(error) } else { error };
                    return Err(error.with_op_id(delayed.op_id));
                }
            }
        };
        crash!("queue.after_enqueue");
        shared.used.store(true, Ordering::Relaxed);
        shared.note_standing(&enqueued.standing);
        if enqueued.new {
            shared.waiting.begun(delayed.op_id);
        }
        if let Some(replaced) = enqueued.replaced {
            shared.waiting.ended(&replaced, Err(replaced_by(delayed.op_id)), Where::Elsewhere);
        }
        shared.wake_in(delayed.delay);
        Ok(Accepted { ticket: shared.ticket(delayed), sequence: Some(enqueued.standing.sequence) })
    }

    /// Runs an operation that Redis did not take; gives the number of its transaction, or none if it was done before. What
    /// Redis may have taken all the same has no second effect.
    pub(crate) async fn run_now(&self, delayed: &Delayed<'_>, deadline: Deadline) -> Result<Option<u64>> {
        effect::run_now(&self.0, delayed.op_id, &body_of(delayed), deadline).await
    }

    /// Takes back an operation that no worker has.
    pub(crate) async fn cancel(&self, op_id: &str, deadline: Deadline) -> Result<Cancelled> {
        let (cancelled, entry) = self.0.lanes.cancel(op_id, deadline).await?;
        if let Some((key, sequence)) = entry {
            // A value that was cached with it never comes true.
            let key = DelayedKey { key: Arc::from(key), sequence: Some(sequence + 1) };
            self.0.hooks.committed(vec![key], 0).await;
        }
        if cancelled == Cancelled::Yes {
            self.0.waiting.look_soon();
        }
        Ok(cancelled)
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
        let held: Vec<(String, (u64, u64))> = shared.held.lock().drain().collect();
        if held.is_empty() {
            return;
        }
        let claimed = held.into_iter().map(|(op_id, (attempt, _))| Claimed::only(op_id, attempt));
        let claimed: Vec<Claimed> = claimed.collect();
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
    fn ticket(self: &Arc<Shared>, delayed: &Delayed<'_>) -> Ticket {
        let keys = delayed.key.into_iter().chain(delayed.invalidates.iter().map(String::as_str));
        let keys = keys.map(Arc::from).collect();
        Ticket { shared: self.clone(), op_id: delayed.op_id.into(), keys }
    }

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

    /// The highest sequence that this process has heard of. Whatever is asked from here on must know it too.
    fn known_sequence(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// A queue that has lost something says so once. What it has given stays known: of two values that were cached with
    /// accepted writes the later one has to have the higher number.
    fn note_standing(&self, now: &Standing) {
        let mut epoch = self.epoch.lock();
        let before = epoch.replace(now.epoch.clone());
        let emptied = before.is_some_and(|before| before != now.epoch);
        // Told again until the next write raises it.
        let put_back =
            now.lost && self.told_of.swap(self.known_sequence(), Ordering::AcqRel) < self.known_sequence();
        self.highest.fetch_max(now.sequence, Ordering::AcqRel);
        if emptied || put_back {
            self.told_of.store(self.known_sequence(), Ordering::Release);
            self.counters.queue_losses.inc();
            log::error!(
                "Redis has lost delayed writes that it had accepted: it was emptied, or an earlier state was put back; what \
                 had its effect keeps it, and what is run again has none"
            );
            self.waiting.look_soon();
        }
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

    fn hold(&self, claimed: &[Claimed]) {
        let now = self.clock.mono_ms();
        let mut held = self.held.lock();
        held.extend(claimed.iter().map(|it| (it.op_id.clone(), (it.attempt, now))));
    }

    fn held_now(&self) -> Vec<(String, u64)> {
        self.held.lock().iter().map(|(op_id, (attempt, _))| (op_id.clone(), *attempt)).collect()
    }

    /// How long this process has had an operation.
    fn since(&self, claimed: &Claimed) -> Duration {
        let begun = self.held.lock().get(&claimed.op_id).map(|(_, begun)| *begun);
        begun
            .map_or(Duration::ZERO, |begun| Duration::from_millis(self.clock.mono_ms().saturating_sub(begun)))
    }

    /// Ends leases. What Redis is not told runs again once the lease has ended, without effect.
    async fn settle(&self, ended: &[(&Claimed, How)]) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let deadline = Deadline::after(self.settings.lease / 2);
        loop {
            match self.lanes.settle(ended, deadline).await {
                Ok(_) => break,
                Err(error) if backoff.tries() >= 3 || deadline.passed() => {
                    log::warn!(
                        "Redis could not be told of {} delayed writes that have ended: {error}",
                        ended.len()
                    );
                    break;
                }
                Err(_) => tokio::time::sleep(backoff.next_delay()).await,
            }
        }
        let mut held = self.held.lock();
        for (claimed, _) in ended {
            held.remove(&claimed.op_id);
        }
        drop(held);
        self.released.notify_one();
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

/// The class of durability of a Redis, if it keeps what it is given.
async fn settings_of(redis: &Redis, config: &Config) -> Result<&'static str> {
    let of_queue = |error: Error| Error::new(ErrorKind::Queue, error.message().to_owned()).with_source(error);
    let ask = async |section, name| redis.info(section, name, config.connect_timeout).await.map_err(of_queue);
    let policy = ask("memory", "maxmemory_policy").await?.unwrap_or_default();
    let bound = ask("memory", "maxmemory").await?.is_some_and(|bound| bound != "0");
    if policy.starts_with("allkeys") && bound && !config.queue.allow_eviction {
        return Err(Error::config(format!(
            "queue.addr: Redis at {} has the maxmemory-policy {policy}, which may evict delayed writes; set it to noeviction or \
             volatile-…, name another Redis, or set queue.allow_eviction: true to accept that they may be lost",
            redis.endpoint()
        )));
    }
    let appends = ask("persistence", "aof_enabled").await?.is_some_and(|it| it == "1");
    Ok(if appends { "redis_aof" } else { "redis" })
}

fn body_of(delayed: &Delayed<'_>) -> Body {
    Body {
        timeout: delayed.timeout,
        key: delayed.key.map(str::to_owned),
        invalidates: delayed.invalidates.to_vec(),
        statements: delayed.tasks.iter().map(Task::render).collect(),
    }
}

fn in_doubt(error: Error) -> Error {
    if error.kind() != ErrorKind::Queue && error.kind() != ErrorKind::Timeout {
        return error;
    }
    let message = format!(
        "{}; the delayed write may have been accepted all the same: a call with the same op_id finds out, and has one effect",
        error.message()
    );
    Error::new(ErrorKind::Queue, message).with_source(error)
}

fn replaced_by(op_id: &str) -> Error {
    Error::new(ErrorKind::Queue, format!("the delayed write was replaced by a later one of its key: {op_id}"))
        .with_retryable(false)
}
