//! The moves that need to know what is there: add, touch, count; and a look over many keys.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{Answer, L2, Seen, millis_or_never};
use crate::base::{Deadline, random};
use crate::cache::answer::{Found, life_left};
use crate::cache::header::{Content, HEADER_LEN, L2Entry, Span};
use crate::cache::left_alone::Use;
use crate::cache::life::Life;
use crate::cache::tags::VERSION_LIFE;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Scan;

/// Tries of a change that finds each time that somebody else was faster.
const TRIES: u32 = 16;
/// Keys that Redis looks at in one step of a scan.
const STEP: usize = 500;

/// What became of a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touched {
    /// There is no value.
    Nothing,
    /// It ends no earlier than before.
    Longer,
    /// It ends earlier.
    Sooner,
}

impl L2 {
    /// Sets a value if there is none; says whether it did.
    pub(crate) async fn add(
        &self,
        key: &str,
        content: Content,
        life: Life,
        deadline: Deadline,
    ) -> Result<bool> {
        let seen = match self.get(key, deadline).await? {
            Answer::Found(Found { data: Some(_), .. }) | Answer::Closed => return Ok(false),
            Answer::Nothing(seen) => seen,
            Answer::Found(_) | Answer::Busy => Seen::default(),
        };
        let generation = self.generation(deadline).await?;
        let (entry, px) = self.entry(generation, content, life, 0, deadline).await?;
        let args = [&entry[..], &px, &seen.head];
        self.run(&self.scripts.add, key, &self.keys.value(key), &args, deadline).await
    }

    /// Gives the value that is there another life.
    pub(crate) async fn touch(&self, key: &str, life: Life, deadline: Deadline) -> Result<Touched> {
        let full = self.keys.value(key);
        for _ in 0..TRIES {
            let (text, now_ms) = self.beside(self.redis.get(&full, deadline), deadline).await?;
            let header = text.as_ref().and_then(|text| text.first_chunk::<HEADER_LEN>()).copied();
            let answer = self.answers(vec![text], now_ms, deadline).await?.pop();
            let (Some(Answer::Found(Found { data: Some(_), life: before, .. })), Some(header)) =
                (answer, header)
            else {
                return Ok(Touched::Nothing);
            };
            let (px, expiry_ms) = self.end_of(life, deadline).await?;
            let new = L2Entry::with_life(header, Span::of(life.fresh), expiry_ms);
            let sooner = match (before, life.fresh) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(before), Some(life)) => life < before,
            };
            let told: &[u8] = if sooner { b"1" } else { b"0" };
            let args = [&header[..], &new, &millis_or_never(px), told];
            if self.run(&self.scripts.touch, key, &full, &args, deadline).await? {
                return Ok(if sooner { Touched::Sooner } else { Touched::Longer });
            }
        }
        Err(too_busy(key))
    }

    /// Adds to the counter under a key, which begins at 0 and then lives for `life`; gives the sum.
    ///
    /// # Errors
    /// `Task` if what is there is no number, or the sum has more than 64 bits; `Cache`, to be tried again, while a writer is
    /// under way.
    pub(crate) async fn incr(&self, key: &str, by: i64, life: Life, deadline: Deadline) -> Result<i64> {
        let (full, by) = (self.keys.value(key), by.to_string());
        let mut seen = Seen::default();
        for _ in 0..TRIES {
            let generation = self.known_generation(Use::Change, deadline).await?.to_be_bytes();
            let (px, expiry_ms) = self.end_of(life, deadline).await?;
            let (px, expiry) = (millis_or_never(px), expiry_ms.to_be_bytes());
            let args = [by.as_bytes(), &generation, &px, &expiry, &seen.head];
            let answer = self.run_for_bytes(&self.scripts.incr, key, &full, &args, deadline).await?;
            match &answer[..] {
                b"closed" => return Err(closed(key)),
                b"text" => return Err(no_counter(key)),
                b"over" => return Err(Error::task(format!("the counter {key:?} would exceed 64 bits"))),
                // Whether its tags were dropped only a reader knows.
                b"tagged" => match self.get(key, deadline).await? {
                    Answer::Nothing(unusable) => seen = unusable,
                    Answer::Found(_) => return Err(tagged(key)),
                    Answer::Busy | Answer::Closed => seen = Seen::default(),
                },
                digits => {
                    let sum = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                    return sum.ok_or_else(|| no_counter(key));
                }
            }
        }
        Err(too_busy(key))
    }

    /// The user's keys under a prefix that have a value, in order.
    pub(crate) async fn live_keys(&self, prefix: &str, deadline: Deadline) -> Result<Vec<String>> {
        let mut live = BTreeSet::new();
        let mut walk = self.scan(prefix, deadline).await?;
        while let Some(keys) = self.scan_on(prefix, &mut walk, deadline).await? {
            let heads = keys.iter().map(|key| self.has_value(key, deadline));
            let heads: Vec<bool> = join_all(heads).await.into_iter().collect::<Result<_>>()?;
            live.extend(keys.into_iter().zip(heads).filter(|(_, live)| *live).map(|(key, _)| key));
        }
        Ok(live.into_iter().collect())
    }

    /// Drops everything under a prefix, leases too; gives how many records there were.
    pub(crate) async fn drop_prefix(&self, prefix: &str, deadline: Deadline) -> Result<u64> {
        let (mut count, mut walk) = (0, self.scan(prefix, deadline).await?);
        while let Some(keys) = self.scan_on(prefix, &mut walk, deadline).await? {
            count += self.drop_keys(&keys, deadline).await?;
        }
        Ok(count)
    }

    /// Tells every process to empty its memory.
    pub(crate) async fn empty_memories(&self, deadline: Deadline) -> Result<()> {
        let channel = self.address.channel()?;
        self.redis.publish(channel, &self.address.empty(), deadline).await
    }

    /// Gives a tag another version, so that its entries are misses.
    pub(crate) async fn drop_tag(&self, tag: &str, deadline: Deadline) -> Result<()> {
        let (key, message) = (self.tags.key(tag), self.address.dropped_tag(tag));
        let (version, life) = (random::word().to_be_bytes(), VERSION_LIFE.as_millis().to_string());
        let (channel, script) = (self.address.channel()?, &self.scripts.untag);
        let args = [channel.as_bytes(), &message, &version, life.as_bytes()];
        self.redis.eval_int(script, &[&key], &args, deadline).await.map(|_| ())
    }

    /// Begins a walk over the keys under a prefix.
    async fn scan(&self, prefix: &str, deadline: Deadline) -> Result<Scan> {
        self.generation.get(deadline).await?;
        self.redis.scan(self.keys.values_with(prefix), STEP, deadline).await
    }

    /// A step of it; `None` after the last one. A key may come twice.
    async fn scan_on(
        &self,
        prefix: &str,
        walk: &mut Scan,
        deadline: Deadline,
    ) -> Result<Option<Vec<String>>> {
        let Some(full) = self.redis.scan_on(walk, deadline).await? else { return Ok(None) };
        let keys = full.iter().filter_map(|full| self.keys.user_key(std::str::from_utf8(full).ok()?));
        Ok(Some(keys.filter(|key| key.starts_with(prefix)).map(str::to_owned).collect()))
    }

    async fn has_value(&self, key: &str, deadline: Deadline) -> Result<bool> {
        let full = self.keys.value(key);
        let head = self.redis.get_start(&full, HEADER_LEN, deadline);
        let (head, now_ms) = self.beside(head, deadline).await?;
        match L2Entry::peek(&head) {
            Some(head) if head.tagged => {
                let found = self.get(key, deadline).await?;
                Ok(matches!(found, Answer::Found(Found { data: Some(_), .. })))
            }
            Some(head) => {
                let here = head.generation == self.generation.known();
                Ok(here && life_left(head.expiry_ms, now_ms).is_some())
            }
            None => Ok(false),
        }
    }
}

fn closed(key: &str) -> Error {
    let why = format!("the counter {key:?} was not changed: its key is being written, or of a later release");
    Error::new(ErrorKind::Cache, why)
}

fn too_busy(key: &str) -> Error {
    Error::new(ErrorKind::Cache, format!("the key {key:?} is changed all the time; try again"))
}

/// What [`L2::incr`] says of a value that it cannot count.
pub(crate) fn no_counter(key: &str) -> Error {
    Error::task(format!("the value under {key:?} is no decimal number of 64 bits, so it cannot be counted"))
}

fn tagged(key: &str) -> Error {
    Error::task(format!("the value under {key:?} has tags; a counter has none"))
}
