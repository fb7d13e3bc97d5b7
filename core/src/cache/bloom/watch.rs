//! When a filter is built, and its figures.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;

use super::build::Built;
use super::known::MAY_SAY_NO;
use super::shape::{Shape, Wanted};
use super::standing::{Name, Register, Standing};
use super::{Declared, Filters};
use crate::base::backoff::Backoff;
use crate::base::service::StopSignal;
use crate::base::{Deadline, random};
use crate::error::Result;

/// How often it is seen to that what is known is fresh, while it is used.
const RENEW: Duration = Duration::from_millis(500);
/// How old it may be then where nobody has a filter. The next time it is two seconds old at most, so that no write waits for
/// it; of a filter to come everybody who commits knows in time all the same, as nobody commits on what is older.
const RENEW_NOTHING: Duration = Duration::from_millis(1_200);
/// For how long after the last use it is.
const IN_USE_MS: u64 = 60_000;
/// How often a declared filter is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What lies between two looks in any case.
const AT_LEAST: Duration = Duration::from_millis(50);
/// Time of one statement.
const STEP: Duration = Duration::from_secs(10);
/// Bounds of the pause after a build that failed, or that a writer without Redis has left open.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The figures of one family's filter.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BloomFigures {
    /// The pattern of the source.
    pub pattern: String,
    /// `"building"`: there is none yet, every key may exist. `"serving"`: it answers. `"open"`: a writer could not reach it,
    /// every key may exist until it is built anew. `"lost"`: Redis does not have it as it should be; it is built anew.
    pub state: &'static str,
    /// Counts the times that it was built.
    pub generation: u64,
    /// Keys that it is made for.
    pub capacity: u64,
    /// The part of its bits that are set, as last seen.
    pub fill: f64,
    /// Of keys that do not exist, the part that is "maybe", as the fill says.
    pub error_rate: f64,
    /// Questions that this process answered with "no".
    pub noes: u64,
}

/// What the watch remembers of a family.
#[derive(Default)]
pub(super) struct Watched {
    /// The generation that somebody found to be not as it should be.
    pub(super) suspect: Option<u64>,
    fill: f64,
    /// Pause before the next build.
    pause: Option<Backoff>,
    not_before_ms: u64,
}

impl Filters {
    /// The figures of every declared family, by pattern. No I/O.
    pub(crate) fn figures(&self) -> Vec<BloomFigures> {
        let families = self.known.reading().families;
        let declared = self.declared.lock();
        let figures = declared.iter().map(|(name, declared)| {
            let standing = families.iter().find(|it| it.name == *name);
            BloomFigures { pattern: name.1.clone(), ..figures(standing.map(|it| &**it), declared) }
        });
        figures.collect()
    }

    async fn look_at_all(&self, stop: &mut StopSignal) -> Result<()> {
        let declared: Vec<(Name, Arc<Declared>)> =
            self.declared.lock().iter().map(|(name, it)| (name.clone(), it.clone())).collect();
        if declared.is_empty() || self.shared.is_none() {
            return Ok(());
        }
        let reading = self.known.at_most(MAY_SAY_NO / 2, Deadline::after(STEP)).await?;
        for (name, declared) in declared {
            match reading.families.iter().find(|it| it.name == name) {
                Some(standing) => self.look_at(standing, &declared, stop).await,
                None => {
                    let register = Register { store: &*self.store, name: &name };
                    register.register(Deadline::after(STEP)).await?;
                    self.known.anew(Deadline::after(STEP)).await?;
                    self.wanted_now.notify_one();
                }
            }
        }
        Ok(())
    }

    async fn look_at(&self, standing: &Standing, declared: &Declared, stop: &mut StopSignal) {
        if let Err(error) = self.clear_retired(standing).await {
            log::debug!("a retired Bloom filter could not be removed yet: {error}");
        }
        let wanted = match self.wanted_of(standing, declared).await {
            Ok(Some(wanted)) => wanted,
            Ok(None) => return,
            Err(error) => return log::debug!("a Bloom filter could not be looked at: {error}"),
        };
        if standing.leased || self.known.now_ms() < declared.watched.lock().not_before_ms {
            return;
        }
        // What this release cannot read it cannot retire either.
        let lost = standing.strange
            || standing.serving.is_some_and(|it| declared.watched.lock().suspect == Some(it.generation));
        let built = self.build(standing, declared, wanted, lost, stop).await;
        let pattern = &standing.name.1;
        let pause = match built {
            Ok(Built::Serving) => false,
            Ok(Built::NotNow) => return,
            Ok(Built::StillOpen) => {
                log::info!("the Bloom filter of {pattern:?} stays open: a writer could not reach it");
                true
            }
            Err(error) => {
                log::warn!("the Bloom filter of {pattern:?} could not be built, trying again later: {error}");
                true
            }
        };
        {
            let mut watched = declared.watched.lock();
            watched.pause = watched.pause.take().filter(|_| pause);
            if pause {
                let backoff = watched.pause.get_or_insert_with(|| Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
                let delay = backoff.next_delay().as_millis() as u64;
                watched.not_before_ms = self.known.now_ms() + delay;
            }
        }
        if self.known.anew(Deadline::after(STEP)).await.is_ok() {
            // The next look has the figures, and removes what is retired.
            self.wanted_now.notify_one();
        }
    }

    /// What a new generation has to be made for; `None` if the one that serves will do.
    async fn wanted_of(&self, standing: &Standing, declared: &Declared) -> Result<Option<Wanted>> {
        let (Some(shape), Some(shared)) = (standing.serving, &self.shared) else {
            return Ok(Some(self.wanted));
        };
        let wanted = larger(shape.wanted, self.wanted);
        let whole =
            shared.sample(&standing.shelf, &shape, random::below(u64::from(shape.chunks())) as u32).await?;
        let mut watched = declared.watched.lock();
        let suspected = watched.suspect.take() == Some(shape.generation);
        let Some(fill) = whole.filter(|_| !suspected) else {
            // Until the flip, which brings another one.
            watched.suspect = Some(shape.generation);
            return Ok(Some(wanted));
        };
        watched.fill = fill;
        if is_saturated(&shape, fill) {
            return Ok(Some(Wanted {
                capacity: wanted.capacity.max(shape.wanted.capacity.saturating_mul(2)),
                ..wanted
            }));
        }
        Ok((standing.is_open() || wanted != shape.wanted).then_some(wanted))
    }
}

fn is_saturated(shape: &Shape, fill: f64) -> bool {
    shape.may_grow() && shape.keys_of_fill(fill) > shape.wanted.capacity as f64
}

/// Processes with other settings do not take a filter away from one another.
fn larger(one: Wanted, other: Wanted) -> Wanted {
    Wanted { capacity: one.capacity.max(other.capacity), error_rate: one.error_rate.min(other.error_rate) }
}

fn figures(standing: Option<&Standing>, declared: &Declared) -> BloomFigures {
    let noes = declared.noes.load(Ordering::Relaxed);
    let Some((standing, shape)) = standing.and_then(|it| Some((it, it.serving?))) else {
        return BloomFigures { state: "building", noes, ..BloomFigures::default() };
    };
    let watched = declared.watched.lock();
    let state = match () {
        () if standing.is_open() => "open",
        () if watched.suspect == Some(shape.generation) => "lost",
        () => "serving",
    };
    BloomFigures {
        pattern: String::new(),
        state,
        generation: shape.generation,
        capacity: shape.wanted.capacity,
        fill: watched.fill,
        error_rate: shape.error_of_fill(watched.fill),
        noes,
    }
}

/// Renews what is known while somebody uses it, so that nobody waits for that.
pub(super) async fn keep_fresh(filters: Weak<Filters>, mut stop: StopSignal) {
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(RENEW) => {}
        }
        let Some(filters) = filters.upgrade() else { return };
        let used = filters.used_ms.load(Ordering::Relaxed);
        if used == 0 || filters.known.now_ms().saturating_sub(used) > IN_USE_MS {
            continue;
        }
        let nothing = filters.known.reading().families.is_empty();
        let age = if nothing { RENEW_NOTHING } else { RENEW };
        let renewed = tokio::select! {
            () = stop.stopped() => return,
            renewed = filters.known.at_most(age, Deadline::after(STEP)) => renewed,
        };
        if let Err(error) = renewed {
            log::debug!("the state of Bloom filters could not be read: {error}");
        }
    }
}

/// Looks at the declared filters, and builds.
pub(super) async fn watch(filters: Weak<Filters>, mut stop: StopSignal) {
    loop {
        let Some(filters) = filters.upgrade() else { return };
        // Ends a build by itself when it should.
        if let Err(error) = filters.look_at_all(&mut stop).await {
            log::debug!("the Bloom filters could not be looked at: {error}");
        }
        tokio::select! {
            () = stop.stopped() => return,
            // However many doubts there are.
            () = tokio::time::sleep(AT_LEAST) => {}
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = filters.wanted_now.notified() => {}
            () = tokio::time::sleep(random::jitter(LOOK, 0.2)) => {}
        }
    }
}
