//! Redis as a cache: what other processes read or wrote.
//!
//! One record per key says all that a process has to know of the others, so that every move is one script about one key:
//! ```text
//!              lease                fill                       fence                        unfence
//! nothing ───────────────▶ lease ─────────▶ entry ───────────────────────▶ fence ─────────────────────▶ entry or nothing
//!    ▲                       │ its reader gave up, or went away  ▲  │ 1..n writers,         │ all went away
//!    ╰───────────────────────┴──────────── drop ─────────────────╯  ╰── put, drop: dirty ───┴──▶ nothing
//! ```
//! A read does not fill where a writer is under way, a writer does not leave its value where another one was under way
//! too, and what changes a key without a fence keeps those out who began before it.

pub(super) mod toolbox;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};

use crate::base::{Clock, Deadline, random};
use crate::cache::bus::Address;
use crate::cache::generation::Generation;
use crate::cache::header::{Content, Decoded, HEADER_LEN, L2Entry};
use crate::cache::scripts::Scripts;
use crate::cache::tagged::Tagged;
use crate::cache::tags::{Marks, Tags};
use crate::error::{Error, Result};
use crate::redis::{Keyspace, Redis, RedisClock, Script};
use crate::telemetry::Counters;

/// What L2 had under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The value; `None` is a known absence.
    pub(crate) data: Option<Bytes>,
    /// What is left of its life; `None` is for ever.
    pub(crate) life: Option<Duration>,
    /// If it has tags: where they were before that was known.
    pub(crate) marks: Option<Marks>,
}

/// What a read of a key gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A value or an absence.
    Found(Found),
    /// Neither.
    Nothing(Seen),
    /// Somebody is loading it.
    Busy,
    /// Nothing that may be read, and nothing may be put there.
    Closed,
}

/// The head of a record that this reader could not use, which its lease may replace. Empty if there was none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen(Bytes);

/// The right to fill a key, while it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    full: String,
    record: Vec<u8>,
}

/// What asking for a lease gave.
#[derive(Debug)]
pub(crate) enum Leased {
    /// The caller is to load.
    Mine(Lease),
    /// As of a read.
    Other(Answer),
}

/// How a writer's transaction ended.
pub(crate) enum End {
    /// Committed, with this value and life.
    Value(Content, Option<Duration>),
    /// Committed without a value, or nobody knows.
    Dropped,
    /// It left nothing.
    Aborted,
}

/// What a write that commits later than it was cached leaves under its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stays {
    /// The value of this SHA-1.
    Digest([u8; 20]),
    /// The value of the accepted write with this sequence, or of a later one.
    Since(u64),
}

/// The tier.
pub(crate) struct L2 {
    redis: Redis,
    clock: RedisClock,
    keys: Keyspace,
    generation: Arc<Generation>,
    scripts: Scripts,
    address: Arc<Address>,
    tags: Arc<Tags>,
    counters: Arc<Counters>,
}

impl L2 {
    /// The tier below `namespace`, which tells of its changes at `address`. Nothing is sent yet.
    pub(crate) fn new(
        redis: Redis,
        namespace: &str,
        address: Arc<Address>,
        generation: Arc<Generation>,
        tags: Arc<Tags>,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> L2 {
        let keys = Keyspace::new(namespace);
        L2 {
            clock: RedisClock::new(redis.clone(), clock),
            generation,
            scripts: Scripts::new(),
            address,
            tags,
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
        Ok(self.answers(vec![text], now_ms, deadline).await?.pop().unwrap_or(Answer::Closed))
    }

    /// The same for many keys, in order, with one MGET.
    pub(crate) async fn get_many(&self, keys: &[Arc<str>], deadline: Deadline) -> Result<Vec<Answer>> {
        let full: Vec<String> = keys.iter().map(|key| self.keys.value(key)).collect();
        let (texts, now_ms) = self.beside(self.redis.get_many(&full, deadline), deadline).await?;
        self.answers(texts, now_ms, deadline).await
    }

    /// Asks to be the one who loads a key. The lease ends by itself after `life`.
    pub(crate) async fn lease(
        &self,
        key: &str,
        seen: &Seen,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Leased> {
        let generation = self.generation.get_fresh(deadline).await?;
        let (sequence, content) = (random::word(), Content::Lease);
        let record = encode(&L2Entry { generation, sequence, expiry_ms: 0, content })?;
        let lease = Lease { full: self.keys.value(key), record };
        // Nobody is told of a lease.
        let args = [&b""[..], b"", &lease.record, &millis(life), &seen.0];
        let keys = [&lease.full[..]];
        let asked = self.redis.eval_bytes(&self.scripts.lease, &keys, &args, deadline);
        let (answer, now_ms) = self.beside(asked, deadline).await?;
        match &answer[..] {
            b"yours" => Ok(Leased::Mine(lease)),
            b"busy" => Ok(Leased::Other(Answer::Busy)),
            b"closed" => Ok(Leased::Other(Answer::Closed)),
            _ => {
                let answers = self.answers(vec![Some(answer)], now_ms, deadline).await?;
                Ok(Leased::Other(answers.into_iter().next().unwrap_or(Answer::Closed)))
            }
        }
    }

    /// Sets what a source gave, if the lease lived all the time; says whether it did.
    pub(crate) async fn fill(
        &self,
        key: &str,
        lease: &Lease,
        data: Option<Bytes>,
        life: Option<Duration>,
        deadline: Deadline,
    ) -> Result<bool> {
        let content = data.map_or(Content::Absent, Content::Value);
        let (entry, px) = self.entry(content, life, 0, deadline).await?;
        self.run(&self.scripts.fill, key, &lease.full, &[&lease.record, &entry, &px], deadline).await
    }

    /// Keeps a lease for `life` from now on; no life gives it back. Says whether it was still there.
    pub(crate) async fn hold(
        &self,
        key: &str,
        lease: &Lease,
        life: Duration,
        deadline: Deadline,
    ) -> Result<bool> {
        let life = life.as_millis().to_string();
        self.run(&self.scripts.hold, key, &lease.full, &[&lease.record, life.as_bytes()], deadline).await
    }

    /// A writer begins: it counts as gone after `life`.
    pub(crate) async fn fence(
        &self,
        key: &str,
        token: &str,
        life: Duration,
        deadline: Deadline,
    ) -> Result<()> {
        self.generation.get(deadline).await?;
        let full = self.keys.value(key);
        self.run(&self.scripts.fence, key, &full, &[token.as_bytes(), &millis(life)], deadline)
            .await
            .map(|_| ())
    }

    /// A writer ends; says whether its value, or that from before it, is there now.
    pub(crate) async fn unfence(&self, key: &str, token: &str, end: End, deadline: Deadline) -> Result<bool> {
        let (how, entry) = match end {
            End::Value(content, life) => ("set", Some(self.entry(content, life, 0, deadline).await?)),
            End::Dropped => ("drop", None),
            End::Aborted => ("keep", None),
        };
        let (entry, px) = entry.unwrap_or_default();
        let args = [token.as_bytes(), how.as_bytes(), &entry, &px];
        self.run(&self.scripts.unfence, key, &self.keys.value(key), &args, deadline).await
    }

    /// Sets a value that no transaction wrote, or, with the sequence of a delayed write, one that none has written yet. Says
    /// whether it is there: not while a writer is under way, and not before that of a later accepted write.
    pub(crate) async fn put(
        &self,
        key: &str,
        content: Content,
        life: Option<Duration>,
        accepted: Option<u64>,
        deadline: Deadline,
    ) -> Result<bool> {
        let sequence = accepted.unwrap_or(0);
        let (entry, px) = self.entry(content, life, sequence, deadline).await?;
        let script = if accepted.is_some() { &self.scripts.accept } else { &self.scripts.put };
        self.run(script, key, &self.keys.value(key), &[&entry, &px], deadline).await
    }

    /// Drops keys; gives how many there were.
    pub(crate) async fn drop_keys<K: AsRef<str>>(&self, keys: &[K], deadline: Deadline) -> Result<u64> {
        let drops = keys.iter().map(|key| async {
            let key = key.as_ref();
            self.run(&self.scripts.drop, key, &self.keys.value(key), &[], deadline).await
        });
        join_all(drops).await.into_iter().try_fold(0, |count, was| Ok(count + u64::from(was?)))
    }

    /// Drops a key unless it holds what may stay; says whether it does.
    pub(crate) async fn drop_unless(&self, key: &str, stays: Stays, deadline: Deadline) -> Result<bool> {
        let generation = self.generation.get_fresh(deadline).await?.to_be_bytes();
        let (hex, sequence) = match stays {
            Stays::Digest(digest) => (digest.iter().map(|byte| format!("{byte:02x}")).collect(), Vec::new()),
            Stays::Since(sequence) => (String::new(), sequence.to_be_bytes().to_vec()),
        };
        let args = [hex.as_bytes(), &sequence, &generation];
        self.run(&self.scripts.drop_unless, key, &self.keys.value(key), &args, deadline).await
    }

    /// A round trip.
    pub(crate) async fn ping(&self, deadline: Deadline) -> Result<Duration> {
        self.redis.ping(deadline).await
    }

    /// Runs a script about one key whose answer is whether.
    async fn run(
        &self,
        script: &Script,
        key: &str,
        full: &str,
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<bool> {
        let (channel, message) = (self.address.channel()?, self.address.change_of(key));
        let args = told(channel, &message, args);
        Ok(self.redis.eval_int(script, &[full], &args, deadline).await? > 0)
    }

    /// Runs a script about one key whose answer is a string.
    async fn run_for_bytes(
        &self,
        script: &Script,
        key: &str,
        full: &str,
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<Bytes> {
        let (channel, message) = (self.address.channel()?, self.address.change_of(key));
        self.redis.eval_bytes(script, &[full], &told(channel, &message, args), deadline).await
    }

    /// Runs a read with the renewals of time and generation on their way beside it. Gives Redis' time after it.
    async fn beside<T>(&self, read: impl Future<Output = Result<T>>, deadline: Deadline) -> Result<(T, u64)> {
        self.generation.get(deadline).await?;
        let read = self.clock.beside(read, deadline);
        let (read, ()) = join(read, self.generation.renew_if_due(deadline)).await;
        read
    }

    /// The record of an entry, and its life in milliseconds for a script.
    async fn entry(
        &self,
        content: Content,
        life: Option<Duration>,
        sequence: u64,
        deadline: Deadline,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let generation = self.generation.get_fresh(deadline).await?;
        let (px, expiry_ms) = self.end_of(life, deadline).await?;
        let record = encode(&L2Entry { generation, sequence, expiry_ms, content })?;
        Ok((record, millis_or_never(px)))
    }

    /// A life in milliseconds, and when it ends in Redis' time; 0 is never.
    async fn end_of(&self, life: Option<Duration>, deadline: Deadline) -> Result<(Option<u64>, u64)> {
        let px = life.map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1));
        let expiry_ms = match px {
            Some(px) => self.clock.now_ms(deadline).await?.saturating_add(px),
            None => 0,
        };
        Ok((px, expiry_ms))
    }

    /// What records say, in order.
    async fn answers(
        &self,
        texts: Vec<Option<Bytes>>,
        now_ms: u64,
        deadline: Deadline,
    ) -> Result<Vec<Answer>> {
        let decoded = texts.into_iter().map(|text| text.map(|text| (L2Entry::decode(&text), text)));
        let decoded: Vec<_> = decoded.collect();
        let known = self.generation.known();
        let of_another = |decoded: &Decoded| matches!(decoded, Decoded::Entry(it) if it.generation != known);
        // This process may not have heard of it.
        if decoded.iter().flatten().any(|(decoded, _)| of_another(decoded)) {
            self.generation.renew(deadline).await?;
        }
        let with_tags: Vec<&Tagged> =
            decoded.iter().flatten().filter_map(|(decoded, _)| tagged(decoded)).collect();
        // One verdict per tagged entry, in order.
        let mut verdicts = self.tags.judge(&with_tags, deadline).await?.into_iter();
        let judged = decoded.into_iter().map(|record| {
            let has_tags = record.as_ref().is_some_and(|(decoded, _)| tagged(decoded).is_some());
            let verdict = if has_tags { verdicts.next().flatten() } else { None };
            self.answer(record, verdict, now_ms)
        });
        Ok(judged.collect())
    }

    fn answer(&self, record: Option<(Decoded, Bytes)>, marks: Option<Marks>, now_ms: u64) -> Answer {
        let Some((decoded, text)) = record else { return Answer::Nothing(Seen::default()) };
        let head = tagged(&decoded).map_or(HEADER_LEN, |tagged| text.len() - tagged.data.len());
        // Copied, so that the load does not hold the old value.
        let unusable = || Answer::Nothing(Seen(Bytes::copy_from_slice(&text[..text.len().min(head)])));
        let L2Entry { generation, expiry_ms, content, .. } = match decoded {
            Decoded::Entry(entry) => entry,
            Decoded::Fence | Decoded::Later => return Answer::Closed,
            Decoded::Damaged => {
                self.counters.l2_undecodable.inc();
                return unusable();
            }
        };
        let data = match content {
            Content::Value(data) => Some(data),
            Content::Tagged(_) if marks.is_none() => return unusable(),
            Content::Tagged(tagged) => Some(tagged.data),
            Content::Absent => None,
            Content::Lease => return Answer::Busy,
        };
        if generation != self.generation.known() {
            return unusable();
        }
        life_left(expiry_ms, now_ms).map_or_else(unusable, |life| Answer::Found(Found { data, life, marks }))
    }
}

fn millis(life: Duration) -> Vec<u8> {
    life.as_millis().max(1).to_string().into_bytes()
}

fn millis_or_never(px: Option<u64>) -> Vec<u8> {
    px.unwrap_or(0).to_string().into_bytes()
}

fn tagged(decoded: &Decoded) -> Option<&Tagged> {
    match decoded {
        Decoded::Entry(L2Entry { content: Content::Tagged(tagged), .. }) => Some(tagged),
        _ => None,
    }
}

/// The arguments of a script that tells of what it does.
fn told<'a>(channel: &'a str, message: &'a [u8], args: &[&'a [u8]]) -> Vec<&'a [u8]> {
    [channel.as_bytes(), message].into_iter().chain(args.iter().copied()).collect()
}

fn encode(entry: &L2Entry) -> Result<Vec<u8>> {
    entry.encode().ok_or_else(|| Error::task("the value is 4 GiB or longer, or has too many tags"))
}

/// `None` once it has ended; `Some(None)` is for ever.
fn life_left(expiry_ms: u64, now_ms: u64) -> Option<Option<Duration>> {
    if expiry_ms == 0 {
        return Some(None);
    }
    expiry_ms.checked_sub(now_ms).filter(|&left| left > 0).map(|left| Some(Duration::from_millis(left)))
}
