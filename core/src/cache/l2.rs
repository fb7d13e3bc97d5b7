//! Redis as a cache: what other processes read or wrote.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};

use crate::base::{Clock, Deadline};
use crate::cache::generation::Generation;
use crate::cache::header::{Content, Decoded, HEADER_LEN, L2Entry};
use crate::error::{Error, Result};
use crate::redis::{Keyspace, Redis, RedisClock, Script, SetOptions};
use crate::telemetry::Counters;

/// How long it is remembered that a transaction dropped a key. An older transaction that follows its COMMIT later than
/// this would put its value back, so it is well above the time limits of calls. See ADR 0005.
const DROPPED_LIFE: Duration = Duration::from_secs(60);

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

/// What a read of a key gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A value or an absence.
    Found(Found),
    /// Neither; what a fill may replace, if something lies there.
    Nothing(Option<Seen>),
}

/// An entry that is none for this reader: a fill may replace it, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    header: Bytes,
    generation: u64,
    version: u64,
}

/// What numbers a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stamp {
    /// The transaction that wrote it; 0 if none did, and then it replaces anything.
    Version(u64),
    /// Its place among the delayed writes, whose transaction is still to come. What a transaction left is older.
    Accepted(u64),
}

/// What a transaction leaves under its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stays {
    /// The value of this SHA-1.
    Digest([u8; 20]),
    /// The value of the accepted write with this sequence, or of a later one.
    Since(u64),
}

/// A fill that is ready to be sent.
pub(crate) struct Fill {
    full: String,
    text: Vec<u8>,
    px: Option<u64>,
    over: Option<Seen>,
}

/// The tier.
pub(crate) struct L2 {
    redis: Redis,
    clock: RedisClock,
    keys: Keyspace,
    generation: Generation,
    set_newer: Script,
    fill_over: Script,
    set_accepted: Script,
    drop_unless: Script,
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
            fill_over: Script::new(include_str!("fill_over.lua")),
            set_accepted: Script::new(include_str!("set_accepted.lua")),
            drop_unless: Script::new(include_str!("drop_unless.lua")),
            redis,
            keys,
            counters,
        }
    }

    /// Says which database the entries belong to. Until then every read and every set fails.
    pub(crate) fn belongs_to(&self, database: &str) {
        self.generation.belongs_to(database);
    }

    /// What is under a key.
    pub(crate) async fn get(&self, key: &str, deadline: Deadline) -> Result<Answer> {
        let full = self.keys.value(key);
        let (text, now_ms) = self.beside(self.redis.get(&full, deadline), deadline).await?;
        match text.map_or(Some(Answer::Nothing(None)), |text| self.read(&text, now_ms)) {
            Some(answer) => Ok(answer),
            None => {
                self.discard(&[full], deadline).await;
                Ok(Answer::Nothing(None))
            }
        }
    }

    /// The same for many keys, in order, with one MGET.
    pub(crate) async fn get_many(&self, keys: &[Arc<str>], deadline: Deadline) -> Result<Vec<Answer>> {
        let full: Vec<String> = keys.iter().map(|key| self.keys.value(key)).collect();
        let (texts, now_ms) = self.beside(self.redis.get_many(&full, deadline), deadline).await?;
        let mut damaged = Vec::new();
        let all = full.into_iter().zip(texts).map(|(full, text)| {
            let Some(text) = text else { return Answer::Nothing(None) };
            self.read(&text, now_ms).unwrap_or_else(|| {
                damaged.push(full);
                Answer::Nothing(None)
            })
        });
        let all = all.collect();
        self.discard(&damaged, deadline).await;
        Ok(all)
    }

    /// Sets a value; false if a later one's value or drop is there.
    pub(crate) async fn set(
        &self,
        key: &str,
        data: Bytes,
        life: Option<Duration>,
        stamp: Stamp,
        deadline: Deadline,
    ) -> Result<bool> {
        let (text, px) = self.entry(Content::Value(data), life, stamp, deadline).await?;
        let full = self.keys.value(key);
        match stamp {
            Stamp::Version(0) => {
                self.redis.set(&full, &text, SetOptions { px, only_new: false }, deadline).await
            }
            Stamp::Version(_) => self.set_by(&self.set_newer, &full, &text, px, deadline).await,
            Stamp::Accepted(_) => self.set_by(&self.set_accepted, &full, &text, px, deadline).await,
        }
    }

    /// Drops keys for a transaction: values of older ones that arrive later are kept out. What a later one left stays.
    pub(crate) async fn drop_at<K: AsRef<str>>(
        &self,
        keys: &[K],
        version: u64,
        deadline: Deadline,
    ) -> Result<()> {
        let generation = self.generation.get_fresh(deadline).await?;
        let entry = dropped(generation, version);
        let (text, px) = (encode(&entry)?, Some(DROPPED_LIFE.as_millis() as u64));
        let drops = keys.iter().map(|key| self.set_newer_at(key.as_ref(), &text, px, deadline));
        join_all(drops).await.into_iter().collect()
    }

    /// Drops a key for a transaction unless it holds what may stay; says whether it does.
    pub(crate) async fn drop_unless(
        &self,
        key: &str,
        stays: Stays,
        version: u64,
        deadline: Deadline,
    ) -> Result<bool> {
        let generation = self.generation.get_fresh(deadline).await?;
        let (text, px) = (encode(&dropped(generation, version))?, DROPPED_LIFE.as_millis().to_string());
        let (hex, sequence) = match stays {
            Stays::Digest(digest) => (digest.iter().map(|byte| format!("{byte:02x}")).collect(), Vec::new()),
            Stays::Since(sequence) => (String::new(), sequence.to_be_bytes().to_vec()),
        };
        let (full, args) = (self.keys.value(key), [&text[..], px.as_bytes(), hex.as_bytes(), &sequence]);
        Ok(self.redis.eval_int(&self.drop_unless, &[&full], &args, deadline).await? == 1)
    }

    /// Makes a fill ready. `None` if it may not replace what the reader saw.
    pub(crate) async fn prepare_fill(
        &self,
        key: &str,
        data: Option<Bytes>,
        life: Option<Duration>,
        over: Option<Seen>,
        deadline: Deadline,
    ) -> Result<Option<Fill>> {
        if let Some(seen) = &over
            && seen.generation != self.generation.known()
            && seen.generation == self.generation.renew(deadline).await?
        {
            // It was of a generation that this process had not heard of.
            return Ok(None);
        }
        let content = data.map_or(Content::Absent, Content::Value);
        let version = self.version_after(over.as_ref());
        let (text, px) = self.entry(content, life, Stamp::Version(version), deadline).await?;
        Ok(Some(Fill { full: self.keys.value(key), text, px, over }))
    }

    /// Sets what a source gave, where nothing is or still is what the reader saw: a read never replaces what a writer
    /// put. Says whether it did.
    pub(crate) async fn fill(&self, fill: Fill, deadline: Deadline) -> Result<bool> {
        let Fill { full, text, px, over } = fill;
        let Some(seen) = over else {
            return self.redis.set(&full, &text, SetOptions { px, only_new: true }, deadline).await;
        };
        let px = px.unwrap_or(0).to_string();
        let args = [&text, px.as_bytes(), &seen.header];
        Ok(self.redis.eval_int(&self.fill_over, &[&full], &args, deadline).await? == 1)
    }

    /// The version of what is read after such an entry was seen: that of the drop, so that older writes stay out.
    pub(crate) fn version_after(&self, seen: Option<&Seen>) -> u64 {
        seen.filter(|seen| seen.generation == self.generation.known()).map_or(0, |seen| seen.version)
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

    async fn set_newer_at(&self, key: &str, text: &[u8], px: Option<u64>, deadline: Deadline) -> Result<()> {
        self.set_by(&self.set_newer, &self.keys.value(key), text, px, deadline).await.map(|_| ())
    }

    async fn set_by(
        &self,
        script: &Script,
        full: &str,
        text: &[u8],
        px: Option<u64>,
        deadline: Deadline,
    ) -> Result<bool> {
        let px = px.unwrap_or(0).to_string();
        Ok(self.redis.eval_int(script, &[full], &[text, px.as_bytes()], deadline).await? == 1)
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
        content: Content,
        life: Option<Duration>,
        stamp: Stamp,
        deadline: Deadline,
    ) -> Result<(Vec<u8>, Option<u64>)> {
        let (version, accepted) = match stamp {
            Stamp::Version(version) => (version, false),
            Stamp::Accepted(sequence) => (sequence, true),
        };
        let generation = self.generation.get_fresh(deadline).await?;
        let px = life.map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1));
        let expiry_ms = match px {
            Some(px) => self.clock.now_ms(deadline).await?.saturating_add(px),
            None => 0,
        };
        Ok((encode(&L2Entry { generation, version, accepted, expiry_ms, content })?, px))
    }

    /// What a string says; `None` if it is damaged.
    fn read(&self, text: &Bytes, now_ms: u64) -> Option<Answer> {
        let entry = match L2Entry::decode(text) {
            Decoded::Entry(entry) => entry,
            Decoded::Later => return Some(Answer::Nothing(None)),
            Decoded::Damaged => {
                self.counters.l2_undecodable.inc();
                return None;
            }
        };
        let L2Entry { generation, version, accepted, expiry_ms, content } = entry;
        // Of an accepted value no transaction is known.
        let version = if accepted { 0 } else { version };
        let data = match content {
            Content::Value(data) if generation == self.generation.known() => Some(data),
            Content::Absent if generation == self.generation.known() => None,
            _ => {
                // Copied, so that the load does not hold the old value.
                let header = Bytes::copy_from_slice(&text[..HEADER_LEN]);
                return Some(Answer::Nothing(Some(Seen { header, generation, version })));
            }
        };
        let found = life_left(expiry_ms, now_ms).map(|life| Found { data, version, life });
        Some(found.map_or(Answer::Nothing(None), Answer::Found))
    }

    /// Deletes what is no entry, which would otherwise keep every fill out. That a writer may have put a good one there
    /// meanwhile only costs a miss.
    async fn discard(&self, full: &[String], deadline: Deadline) {
        if let Err(error) = self.redis.delete(full, deadline).await {
            log::debug!("could not delete unreadable cache entries: {error}");
        }
    }
}

/// What a transaction that dropped its key leaves.
fn dropped(generation: u64, version: u64) -> L2Entry {
    L2Entry { generation, version, accepted: false, expiry_ms: 0, content: Content::Dropped }
}

fn encode(entry: &L2Entry) -> Result<Vec<u8>> {
    entry.encode().ok_or_else(|| Error::task("the value is 4 GiB or longer"))
}

/// `None` once it has ended; `Some(None)` is for ever.
fn life_left(expiry_ms: u64, now_ms: u64) -> Option<Option<Duration>> {
    if expiry_ms == 0 {
        return Some(None);
    }
    expiry_ms.checked_sub(now_ms).filter(|&left| left > 0).map(|left| Some(Duration::from_millis(left)))
}
