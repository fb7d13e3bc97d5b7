//! Redis as a cache: what other processes read or wrote.
//!
//! One record per key says all that a process has to know of the others, so that every move is one script about one key:
//! ```text
//!              lease                fill                       fence                        unfence
//! nothing ───────────────▶ lease ─────────▶ entry ───────────────────────▶ fence ─────────────────────▶ entry or nothing
//!    ▲                       │ its reader gave up, or went away  ▲  │ 1..n writers,         │ all went away
//!    ╰───────────────────────┴──────────── drop ─────────────────╯  ╰── put, drop: dirty ───┴──▶ nothing
//! ```
//! An entry that may still be read while it is loaded anew keeps its place: the lease is a mark behind it, which ends with
//! anything that happens to the entry.
//!
//! A read does not fill where a writer is under way, a writer does not leave its value where another one was under way
//! too, and what changes a key without a fence keeps those out who began before it.

pub(super) mod later;
pub(super) mod toolbox;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};

use crate::base::{Clock, Deadline, random};
use crate::cache::answer::{Answer, Last, Record, Seen};
use crate::cache::bus::Address;
use crate::cache::generation::Generation;
use crate::cache::header::{Content, Decoded, HEADER_LEN, L2Entry, Span};
use crate::cache::left_alone::{LeftAlone, Use};
use crate::cache::life::Life;
use crate::cache::scripts::Scripts;
use crate::cache::tagged::Tagged;
use crate::cache::tags::Tags;
use crate::error::{Error, Result};
use crate::redis::{Keyspace, Redis, RedisClock, Script, Together};
use crate::telemetry::Counters;

/// The right to fill a key, while it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    full: String,
    /// What the scripts know it by: its record, or the head of the entry and the token of the mark behind it.
    record: Vec<u8>,
    /// In which it was given: what is filled with it belongs there, whatever Redis was replaced by.
    generation: u64,
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
    /// Committed, with this value and life; the generation is that in which its fence went up.
    Value(Content, Life, u64),
    /// Committed without a value, or nobody knows.
    Dropped,
    /// It left nothing.
    Aborted,
}

/// The tier.
pub(crate) struct L2 {
    redis: Redis,
    clock: RedisClock,
    keys: Keyspace,
    generation: Arc<Generation>,
    scripts: Scripts,
    address: Arc<Address>,
    left_alone: Arc<LeftAlone>,
    tags: Arc<Tags>,
    counters: Arc<Counters>,
}

/// Everything that the tier needs.
pub(crate) struct L2Parts<'a> {
    pub(crate) redis: Redis,
    pub(crate) namespace: &'a str,
    /// Where it tells of its changes.
    pub(crate) address: Arc<Address>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) left_alone: Arc<LeftAlone>,
    pub(crate) tags: Arc<Tags>,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
}

impl L2 {
    /// The tier below a namespace. Nothing is sent yet.
    pub(crate) fn new(parts: L2Parts<'_>) -> L2 {
        let L2Parts { redis, namespace, address, generation, left_alone, tags, clock, counters } = parts;
        let keys = Keyspace::new(namespace);
        L2 {
            clock: RedisClock::new(redis.clone(), clock),
            generation,
            scripts: Scripts::new(),
            address,
            left_alone,
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
        let full = keys.iter().map(|key| self.keys.value(key));
        let (texts, now_ms) = self.beside(self.redis.get_many(full, deadline), deadline).await?;
        self.answers(texts, now_ms, deadline).await
    }

    /// The last that is known of a key, fresh or not.
    pub(crate) async fn last(&self, key: &str, deadline: Deadline) -> Result<Last> {
        let full = self.keys.value(key);
        let (text, now_ms) = self.beside(self.redis.get(&full, deadline), deadline).await?;
        let record = self.records(vec![text], deadline).await?.pop().flatten();
        Ok(Last::of(record, self.generation.known(), now_ms))
    }

    /// Asks to be the one who loads a key. The lease ends by itself after `life`.
    pub(crate) async fn lease(
        &self,
        key: &str,
        seen: &Seen,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Leased> {
        let generation = self.known_generation(Use::Read, deadline).await?;
        let (full, sequence) = (self.keys.value(key), random::word());
        let (span, content) = (Span::default(), Content::Lease);
        let record = encode(&L2Entry { generation, sequence, expiry_ms: 0, span, marked_ms: 0, content })?;
        let token = if seen.stays { sequence.to_be_bytes().to_vec() } else { Vec::new() };
        // Nobody is told of a lease.
        let args = [&b""[..], b"", &record, &millis(life), &seen.head, &token];
        let keys = [&full[..]];
        let asked = self.redis.eval_bytes(&self.scripts.lease, &keys, &args, deadline);
        let (answer, now_ms) = self.beside(asked, deadline).await?;
        match &answer[..] {
            b"yours" => Ok(Leased::Mine(Lease { full, record, generation })),
            b"marked" => Ok(Leased::Mine(Lease {
                full,
                record: [&seen.head[..HEADER_LEN], &token].concat(),
                generation,
            })),
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
        lease: &Lease,
        data: Option<Bytes>,
        life: Life,
        deadline: Deadline,
    ) -> Result<bool> {
        let content = data.map_or(Content::Absent, Content::Value);
        let (entry, px) = self.entry(lease.generation, content, life, 0, deadline).await?;
        self.run_quietly(&self.scripts.fill, &lease.full, &[&lease.record, &entry, &px], deadline).await
    }

    /// Keeps a lease for `life` from now on; no life gives it back. Says whether it was still there.
    pub(crate) async fn hold(&self, lease: &Lease, life: Duration, deadline: Deadline) -> Result<bool> {
        let life = life.as_millis().to_string();
        self.run_quietly(&self.scripts.hold, &lease.full, &[&lease.record, life.as_bytes()], deadline).await
    }

    /// The generation, asked for again if that is due.
    pub(crate) async fn generation(&self, deadline: Deadline) -> Result<u64> {
        self.known_generation(Use::Change, deadline).await
    }

    /// A writer begins: it counts as gone after `life`.
    pub(crate) async fn fence(
        &self,
        key: &str,
        token: &str,
        life: Duration,
        deadline: Deadline,
    ) -> Result<()> {
        self.left_alone.enter(Use::Change)?;
        self.left_alone.note(self.generation.get(deadline).await)?;
        self.run_together(&self.scripts.fence, key, &[token.as_bytes(), &millis(life)], deadline)
            .await
            .map(|_| ())
    }

    /// A writer ends; says whether its value, or that from before it, is there now.
    pub(crate) async fn unfence(&self, key: &str, token: &str, end: End, deadline: Deadline) -> Result<bool> {
        let (how, entry) = match end {
            End::Value(content, life, generation) if generation == self.generation(deadline).await? => {
                ("set", Some(self.entry(generation, content, life, 0, deadline).await?))
            }
            // Also where Redis was replaced meanwhile: it may have lost what else happened to the key.
            End::Value(..) | End::Dropped => ("drop", None),
            End::Aborted => ("keep", None),
        };
        let (entry, px) = entry.unwrap_or_default();
        let args = [token.as_bytes(), how.as_bytes(), &entry, &px];
        self.run_together(&self.scripts.unfence, key, &args, deadline).await
    }

    /// Sets a value that no transaction wrote, or, with the sequence of a delayed write, one that none has written yet. Says
    /// whether it is there: not while a writer is under way, and not before that of a later accepted write.
    pub(crate) async fn put(
        &self,
        key: &str,
        content: Content,
        life: Life,
        accepted: Option<u64>,
        deadline: Deadline,
    ) -> Result<bool> {
        let sequence = accepted.unwrap_or(0);
        let generation = self.generation(deadline).await?;
        let (entry, px) = self.entry(generation, content, life, sequence, deadline).await?;
        let script = if accepted.is_some() { &self.scripts.accept } else { &self.scripts.put };
        self.run_together(script, key, &[&entry, &px], deadline).await
    }

    /// Drops keys; gives how many there were.
    pub(crate) async fn drop_keys<K: AsRef<str>>(&self, keys: &[K], deadline: Deadline) -> Result<u64> {
        let drops = keys.iter().map(|key| self.run_together(&self.scripts.drop, key.as_ref(), &[], deadline));
        join_all(drops).await.into_iter().try_fold(0, |count, was| Ok(count + u64::from(was?)))
    }

    /// The server itself, for who watches over it.
    pub(crate) fn redis(&self) -> Redis {
        self.redis.clone()
    }

    /// A round trip.
    pub(crate) async fn ping(&self, deadline: Deadline) -> Result<Duration> {
        self.redis.ping(deadline).await
    }

    /// Runs a script about one key that tells nobody, whose answer is whether.
    async fn run_quietly(
        &self,
        script: &Script,
        full: &str,
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<bool> {
        let args: Vec<&[u8]> = [&b""[..], b""].into_iter().chain(args.iter().copied()).collect();
        Ok(self.redis.eval_int(script, &[full], &args, deadline).await? > 0)
    }

    /// Runs a script about one key that tells the other processes of it, whose answer is whether.
    async fn run(
        &self,
        script: &Script,
        key: &str,
        full: &str,
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<bool> {
        self.telling(key, args, async |args| self.redis.eval_int(script, &[full], args, deadline).await)
            .await
            .map(|answer| answer > 0)
    }

    /// The same, along with others that are run at this time.
    async fn run_together(
        &self,
        script: &Arc<Together>,
        key: &str,
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<bool> {
        let full = self.keys.value(key);
        // All of them tell of it on one channel.
        let run = async |args: &[&[u8]]| {
            let (channel, own) = args.split_at(1);
            self.redis.eval_together(script, &full, channel[0], own, deadline).await
        };
        self.telling(key, args, run).await.map(|answer| answer > 0)
    }

    /// As [`L2::run`], where the answer is a string.
    async fn run_for_bytes(
        &self,
        script: &Script,
        key: &str,
        full: &str,
        args: &[&[u8]],
        deadline: Deadline,
    ) -> Result<Bytes> {
        self.telling(key, args, async |args| self.redis.eval_bytes(script, &[full], args, deadline).await)
            .await
    }

    /// Runs a script that tells of a key, with what it needs for that before its arguments: the channel and what it says
    /// there.
    async fn telling<T>(
        &self,
        key: &str,
        args: &[&[u8]],
        run: impl AsyncFnOnce(&[&[u8]]) -> Result<T>,
    ) -> Result<T> {
        let (channel, message) = (self.address.channel()?, self.address.change_of(key));
        self.left_alone.enter(Use::Change)?;
        self.counters.invalidations_sent.inc();
        let args: Vec<&[u8]> =
            [channel.as_bytes(), &message].into_iter().chain(args.iter().copied()).collect();
        self.left_alone.leave(run(&args).await)
    }

    /// Runs a read with the renewals of time and generation on their way beside it. Gives Redis' time after it.
    async fn beside<T>(&self, read: impl Future<Output = Result<T>>, deadline: Deadline) -> Result<(T, u64)> {
        self.left_alone.enter(Use::Read)?;
        self.left_alone.note(self.generation.get(deadline).await)?;
        let read = self.clock.beside(read, deadline);
        let (read, ()) = join(read, self.generation.renew_if_due(deadline)).await;
        self.left_alone.leave(read)
    }

    /// The generation to write in.
    async fn known_generation(&self, what: Use, deadline: Deadline) -> Result<u64> {
        self.left_alone.enter(what)?;
        self.left_alone.note(self.generation.get_fresh(deadline).await)
    }

    /// The record of an entry, and its life in milliseconds for a script.
    async fn entry(
        &self,
        generation: u64,
        content: Content,
        life: Life,
        sequence: u64,
        deadline: Deadline,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let (px, expiry_ms) = self.end_of(life, deadline).await?;
        let span = Span::of(life.fresh);
        let record = encode(&L2Entry { generation, sequence, expiry_ms, span, marked_ms: 0, content })?;
        Ok((record, millis_or_never(px)))
    }

    /// How long Redis has what lives so, in milliseconds: for as long as it may be served when it is not fresh any more; and
    /// until when it is fresh, in Redis' time. 0 is never.
    async fn end_of(&self, life: Life, deadline: Deadline) -> Result<(u64, u64)> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let Some(fresh_ms) = life.fresh.map(|fresh| millis(fresh).max(1)) else { return Ok((0, 0)) };
        let now_ms = self.left_alone.note(self.clock.now_ms(deadline).await)?;
        Ok((fresh_ms.saturating_add(millis(life.stale)), now_ms.saturating_add(fresh_ms)))
    }

    /// What records say, in order.
    async fn answers(
        &self,
        texts: Vec<Option<Bytes>>,
        now_ms: u64,
        deadline: Deadline,
    ) -> Result<Vec<Answer>> {
        let records = self.records(texts, deadline).await?;
        let known = self.generation.known();
        Ok(records.into_iter().map(|record| Answer::of(record, known, now_ms)).collect())
    }

    /// Reads records, and sees to it that the generation is known in which they were written, and whether their tags hold.
    async fn records(&self, texts: Vec<Option<Bytes>>, deadline: Deadline) -> Result<Vec<Option<Record>>> {
        let decoded = texts.into_iter().map(|text| text.map(|text| (L2Entry::decode(&text), text)));
        let decoded: Vec<_> = decoded.collect();
        let known = self.generation.known();
        let of_another = |decoded: &Decoded| matches!(decoded, Decoded::Entry(it) if it.generation != known);
        // This process may not have heard of it.
        if decoded.iter().flatten().any(|(decoded, _)| of_another(decoded)) {
            self.generation.renew(deadline).await?;
        }
        let damaged = decoded.iter().flatten().filter(|(decoded, _)| *decoded == Decoded::Damaged);
        self.counters.l2_undecodable.add(damaged.count() as u64);
        let with_tags: Vec<&Tagged> =
            decoded.iter().flatten().filter_map(|(decoded, _)| tagged(decoded)).collect();
        // One verdict per tagged entry, in order.
        let mut verdicts = self.tags.judge(&with_tags, deadline).await?.into_iter();
        let judged = decoded.into_iter().map(|record| {
            record.map(|(decoded, text)| {
                let marks = if tagged(&decoded).is_some() { verdicts.next().flatten() } else { None };
                Record { decoded, text, marks }
            })
        });
        Ok(judged.collect())
    }
}

fn millis(life: Duration) -> Vec<u8> {
    life.as_millis().max(1).to_string().into_bytes()
}

fn millis_or_never(px: u64) -> Vec<u8> {
    px.to_string().into_bytes()
}

fn tagged(decoded: &Decoded) -> Option<&Tagged> {
    match decoded {
        Decoded::Entry(L2Entry { content: Content::Tagged(tagged), .. }) => Some(tagged),
        _ => None,
    }
}

fn encode(entry: &L2Entry) -> Result<Vec<u8>> {
    entry.encode().ok_or_else(|| Error::task("the value is 4 GiB or longer, or has too many tags"))
}
