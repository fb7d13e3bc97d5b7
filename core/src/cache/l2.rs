//! Redis as a cache: what other processes read or wrote.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;

use crate::base::{Clock, Deadline};
use crate::cache::generation::Generation;
use crate::cache::header::L2Entry;
use crate::error::{Error, Result};
use crate::redis::{Keyspace, Redis, RedisClock, Script, SetOptions};
use crate::telemetry::Counters;

/// What L2 had under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The value; `None` is a known absence.
    pub(crate) data: Option<Bytes>,
    /// The version of the write it came from; 0 if there was none.
    pub(crate) version: u64,
    /// What is left of its life; `None` is for ever.
    pub(crate) life: Option<Duration>,
}

/// The tier.
pub(crate) struct L2 {
    redis: Redis,
    clock: RedisClock,
    keys: Keyspace,
    generation: Generation,
    set_newer: Script,
    counters: Arc<Counters>,
}

impl L2 {
    /// The tier below `namespace`. Nothing is sent yet.
    pub(crate) fn new(redis: Redis, namespace: &str, clock: Clock, counters: Arc<Counters>) -> L2 {
        let keys = Keyspace::new(namespace);
        L2 {
            clock: RedisClock::new(redis.clone(), clock.clone()),
            generation: Generation::new(redis.clone(), clock, keys.engine("generation")),
            set_newer: Script::new(include_str!("set_newer.lua")),
            redis,
            keys,
            counters,
        }
    }

    /// What is under a key.
    pub(crate) async fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Found>> {
        let full = self.keys.value(key);
        let (text, now_ms) = self.beside(self.redis.get(&full, deadline), deadline).await?;
        let Some(text) = text else { return Ok(None) };
        match self.read(&text) {
            Some(entry) => Ok(found(entry, now_ms)),
            None => {
                self.discard(&[full], deadline).await;
                Ok(None)
            }
        }
    }

    /// The same for many keys, in order, with one MGET.
    pub(crate) async fn get_many(&self, keys: &[Arc<str>], deadline: Deadline) -> Result<Vec<Option<Found>>> {
        let full: Vec<String> = keys.iter().map(|key| self.keys.value(key)).collect();
        let (texts, now_ms) = self.beside(self.redis.get_many(&full, deadline), deadline).await?;
        let mut unreadable = Vec::new();
        let all = full.into_iter().zip(texts).map(|(full, text)| {
            let entry = self.read(&text?);
            if entry.is_none() {
                unreadable.push(full);
            }
            found(entry?, now_ms)
        });
        let all = all.collect();
        self.discard(&unreadable, deadline).await;
        Ok(all)
    }

    /// Sets a value or an absence; false if the value of a later transaction is there. `version` is that of the
    /// transaction, or 0 for a write without one, which replaces anything.
    pub(crate) async fn set(
        &self,
        key: &str,
        data: Option<Bytes>,
        life: Option<Duration>,
        version: u64,
        deadline: Deadline,
    ) -> Result<bool> {
        let (text, px) = self.entry(data, life, version, deadline).await?;
        let full = self.keys.value(key);
        if version == 0 {
            return self.redis.set(&full, &text, SetOptions { px, only_new: false }, deadline).await;
        }
        let px = px.unwrap_or(0).to_string();
        let set = self.redis.eval_int(&self.set_newer, &[&full], &[&text, px.as_bytes()], deadline).await?;
        Ok(set == 1)
    }

    /// Sets what a source gave, if nothing is there: a read never replaces what a writer put. Says whether it did.
    pub(crate) async fn fill(
        &self,
        key: &str,
        data: Option<Bytes>,
        life: Option<Duration>,
        deadline: Deadline,
    ) -> Result<bool> {
        let (text, px) = self.entry(data, life, 0, deadline).await?;
        self.redis.set(&self.keys.value(key), &text, SetOptions { px, only_new: true }, deadline).await
    }

    /// Deletes keys; gives how many there were.
    pub(crate) async fn delete<K: AsRef<str>>(&self, keys: &[K], deadline: Deadline) -> Result<u64> {
        let full: Vec<String> = keys.iter().map(|key| self.keys.value(key.as_ref())).collect();
        self.redis.delete(&full, deadline).await
    }

    /// A round trip.
    pub(crate) async fn ping(&self, deadline: Deadline) -> Result<Duration> {
        self.redis.ping(deadline).await
    }

    /// Runs a read with the renewals of time and generation on their way beside it. Gives Redis' time after it.
    async fn beside<T>(&self, read: impl Future<Output = Result<T>>, deadline: Deadline) -> Result<(T, u64)> {
        self.generation.get(deadline).await?;
        let read = self.clock.beside(read, deadline);
        let (read, ()) = join(read, self.generation.renew_if_due(deadline)).await;
        read
    }

    async fn entry(
        &self,
        data: Option<Bytes>,
        life: Option<Duration>,
        version: u64,
        deadline: Deadline,
    ) -> Result<(Vec<u8>, Option<u64>)> {
        let generation = self.generation.get_fresh(deadline).await?;
        let px = life.map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1));
        let expiry_ms = match px {
            Some(px) => self.clock.now_ms(deadline).await?.saturating_add(px),
            None => 0,
        };
        let entry = L2Entry { generation, version, expiry_ms, data };
        let text = entry.encode().ok_or_else(|| Error::task("the value is 4 GiB or longer"))?;
        Ok((text, px))
    }

    /// An entry of the current generation.
    fn read(&self, text: &Bytes) -> Option<L2Entry> {
        let entry = L2Entry::decode(text);
        if entry.is_none() {
            self.counters.l2_undecodable.inc();
        }
        entry.filter(|entry| entry.generation == self.generation.known())
    }

    /// Deletes what is no entry of this generation, which would otherwise keep every fill out. That a writer may have
    /// put a good one there meanwhile only costs a miss.
    async fn discard(&self, full: &[String], deadline: Deadline) {
        if let Err(error) = self.redis.delete(full, deadline).await {
            log::debug!("could not delete unreadable cache entries: {error}");
        }
    }
}

fn found(entry: L2Entry, now_ms: u64) -> Option<Found> {
    let life = match entry.expiry_ms {
        0 => None,
        expiry_ms => Some(Duration::from_millis(expiry_ms.checked_sub(now_ms).filter(|&left| left > 0)?)),
    };
    Some(Found { data: entry.data, version: entry.version, life })
}
