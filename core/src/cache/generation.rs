//! The generation of L2: entries of another generation are misses, so that one key empties the tier for everybody.
//!
//! It lies in Redis under `N:m:generation:DATABASE`: each database has its own, so that entries of another one, whose
//! versions count from somewhere else, are misses. Until it is known which database this is, L2 is as if it were away.
//! The generation is read with the first command and again, beside a read or before a write,
//! once it is a second old: that tells of a new one within about a second, and keeps a Redis that evicts the least recently used
//! from evicting just this key. If it is gone all the same, what this process knew is put back.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{Clock, Deadline, random};
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Redis, SetOptions};

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
}

impl Generation {
    /// Not known yet; it will lie under `prefix` and the name of the database.
    pub(super) fn new(redis: Redis, clock: Clock, prefix: String) -> Generation {
        let (known, asked_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Generation { redis, clock, prefix, key: OnceLock::new(), known, asked_ms }
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
            0 => self.renew(deadline).await,
            known => Ok(known),
        }
    }

    /// What is known; 0 before the first answer.
    pub(super) fn known(&self) -> u64 {
        self.known.load(Ordering::Acquire)
    }

    /// The generation, asked for again if that is due: what is written in an old one is lost.
    pub(super) async fn get_fresh(&self, deadline: Deadline) -> Result<u64> {
        if self.take_turn() { self.renew(deadline).await } else { self.get(deadline).await }
    }

    /// Asks again if that is due. A failure changes nothing: the command beside it has failed too.
    pub(super) async fn renew_if_due(&self, deadline: Deadline) {
        if self.take_turn() {
            let _ = self.renew(deadline).await;
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
        let current = match self.read(deadline).await? {
            Some(current) => current,
            None => self.publish(deadline).await?,
        };
        self.known.store(current, Ordering::Release);
        Ok(current)
    }

    async fn read(&self, deadline: Deadline) -> Result<Option<u64>> {
        let text = self.redis.get(self.key()?, deadline).await?;
        Ok(text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).filter(|&number| number != 0))
    }

    /// Publishes one, unless another process was faster: then that one holds.
    async fn publish(&self, deadline: Deadline) -> Result<u64> {
        let mine = Some(self.known()).filter(|&known| known != 0).unwrap_or_else(|| random::word().max(1));
        let text = mine.to_string();
        let mut options = SetOptions { px: None, only_new: true };
        if self.redis.set(self.key()?, text.as_bytes(), options, deadline).await? {
            return Ok(mine);
        }
        if let Some(theirs) = self.read(deadline).await? {
            return Ok(theirs);
        }
        // Something else lies there.
        options.only_new = false;
        self.redis.set(self.key()?, text.as_bytes(), options, deadline).await?;
        Ok(mine)
    }
}
