//! The writers' side: every key that a transaction names is in the filters before its COMMIT.
//!
//! ```text
//! prepare ─▶ transaction: statements, with an id ─▶ admit ─ added, or open to all ─▶ COMMIT
//!    ▲                                                 │ neither
//!    ╰──────── rolled back ◀────── the family is to be opened ◀╯
//! ```
//! `prepare` runs before a connection is taken, since an opening takes a second or two and a connection of its own; `admit`
//! runs when the transaction has its id, which is what a builder waits for.

use std::sync::Arc;

use futures_util::future::join;
use parking_lot::Mutex;

use super::known::{MAY_COMMIT, OPEN_TO_ALL};
use super::shape::{Place, Shape};
use super::standing::{Name, Register, Standing};
use super::{Filters, LOG_EVERY_MS};
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// For how long the bits of a family are not tried again that could not be reached.
const NOT_AGAIN_MS: u64 = 1_000;

/// Families whose bits this process could not reach.
#[derive(Default)]
pub(super) struct Unreached(Mutex<Vec<Failed>>);

struct Failed {
    name: Name,
    at_ms: u64,
    /// Whether it was what is being built that could not be added to.
    building: bool,
}

impl Unreached {
    fn note(&self, name: &Name, at_ms: u64, building: bool) {
        let mut all = self.0.lock();
        all.retain(|it| it.name != *name);
        all.push(Failed { name: name.clone(), at_ms, building });
    }

    fn forget(&self, name: &Name) {
        self.0.lock().retain(|it| it.name != *name);
    }

    /// Whether what is being built could not be reached; `None` if nothing of this family failed.
    fn building(&self, name: &Name) -> Option<bool> {
        self.0.lock().iter().find(|it| it.name == *name).map(|it| it.building)
    }

    fn is_recent(&self, name: &Name, now_ms: u64) -> bool {
        self.0.lock().iter().any(|it| it.name == *name && now_ms.saturating_sub(it.at_ms) < NOT_AGAIN_MS)
    }
}

impl Filters {
    /// Before the transaction: knows the families, and opens those whose bits could not be reached for an earlier try.
    ///
    /// # Errors
    /// `Store` or `Timeout` if PostgreSQL could not be asked; nothing may be committed then.
    pub(crate) async fn prepare<K: AsRef<str>>(&self, keys: &[K], deadline: Deadline) -> Result<()> {
        self.note_use();
        if keys.is_empty() {
            return Ok(());
        }
        let reading = self.known.at_most(MAY_COMMIT / 2, deadline).await?;
        for standing in touched(&reading.families, keys) {
            let Some(building) = self.unreached.building(&standing.name) else { continue };
            let covered = standing.is_open_to_all(self.known.now_ms(), OPEN_TO_ALL);
            if !covered || standing.needs_opening(building) {
                self.open(&standing.name, building, deadline).await?;
            }
        }
        Ok(())
    }

    /// After the transaction's statements, before its COMMIT: adds the keys, or makes sure that nobody says "no" to them.
    ///
    /// # Errors
    /// Retryable; the transaction has to be rolled back, and [`Filters::prepare`] called before the next try.
    pub(crate) async fn admit<K: AsRef<str>>(&self, keys: &[K], deadline: Deadline) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let reading = self.known.at_most(MAY_COMMIT, deadline).await?;
        for standing in touched(&reading.families, keys) {
            let mine: Vec<&str> = keys.iter().map(AsRef::as_ref).filter(|key| standing.fits(key)).collect();
            if !self.admit_to(standing, &mine, deadline).await {
                return Err(self.not_reached(&standing.name.1));
            }
        }
        Ok(())
    }

    async fn admit_to(&self, standing: &Standing, keys: &[&str], deadline: Deadline) -> bool {
        let now_ms = self.known.now_ms();
        // What is being built answers only after the flip, which does not close what was opened since.
        let needs_serving = !standing.is_open_to_all(now_ms, OPEN_TO_ALL);
        let needs_building = !standing.stays_open();
        let covered = !needs_serving && (!needs_building || standing.building.is_none());
        if covered && self.unreached.is_recent(&standing.name, now_ms) {
            return true;
        }
        if standing.strange && (needs_serving || needs_building) {
            self.unreached.note(&standing.name, now_ms, true);
            return false;
        }
        let add = |shape: Option<Shape>| async move {
            match shape {
                Some(shape) => self.add(standing, &shape, keys, deadline).await,
                None => true,
            }
        };
        let (serving, building) = join(add(standing.serving), add(standing.building)).await;
        if serving && building {
            self.unreached.forget(&standing.name);
        } else {
            self.unreached.note(&standing.name, self.known.now_ms(), !building);
        }
        (serving || !needs_serving) && (building || !needs_building)
    }

    async fn add(&self, standing: &Standing, shape: &Shape, keys: &[&str], deadline: Deadline) -> bool {
        let Some(shared) = &self.shared else { return false };
        let places: Vec<Place> = keys.iter().map(|key| shape.place(key)).collect();
        match shared.add(&standing.shelf, shape, &places, deadline).await {
            Ok(true) => {
                self.learn(&standing.name, shape, &places);
                true
            }
            Ok(false) => {
                self.suspect(&standing.name, shape);
                false
            }
            Err(error) => {
                log::debug!("a Bloom filter could not be added to: {error}");
                false
            }
        }
    }

    /// Sees to it that a family is open, and that everybody who may say "no" knows.
    async fn open(&self, name: &Name, building: bool, deadline: Deadline) -> Result<()> {
        let opening = self.opening.lock();
        let _one = deadline.run("waiting for a Bloom filter to be opened", opening).await?;
        let find = |families: &[Arc<Standing>]| families.iter().find(|it| it.name == *name).cloned();
        let mut standing = find(&self.known.anew(deadline).await?.families);
        if standing.as_ref().is_some_and(|it| it.needs_opening(building)) {
            Register { store: &*self.aside, name }.open(deadline).await?;
            standing = find(&self.known.anew(deadline).await?.families);
        }
        let Some(standing) = standing else { return Ok(()) };
        let open_for = standing.open_since_ms.map_or(0, |since| self.known.now_ms().saturating_sub(since));
        if standing.serving.is_some() || standing.strange {
            let left = OPEN_TO_ALL.saturating_sub(std::time::Duration::from_millis(open_for));
            deadline
                .run("until everybody knows that a Bloom filter is open", tokio::time::sleep(left))
                .await?;
        }
        Ok(())
    }

    fn not_reached(&self, pattern: &str) -> Error {
        if self.may_log(LOG_EVERY_MS) {
            log::warn!(
                "the Bloom filter of {pattern:?} cannot be reached: it is opened, so that nobody answers \"no\" from it, until \
                 it is built anew"
            );
        }
        let message = format!("the Bloom filter of {pattern:?} could not be added to before the COMMIT");
        Error::new(ErrorKind::Store, message).with_retryable(true)
    }
}

fn touched<'a, K: AsRef<str>>(
    families: &'a [Arc<Standing>],
    keys: &'a [K],
) -> impl Iterator<Item = &'a Arc<Standing>> {
    families.iter().filter(|standing| keys.iter().any(|key| standing.fits(key.as_ref())))
}
