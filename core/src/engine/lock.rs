//! `lock`: one holder per name among all processes, kept for as long as it is held.
//!
//! ```text
//!            take                      every third of the ttl: extend
//! waiting ─────────▶ held ──────────────────────────────────────────────▶ held ── release, drop, close ─▶ free
//!    ╰─ wait is over ─▶ Timeout          ╰─ somebody else's, or no extension for a whole ttl ─▶ lost
//! ```
//! Time is counted from before Redis was asked, so that the holder hears of a loss before another one can have the lock,
//! unless this process was stopped meanwhile: that is what the token is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::Zmsg;
use super::caller::Caller;
use super::limits::check_name;
use super::state::State;
use crate::base::service::{self, StopSignal};
use crate::base::{Deadline, clock, random};
use crate::cache::{Caches, Holder, Taken};
use crate::error::{Error, ErrorKind, Result};

/// The life of a lock that names none.
const USUAL_TTL: Duration = Duration::from_secs(30);
/// Less than that could not be extended in time.
const SHORTEST_TTL: Duration = Duration::from_millis(100);
const LONGEST_TTL: Duration = Duration::from_secs(86_400);
/// Pauses of who waits: the first and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];

/// Options of a lock.
#[derive(Debug, Clone, Copy, Default)]
pub struct LockOptions {
    /// After that a holder that is gone has lost it; `None` is 30 s. From 100 ms to a day.
    pub ttl: Option<Duration>,
    /// How long to wait for it; zero tries once, `None` is the time limit of the call.
    pub wait: Option<Duration>,
}

/// A lock that is held. It is extended by itself until it is released or dropped.
pub struct Lock {
    name: String,
    token: u64,
    /// Until when it is held at least; nothing once it is lost or given back.
    until: watch::Receiver<Option<Instant>>,
    wishes: mpsc::Sender<Wish>,
}

enum Wish {
    Extend(oneshot::Sender<Result<bool>>),
    Release(oneshot::Sender<Result<bool>>),
}

impl Zmsg {
    /// Takes the lock of a name, which one holder at a time has among all processes, and keeps it until it is released,
    /// dropped or lost.
    ///
    /// Redis may forget a lock in a failover, and a process may be stopped for longer than its ttl: pass [`Lock::token`]
    /// to what the lock protects, and let that refuse a token below the highest one it has seen.
    ///
    /// # Errors
    /// `Timeout` if somebody else held it for all of `wait`; `Cache` if Redis failed; `Task` for a bad name or ttl; `Config`
    /// without a Redis.
    pub async fn lock(&self, name: &str, options: LockOptions) -> Result<Lock> {
        check_name(&self.state.config, name)?;
        let ttl = options.ttl.unwrap_or(USUAL_TTL);
        if !(SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) {
            return Err(Error::task(format!("lock: ttl is from {SHORTEST_TTL:?} to a day, not {ttl:?}")));
        }
        if self.state.caches.locks().is_none() {
            return Err(Error::config("lock needs a Redis: set redis_addr"));
        }
        let (state, name, deadline) = (self.state.clone(), name.to_owned(), self.deadline());
        let until = options.wait.map_or(deadline, Deadline::after);
        let (caller, waiting) = Caller::new();
        let call = self.enter()?;
        // To the end: an attempt that reached Redis is either handed over or given back.
        let work = async move {
            let _call = call;
            state.wait_for_lock(name, ttl, until, caller).await
        };
        let lock = service::to_the_end(work).await;
        drop(waiting);
        lock
    }
}

impl State {
    async fn wait_for_lock(
        self: Arc<State>,
        name: String,
        ttl: Duration,
        until: Deadline,
        caller: Caller,
    ) -> Result<Lock> {
        let locks = self.caches.locks().ok_or_else(Error::closed)?;
        let holder = locks.holder(&name);
        let mut pause = PAUSES[0];
        loop {
            let freed = locks.freed();
            let asked = clock::now();
            let left = match locks.take(&holder, ttl, self.cache_deadline()).await {
                Ok(Taken::Mine(token)) => return Ok(self.hold(name, holder, token, ttl, asked)),
                Ok(Taken::Busy(left)) => left,
                Err(error) => {
                    // It may be taken all the same.
                    let _ = locks.release(&holder, self.cache_deadline()).await;
                    return Err(error);
                }
            };
            caller.check_waits()?;
            if self.calls.is_closed() {
                return Err(Error::closed());
            }
            if until.passed() {
                return Err(Error::new(ErrorKind::Timeout, format!("somebody else holds the lock {name:?}")));
            }
            let rest = random::jitter(pause, 0.5).min(left.max(PAUSES[0])).min(until.remaining());
            pause = (pause * 2).min(PAUSES[1]);
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    fn hold(
        self: &Arc<State>,
        name: String,
        holder: Holder,
        token: u64,
        ttl: Duration,
        asked: Instant,
    ) -> Lock {
        let (wishes, wished) = mpsc::channel(4);
        let (told, until) = watch::channel(Some(asked + ttl));
        let (caches, time) = (self.caches.clone(), self.config.redis_timeout.saturating_mul(2));
        let keeper = Keeper { caches, time, holder, ttl, told };
        self.start_service(move |stop| keeper.run(wished, stop));
        Lock { name, token, until, wishes }
    }
}

impl Lock {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fencing token: above that of every earlier holder.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Whether it is held, as far as this process knows. No I/O.
    pub fn is_held(&self) -> bool {
        self.until.borrow().is_some_and(|until| clock::now() < until) && !self.wishes.is_closed()
    }

    /// Resolves when the lock is lost or given back.
    pub async fn lost(&self) {
        self.when_lost().await;
    }

    /// The same, for who waits without having the lock: this does not keep it.
    pub fn when_lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut until = self.until.clone();
        async move {
            // An error means that its keeper is gone: then it is not held any more.
            let _ = until.wait_for(Option::is_none).await;
        }
    }

    /// Extends it now to its whole ttl, which happens by itself as well; says whether it is still held.
    ///
    /// # Errors
    /// `Cache` if Redis could not be asked.
    pub async fn extend(&self) -> Result<bool> {
        self.wish(Wish::Extend).await
    }

    /// Gives it back; says whether it was held until now. One that was lost is left to whoever has it.
    ///
    /// # Errors
    /// `Cache` if Redis could not be told: then it ends with its ttl.
    pub async fn release(&self) -> Result<bool> {
        self.wish(Wish::Release).await
    }

    async fn wish(&self, wish: impl FnOnce(oneshot::Sender<Result<bool>>) -> Wish) -> Result<bool> {
        let (answer, answered) = oneshot::channel();
        // Without a keeper it was lost or given back.
        if self.wishes.send(wish(answer)).await.is_err() {
            return Ok(false);
        }
        answered.await.unwrap_or(Ok(false))
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name)
            .field("token", &self.token)
            .field("held", &self.is_held())
            .finish()
    }
}

/// Who extends a lock until its holder is done with it.
struct Keeper {
    caches: Arc<Caches>,
    /// For one question to Redis.
    time: Duration,
    holder: Holder,
    ttl: Duration,
    /// Tells the holder the end of the last life that Redis is known to have given; nothing once it is lost.
    told: watch::Sender<Option<Instant>>,
}

impl Keeper {
    async fn run(self, mut wished: mpsc::Receiver<Wish>, mut stop: StopSignal) {
        let mut next = clock::now() + self.ttl / 3;
        loop {
            tokio::select! {
                () = stop.stopped() => break self.give_back(None).await,
                wish = wished.recv() => match wish {
                    Some(Wish::Extend(answer)) => {
                        let extended = self.extend().await;
                        let gone = matches!(extended, Ok(false));
                        let _ = answer.send(extended);
                        if gone { break }
                    }
                    Some(Wish::Release(answer)) => break self.give_back(Some(answer)).await,
                    None => break self.give_back(None).await,
                },
                () = tokio::time::sleep_until(next.min(self.until()).into()) => {
                    // A third: two of three may be late or lost.
                    next = clock::now() + self.ttl / 3;
                    match self.extend().await {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) if clock::now() >= self.until() => {
                            log::warn!("a lock was lost, as Redis could not be asked for it in time: {error}");
                            break;
                        }
                        // Soon again, as long as there is time.
                        Err(_) => next = clock::now() + self.ttl / 10,
                    }
                }
            }
        }
        self.told.send_replace(None);
    }

    fn until(&self) -> Instant {
        self.told.borrow().unwrap_or_else(clock::now)
    }

    async fn extend(&self) -> Result<bool> {
        let Some(locks) = self.caches.locks() else { return Ok(false) };
        let asked = clock::now();
        // Not past the end of the life: then it may be somebody else's, and the holder has to know.
        let left = self.until().saturating_duration_since(asked);
        let deadline = Deadline::after(self.time.min(left).max(Duration::from_millis(1)));
        let extended = locks.extend(&self.holder, self.ttl, deadline).await?;
        if extended {
            self.told.send_replace(Some(asked + self.ttl));
        }
        Ok(extended)
    }

    async fn give_back(&self, answer: Option<oneshot::Sender<Result<bool>>>) {
        let Some(locks) = self.caches.locks() else { return };
        let released = locks.release(&self.holder, Deadline::after(self.time)).await;
        self.told.send_replace(None);
        if let Err(error) = &released {
            log::debug!("a lock could not be given back and ends with its ttl: {error}");
        }
        if let Some(answer) = answer {
            let _ = answer.send(released);
        }
    }
}
