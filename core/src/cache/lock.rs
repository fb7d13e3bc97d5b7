//! Locks in Redis: one holder per name, for a time, with a token that grows.
//!
//! ```text
//! free ── take ─▶ held ── extend ─▶ held            release, or the life ends ─▶ free
//! ```
//! A lock is an agreement, not a barrier: a holder that was stopped for longer than its life goes on believing in it. What it
//! protects has to refuse a token that is below one it has seen (Kleppmann, "How to do distributed locking", 2016). A Redis
//! that fails over may forget a lock; the token of the next holder is higher all the same.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Deadline, random};
use crate::cache::bus::{Address, Bus};
use crate::error::Result;
use crate::redis::{Keyspace, Redis, Script};

/// How long the last token of a lock is kept. Later its successor is above it by the server's clock alone.
const TOKEN_LIFE: Duration = Duration::from_secs(86_400);

/// The locks of a namespace.
pub(crate) struct Locks {
    redis: Redis,
    keys: Keyspace,
    address: Arc<Address>,
    bus: Arc<Bus>,
    take: Script,
    extend: Script,
    release: Script,
}

/// One who holds a lock, or wants to.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    lock: String,
    last_token: String,
    id: String,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The lock is the holder's, with this token.
    Mine(u64),
    /// Somebody else's, for that long if it is not extended.
    Busy(Duration),
}

impl Locks {
    /// The locks below `namespace`. Nothing is sent yet.
    pub(super) fn new(redis: Redis, namespace: &str, address: Arc<Address>, bus: Arc<Bus>) -> Locks {
        Locks {
            redis,
            keys: Keyspace::new(namespace),
            address,
            bus,
            take: Script::new(include_str!("scripts/lock.lua")),
            extend: Script::new(include_str!("scripts/extend.lua")),
            release: Script::new(include_str!("scripts/unlock.lua")),
        }
    }

    /// A new one who wants a lock.
    pub(crate) fn holder(&self, name: &str) -> Holder {
        let [lock, last_token] = self.keys.lock(name);
        Holder { lock, last_token, id: format!("{:016x}", random::word()) }
    }

    /// Takes the lock if nobody has it.
    pub(crate) async fn take(&self, holder: &Holder, life: Duration, deadline: Deadline) -> Result<Taken> {
        let (life, kept) = (life.as_millis().to_string(), TOKEN_LIFE.as_millis().to_string());
        let keys = [&*holder.lock, &holder.last_token];
        let args = [holder.id.as_bytes(), life.as_bytes(), kept.as_bytes()];
        let answer = self.redis.eval_int(&self.take, &keys, &args, deadline).await?;
        Ok(match u64::try_from(answer) {
            Ok(token) => Taken::Mine(token),
            Err(_) => Taken::Busy(Duration::from_millis(answer.unsigned_abs())),
        })
    }

    /// Gives the lock a new life from now on; says whether it was still the holder's.
    pub(crate) async fn extend(&self, holder: &Holder, life: Duration, deadline: Deadline) -> Result<bool> {
        let life = life.as_millis().to_string();
        let args = [holder.id.as_bytes(), life.as_bytes()];
        Ok(self.redis.eval_int(&self.extend, &[&holder.lock], &args, deadline).await? > 0)
    }

    /// Gives the lock back; says whether it was still the holder's.
    pub(crate) async fn release(&self, holder: &Holder, deadline: Deadline) -> Result<bool> {
        let (channel, message) = (self.address.channel()?, self.address.freed());
        let args = [holder.id.as_bytes(), channel.as_bytes(), &message];
        Ok(self.redis.eval_int(&self.release, &[&holder.lock], &args, deadline).await? > 0)
    }

    /// Resolves when some lock was given back, if this process hears of it. Counts from the call on.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.bus.freed.notified()
    }
}
