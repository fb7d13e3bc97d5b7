//! The generation of L2: entries of another generation are misses, so that one key empties the tier for everybody.
//!
//! It lies in Redis under `N:m:generation:DATABASE`: each database has its own, so that entries of another one, whose
//! versions count from somewhere else, are misses. Until it is known which database this is, L2 is as if it were away.
//! The generation is read with the first command and again, beside a read or before a write,
//! once it is a second old: that tells of a new one within about a second, and keeps a Redis that evicts the least recently used
//! from evicting just this key. If it is gone, or was made by another run of the server, it is a new one: what a server holds
//! that was emptied, restarted or replaced may be older than what others have been told.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::base::{Clock, Deadline, random};
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Redis, Script, Server};

const RENEW_AFTER_MS: u64 = 1_000;

/// What this process knows of the generation.
pub(super) struct Generation {
    redis: Redis,
    clock: Clock,
    prefix: String,
    /// Where it lies; not known before the database is.
    key: OnceLock<String>,
    /// 0 while it is not known.
    known: AtomicU64,
    asked_ms: AtomicU64,
    script: Script,
    server: watch::Receiver<Server>,
}

impl Generation {
    /// Not known yet; it will lie under `prefix` and the name of the database.
    pub(super) fn new(redis: Redis, clock: Clock, prefix: String) -> Generation {
        let (known, asked_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        let (script, server) = (Script::new(include_str!("scripts/generation.lua")), redis.server());
        Generation { redis, clock, prefix, key: OnceLock::new(), known, asked_ms, script, server }
    }

    /// Says which database the entries belong to; the first answer holds.
    pub(super) fn belongs_to(&self, database: &str) {
        self.key.get_or_init(|| format!("{}:{database}", self.prefix));
    }

    fn key(&self) -> Result<&str> {
        let unknown = "Redis is not used before PostgreSQL has said which database its entries belong to";
        self.key.get().map(String::as_str).ok_or_else(|| Error::new(ErrorKind::Cache, unknown))
    }

    /// The generation, asking Redis only if it is not known yet.
    pub(super) async fn get(&self, deadline: Deadline) -> Result<u64> {
        match self.known() {
            // Boxed, as every call would carry the room for it.
            0 => Box::pin(self.renew(deadline)).await,
            known => Ok(known),
        }
    }

    /// What is known; 0 before the first answer.
    pub(super) fn known(&self) -> u64 {
        self.known.load(Ordering::Acquire)
    }

    /// The generation, asked for again if that is due: what is written in an old one is lost.
    pub(super) async fn get_fresh(&self, deadline: Deadline) -> Result<u64> {
        if self.take_turn() { Box::pin(self.renew(deadline)).await } else { self.get(deadline).await }
    }

    /// Asks again if that is due. A failure changes nothing: the command beside it has failed too.
    pub(super) async fn renew_if_due(&self, deadline: Deadline) {
        if self.take_turn() {
            let _ = Box::pin(self.renew(deadline)).await;
        }
    }

    /// Whether it is time to ask again; of those who find it due, one asks.
    fn take_turn(&self) -> bool {
        let now = self.clock.mono_ms();
        let asked = self.asked_ms.load(Ordering::Relaxed);
        now.saturating_sub(asked) >= RENEW_AFTER_MS
            && self.asked_ms.compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Asks again.
    pub(super) async fn renew(&self, deadline: Deadline) -> Result<u64> {
        self.asked_ms.store(self.clock.mono_ms(), Ordering::Relaxed);
        let new = random::word().max(1).to_string();
        let mut server = self.server.borrow().clone();
        let number = loop {
            // Who does not know the run for sure leaves it to others to notice that it is another one.
            let run = if server.is_current { &*server.run } else { "" };
            let args = [run.as_bytes(), new.as_bytes()];
            let number = self.redis.eval_bytes(&self.script, &[self.key()?], &args, deadline).await?;
            // Asked on a connection that was made just now, it was asked for the run before.
            let asked = std::mem::replace(&mut server, self.server.borrow().clone());
            if asked.number == server.number {
                break number;
            }
        };
        let number = std::str::from_utf8(&number).ok().and_then(|it| it.parse().ok()).unwrap_or(0);
        if number == 0 {
            return Err(Error::new(ErrorKind::Cache, "Redis holds a generation that is no number"));
        }
        self.known.store(number, Ordering::Release);
        Ok(number)
    }
}
