//! Whether a Redis is one to keep a queue in.
//!
//! It is asked before the queue is used, again every few seconds, and at once after the connection was lost: it may have
//! been away when the engine was opened, or be another one by now, or its settings may have been changed. Nothing is accepted
//! for one that may lose it, and nothing that is there is run, until somebody has mended it.

use std::time::Duration;

use parking_lot::Mutex;

use crate::base::Clock;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;

/// How long an answer counts.
const KNOWN_MS: u64 = 10_000;
/// The same of a refusal, which somebody may be about to mend.
const REFUSED_MS: u64 = 1_000;

/// See the head of this file.
pub(super) struct Server {
    redis: Redis,
    clock: Clock,
    /// Whether it was named for the queue, and not only for the cache.
    named: bool,
    allow_eviction: bool,
    within: Duration,
    verdict: Mutex<Option<Verdict>>,
    /// One question for all who want to know.
    asking: tokio::sync::Mutex<()>,
}

/// What it said last.
struct Verdict {
    is: Result<&'static str>,
    /// It counts until then,
    until_ms: u64,
    /// and as long as the connection is the same.
    connection: u64,
}

impl Server {
    /// Asks for the first time.
    ///
    /// # Errors
    /// `Config` if it was named for the queue, may evict keys and the configuration does not allow that; `Queue` if it
    /// cannot be asked and `start_degraded` is not set.
    pub(super) async fn open(redis: Redis, config: &Config, clock: Clock) -> Result<Server> {
        let server = Server {
            redis,
            clock,
            named: config.queue.addr.is_some(),
            allow_eviction: config.queue.allow_eviction,
            within: config.redis_timeout,
            verdict: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        };
        let connection = server.redis.connection();
        match server.ask(config.connect_timeout).await {
            Err(error) if error.retryable() && config.start_degraded => {}
            // Of a cache that was not named for this: only who writes with a delay is concerned.
            Err(error) if error.retryable() || server.named => return Err(error),
            verdict => server.note(verdict, connection),
        }
        Ok(server)
    }

    pub(super) fn is_named(&self) -> bool {
        self.named
    }

    /// What an accepted operation survives.
    ///
    /// # Errors
    /// `Config` if it may evict keys and the configuration does not allow that; `Queue` if it cannot be asked. Nothing was
    /// sent then.
    pub(super) async fn check(&self) -> Result<&'static str> {
        if let Some(verdict) = self.known() {
            return verdict;
        }
        let _one = self.asking.lock().await;
        if let Some(verdict) = self.known() {
            return verdict;
        }
        let connection = self.redis.connection();
        let verdict = self.ask(self.within).await.map_err(Error::with_unsent);
        if !verdict.as_ref().is_err_and(Error::retryable) {
            self.note(verdict.clone(), connection);
        }
        verdict
    }

    fn known(&self) -> Option<Result<&'static str>> {
        let verdict = self.verdict.lock();
        let Verdict { is, until_ms, connection } = verdict.as_ref()?;
        (self.clock.mono_ms() < *until_ms && self.redis.connection() == *connection).then(|| is.clone())
    }

    fn note(&self, is: Result<&'static str>, connection: u64) {
        let counts_ms = if is.is_ok() { KNOWN_MS } else { REFUSED_MS };
        *self.verdict.lock() = Some(Verdict { is, until_ms: self.clock.mono_ms() + counts_ms, connection });
    }

    async fn ask(&self, within: Duration) -> Result<&'static str> {
        let of_queue =
            |error: Error| Error::new(ErrorKind::Queue, error.message().to_owned()).with_source(error);
        let ask = async |section, name| self.redis.info(section, name, within).await.map_err(of_queue);
        let policy = ask("memory", "maxmemory_policy").await?.unwrap_or_default();
        let bound = ask("memory", "maxmemory").await?.is_some_and(|bound| bound != "0");
        if policy.starts_with("allkeys") && bound && !self.allow_eviction {
            return Err(Error::config(format!(
                "queue.addr: Redis at {} has the maxmemory-policy {policy}, which may evict delayed writes; set it to \
                 noeviction or volatile-…, name another Redis, or set queue.allow_eviction: true to accept that they may be lost",
                self.redis.endpoint()
            )));
        }
        let appends = ask("persistence", "aof_enabled").await?.is_some_and(|it| it == "1");
        Ok(if appends { "redis_aof" } else { "redis" })
    }
}
