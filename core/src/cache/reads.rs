//! Reads of the tiers: memory, then Redis, and what a hit leaves in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Caches;
use crate::base::{Deadline, clock};
use crate::cache::admit::Permit;
use crate::cache::answer::{Answer, Found, Seen};
use crate::cache::epochs::Epoch;
use crate::cache::l2::L2;
use crate::cache::life::{LifeRules, Stay};
use crate::cache::tags::Marks;
use crate::cache::warrant::{Warrant, WarrantWords};
use crate::error::{Error, ErrorKind, Result};

/// What a read of the tiers gave.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    /// A value, or `None` for a known absence.
    Hit(Option<Bytes>),
    /// The same, and whoever can should load it anew: it ends soon.
    Ahead(Option<Bytes>, Miss),
    /// Neither tier knows.
    Miss(Miss),
}

/// What to know about a miss in order to fill it.
#[derive(Debug, Clone)]
pub(crate) struct Miss {
    /// The epoch of the key's stripe before L2 was read.
    pub(crate) epoch: Epoch,
    /// Why L2 could not be asked, if that is why: the key may have a value there.
    pub(crate) error: Option<Error>,
    /// What may be done with what a source gives.
    pub(super) permit: Permit,
}

impl Caches {
    /// What L1 has: `Some(Some(_))` a value, `Some(None)` a known absence. No I/O.
    #[inline]
    pub(crate) fn peek(&self, key: &str) -> Option<Option<Bytes>> {
        self.peek_warranted(key).map(|(data, _)| data)
    }

    /// The same, with leave to answer further reads by it, unless L1 gives none.
    #[inline]
    pub(crate) fn peek_warranted(&self, key: &str) -> Option<(Option<Bytes>, Option<Warrant>)> {
        let found = self.l1.get_warranted(key)?;
        self.count_hit(&found.0);
        Some(found)
    }

    /// What L1 has and is fresh: a last good value does not count.
    pub(crate) fn peek_fresh(&self, key: &str) -> Option<Option<Bytes>> {
        let data = self.l1.get_fresh(key)?;
        self.count_hit(&data);
        Some(data)
    }

    #[inline]
    fn count_hit(&self, data: &Option<Bytes>) {
        self.counters.l1_hits.inc();
        if data.is_none() {
            self.counters.absent_hits.inc();
        }
    }

    /// What warrants are checked against.
    pub(crate) fn warrant_words(&self) -> WarrantWords {
        WarrantWords::new(self.epochs.clone(), self.trust.clone())
    }

    /// Counts reads that were answered under warrants, absences among them, and lets L1 know of one of their keys.
    pub(crate) fn count_warranted(&self, hits: u64, absences: u64, key: Option<&str>) {
        self.counters.l1_hits.add(hits);
        self.counters.absent_hits.add(absences);
        if let Some(key) = key {
            self.l1.note_hit(key);
        }
    }

    /// Monotonic milliseconds of the clock that deadlines lie on, precise.
    pub(crate) fn now_ms(&self) -> f64 {
        self.clock.mono_ns() as f64 / 1e6
    }

    /// L1, then L2.
    #[cfg(test)]
    pub(crate) async fn get(&self, key: &Arc<str>, deadline: Deadline) -> Lookup {
        match self.peek(key) {
            Some(data) => Lookup::Hit(data),
            None => self.get_shared(key, deadline).await,
        }
    }

    /// L2 alone, for who has looked into L1 already. A hit enters L1.
    pub(crate) async fn get_shared(&self, key: &Arc<str>, deadline: Deadline) -> Lookup {
        let lookup = match &self.l2 {
            Some(l2) => self.look(l2, key, deadline).await,
            None => self.look_in_memory(key),
        };
        self.count(&lookup);
        lookup
    }

    pub(super) async fn look(&self, l2: &L2, key: &Arc<str>, deadline: Deadline) -> Lookup {
        let epoch = self.epochs.epoch(key);
        match self.timed(l2.get(key, deadline)).await {
            Ok(answer) => self.take_in(key, answer, epoch),
            Err(error) => self.failed(epoch, error),
        }
    }

    /// L1, then one MGET for what is missing there; one result per key, in order.
    #[cfg(test)]
    pub(crate) async fn get_many(&self, keys: &[Arc<str>], deadline: Deadline) -> Vec<Lookup> {
        let mut all: Vec<Option<Lookup>> = keys.iter().map(|key| self.peek(key).map(Lookup::Hit)).collect();
        let missing: Vec<Arc<str>> =
            keys.iter().zip(&all).filter(|(_, found)| found.is_none()).map(|(key, _)| key.clone()).collect();
        let mut shared = self.get_many_shared(&missing, deadline).await.into_iter();
        for slot in all.iter_mut().filter(|slot| slot.is_none()) {
            *slot = shared.next();
        }
        all.into_iter().flatten().collect()
    }

    /// L2 alone for many keys: one MGET; one result per key, in order.
    pub(crate) async fn get_many_shared(&self, keys: &[Arc<str>], deadline: Deadline) -> Vec<Lookup> {
        let epochs: Vec<Epoch> = keys.iter().map(|key| self.epochs.epoch(key)).collect();
        let lookups: Vec<Lookup> = match self.l2.as_ref().filter(|_| !keys.is_empty()) {
            Some(l2) => match self.timed(l2.get_many(keys, deadline)).await {
                Ok(found) => {
                    let each = keys.iter().zip(found).zip(epochs);
                    each.map(|((key, answer), epoch)| self.take_in(key, answer, epoch)).collect()
                }
                Err(error) => epochs.into_iter().map(|epoch| self.failed(epoch, error.clone())).collect(),
            },
            None => keys.iter().map(|key| self.look_in_memory(key)).collect(),
        };
        lookups.iter().for_each(|lookup| self.count(lookup));
        lookups
    }

    /// A read of Redis, whose time counts if it was answered.
    async fn timed<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let began = clock::now();
        let answer = self.while_coherent(read).await?;
        self.counters.l2_reads.record(began.elapsed());
        Ok(answer)
    }

    fn count(&self, lookup: &Lookup) {
        if matches!(lookup, Lookup::Miss(_)) {
            self.counters.misses.inc();
        }
    }

    /// A read of L2, which says nothing while the other processes are not heard.
    pub(super) async fn while_coherent<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let heard = || self.bus.as_ref().and_then(|bus| bus.heard());
        let before = heard().ok_or_else(deaf)?;
        let found = read.await?;
        if heard() == Some(before) { Ok(found) } else { Err(deaf()) }
    }

    pub(super) fn take_in(&self, key: &Arc<str>, answer: Answer, epoch: Epoch) -> Lookup {
        let Found { data, life, span, seen, marks } = match answer {
            Answer::Found(found) => found,
            Answer::Nothing(seen) => return miss(epoch, Permit::Ask(seen)),
            Answer::Busy => return miss(epoch, Permit::Wait),
            // Who is about to read around a fence says so there.
            Answer::Closed => return miss(epoch, Permit::Ask(Seen::default())),
        };
        self.counters.l2_hits.inc();
        if data.is_none() {
            self.counters.absent_hits.inc();
        }
        if let (_, true) = self.keep(key, data.clone(), (life, span), &self.rules(key), epoch, marks) {
            return Lookup::Ahead(data, Miss { epoch, error: None, permit: Permit::Ask(seen) });
        }
        Lookup::Hit(data)
    }

    /// Keeps in L1 what was read, by what is left of its life and the life that it was given; says whether it did, and whether
    /// it should be loaded anew.
    pub(super) fn keep(
        &self,
        key: &Arc<str>,
        data: Option<Bytes>,
        (left, span): (Option<Duration>, Option<Duration>),
        rules: &LifeRules,
        seen: Epoch,
        marks: Option<Marks>,
    ) -> (bool, bool) {
        let (stay, due) = match &data {
            Some(_) => rules.stay(left, span),
            None => (Stay::plain(rules.in_l1(left)), false),
        };
        let kept = self.l1.insert_gated(key, data, stay, seen, marks);
        if !kept {
            self.counters.l1_refused.inc();
        }
        (kept, due)
    }

    /// L2 did not answer: what a source gives stays in this process.
    pub(super) fn failed(&self, epoch: Epoch, error: Error) -> Lookup {
        self.note_failure(&error);
        Lookup::Miss(Miss { epoch, error: Some(error), permit: Permit::Memory })
    }
}

pub(super) fn deaf() -> Error {
    let why =
        "Redis is not read while the bus of invalidations, on which processes hear of one another, is silent";
    Error::new(ErrorKind::Cache, why)
}

pub(super) fn miss(epoch: Epoch, permit: Permit) -> Lookup {
    Lookup::Miss(Miss { epoch, error: None, permit })
}
