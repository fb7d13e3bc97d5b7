//! Who asks the source: of all processes one per key at a time.
//!
//! ```text
//!         nothing there                 loaded: fill, and all who wait find it
//! miss ─────────────────▶ lease held ────────────────────────────────────────▶ entry
//!   │ somebody holds it        ╰── failed: given back; went away: ends by itself ──▶ nothing, for the next one to ask
//!   ╰─▶ waits up to `lease_wait`, then loads without the right to fill
//! ```
//! A lease is short and held for longer while its load runs, so that one whose process was killed holds nobody up for
//! longer than `lease_wait`. Where a writer is under way nobody gets one: whoever reads then asks the source and keeps
//! nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use super::reads::miss;
use super::{Caches, Lookup, Miss, SourceLife};
use crate::base::crash::crash;
use crate::base::{Deadline, clock, random};
use crate::cache::answer::{Answer, Seen};
use crate::cache::l2::{L2, Lease, Leased};

/// The first pause of who waits for another process, and the longest one.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// What a reader may do with what its source gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permit {
    /// It has yet to ask for a lease, which may replace this.
    Ask(Seen),
    /// It has yet to wait for another process.
    Wait,
    /// Fill L2 and L1.
    Lease(Lease),
    /// Keep it in L1: there is no L2, or it did not answer.
    Memory,
    /// Nothing.
    Nothing,
}

impl Miss {
    /// Whether who was given this when it asked for a lease is the one to load the key anew.
    pub(crate) fn may_refresh(&self) -> bool {
        self.error.is_none() && matches!(self.permit, Permit::Lease(_) | Permit::Memory)
    }

    /// Whether another process loads the key.
    pub(crate) fn is_busy(&self) -> bool {
        self.permit == Permit::Wait
    }
}

impl Caches {
    /// For who will ask the source: the right to fill, or what another process loaded meanwhile.
    pub(crate) async fn admit(&self, key: &Arc<str>, miss: Miss, deadline: Deadline) -> Lookup {
        let Some(l2) = &self.l2 else { return Lookup::Miss(miss) };
        let mut waiting = None;
        let lookup = self.lead_or_wait(l2, key, miss, &mut waiting, deadline).await;
        if let Some(began) = waiting {
            self.counters.lease_wait_times.record(began.elapsed());
        }
        lookup
    }

    /// Notes when it began to wait, if it did.
    async fn lead_or_wait(
        &self,
        l2: &L2,
        key: &Arc<str>,
        miss: Miss,
        waiting: &mut Option<Instant>,
        deadline: Deadline,
    ) -> Lookup {
        let give_up = deadline.at_most(self.lease_wait);
        let (mut pause, mut lookup) = (PAUSES[0], Lookup::Miss(miss));
        loop {
            let Lookup::Miss(miss) = lookup else { return lookup };
            lookup = match &miss.permit {
                Permit::Ask(_) => self.ask_once(key, &miss, deadline).await,
                Permit::Wait if !give_up.passed() => {
                    waiting.get_or_insert_with(|| {
                        self.counters.lease_waits.inc();
                        clock::now()
                    });
                    tokio::time::sleep(random::jitter(pause, 0.5)).await;
                    pause = (pause * 2).min(PAUSES[1]);
                    self.look(l2, key, deadline).await
                }
                Permit::Wait => return Lookup::Miss(Miss { permit: Permit::Nothing, ..miss }),
                Permit::Lease(_) | Permit::Memory | Permit::Nothing => return Lookup::Miss(miss),
            };
        }
    }

    /// Asks for a lease, if that is what this miss needs, and waits for nobody.
    pub(crate) async fn ask_once(&self, key: &Arc<str>, seen: &Miss, deadline: Deadline) -> Lookup {
        let (Some(l2), Permit::Ask(seen)) = (&self.l2, &seen.permit) else {
            return Lookup::Miss(seen.clone());
        };
        // From before: what the source gives is read after the lease began.
        let epoch = self.epochs.epoch(key);
        match self.while_coherent(l2.lease(key, seen, self.lease_wait, deadline)).await {
            Ok(Leased::Mine(lease)) => miss(epoch, Permit::Lease(lease)),
            // Not asked twice: what is there by now cannot be used either.
            Ok(Leased::Other(Answer::Nothing(_) | Answer::Closed)) => miss(epoch, Permit::Nothing),
            Ok(Leased::Other(answer)) => self.take_in(key, answer, epoch),
            Err(error) => self.failed(epoch, error),
        }
    }

    /// Runs a load, and keeps its lease meanwhile.
    pub(crate) async fn holding<T>(&self, key: &Arc<str>, miss: &Miss, load: impl Future<Output = T>) -> T {
        self.holding_all(&[(key.clone(), miss.clone())], load).await
    }

    /// The same for many keys that are loaded together.
    pub(crate) async fn holding_all<T>(
        &self,
        misses: &[(Arc<str>, Miss)],
        load: impl Future<Output = T>,
    ) -> T {
        tokio::select! {
            done = load => done,
            never = self.hold(misses) => match never {},
        }
    }

    async fn hold(&self, misses: &[(Arc<str>, Miss)]) -> Infallible {
        loop {
            tokio::time::sleep(self.lease_wait / 2).await;
            let Some(l2) = &self.l2 else { continue };
            let deadline = Deadline::after(self.lease_wait / 2);
            let held = misses.iter().filter_map(|(_, miss)| match &miss.permit {
                Permit::Lease(lease) => Some(l2.hold(lease, self.lease_wait, deadline)),
                _ => None,
            });
            if let Some(error) = join_all(held).await.into_iter().find_map(Result::err) {
                log::debug!("a lease could not be kept: {error}");
            }
        }
    }

    /// A load failed: whoever waits may be the next one to ask.
    pub(crate) async fn give_up(&self, miss: &Miss, deadline: Deadline) {
        if let (Some(l2), Permit::Lease(lease)) = (&self.l2, &miss.permit)
            && let Err(error) = l2.hold(lease, Duration::ZERO, deadline).await
        {
            log::debug!("a lease could not be given back: {error}");
        }
    }

    /// Keeps what a source gave, as far as the reader may. Never fails: the reader has its value.
    ///
    /// Run it to its end even if the reader goes away; see [`super::Loader::load`].
    pub(crate) async fn fill(
        &self,
        key: &Arc<str>,
        data: Option<Bytes>,
        own: &SourceLife,
        miss: &Miss,
        deadline: Deadline,
    ) {
        crash!("read.before_fill");
        let rules = self.life.with(own);
        let life = match data {
            Some(_) => rules.of_value(own.ttl),
            None => rules.of_absence(own.absent_ttl),
        };
        let keeps = match (&self.l2, &miss.permit) {
            (Some(l2), Permit::Lease(lease)) => {
                let filled = l2.fill(lease, data.clone(), life, deadline).await;
                // What Redis does not take stays in this process, which still hears of changes for as long as it reads L1.
                filled.inspect_err(|error| self.note_failure(error)).unwrap_or(true)
            }
            (_, Permit::Memory) => true,
            _ => false,
        };
        if keeps {
            let (kept, _) = self.keep(key, data, (life.fresh, life.fresh), &rules, miss.epoch, None);
            self.counters.cache_fills.inc();
            if miss.error.is_some() {
                // What Redis or a source has said to somebody else meanwhile may be older than this, be it on its way or there.
                if kept {
                    self.l1.refuse_older(key)
                } else {
                    self.l1.hear(key)
                }
                self.loader.forget(key);
            }
        } else {
            self.counters.fills_refused.inc();
            self.look_around(deadline).await;
            // The key is changing, and this reader may have what comes next: nobody who reads after it is to find what was
            // there before, in memory, on its way there from a write of this process, or in a load that began earlier.
            self.l1.hear(key);
            self.loader.forget(key);
        }
    }

    /// For who read around a fence, or lost his lease: see around.rs. Not for longer than the outbox is left alone otherwise.
    async fn look_around(&self, deadline: Deadline) {
        let Some(relay) = self.relay.get().filter(|_| self.l2.is_some()) else { return };
        let within = deadline.at_most(self.coherence_bound / 4);
        if let Err(error) = self.around.look(relay, within).await {
            log::debug!("the outbox could not be looked into after a read around a fence: {error}");
        }
    }
}
