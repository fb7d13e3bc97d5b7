//! What this process knows of the families, and how old that is.
//!
//! The age counts from before the question was sent. It is what both sides of the protocol lean on: who says "no" knows
//! what was published [`MAY_SAY_NO`] ago, who commits knows what was published [`MAY_COMMIT`] ago.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::standing::{self, Standing};
use crate::base::{Clock, Deadline};
use crate::error::Result;
use crate::store::Store;

/// Who knows no newer than this says no "no".
pub(super) const MAY_SAY_NO: Duration = Duration::from_secs(2);
/// After that time everybody who says "no" knows of an opening. The difference is for clocks that run apart.
pub(super) const OPEN_TO_ALL: Duration = Duration::from_millis(2_100);
/// Who knows no newer than this does not commit rows.
pub(super) const MAY_COMMIT: Duration = Duration::from_secs(4);
/// After that time everybody who commits knows of a generation.
pub(super) const KNOWN_TO_ALL: Duration = Duration::from_millis(4_200);

/// Time of one question to PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reading.
#[derive(Clone, Default)]
pub(super) struct Reading {
    /// When it was asked for; `None` if it never was.
    asked_ms: Option<u64>,
    pub(super) families: Arc<[Arc<Standing>]>,
}

/// See the head of this file.
pub(super) struct Known {
    store: Arc<dyn Store>,
    clock: Clock,
    reading: Mutex<Reading>,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
}

impl Known {
    pub(super) fn new(store: Arc<dyn Store>, clock: Clock) -> Known {
        Known { store, clock, reading: Mutex::default(), asking: tokio::sync::Mutex::new(()) }
    }

    /// Precise, unlike [`Clock::mono_ms`]: a tick of ten milliseconds would be an age.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }

    pub(super) fn reading(&self) -> Reading {
        self.reading.lock().clone()
    }

    /// Whether a reading is no older.
    pub(super) fn is_fresh(&self, reading: &Reading, age: Duration) -> bool {
        reading
            .asked_ms
            .is_some_and(|asked| u128::from(self.now_ms().saturating_sub(asked)) <= age.as_millis())
    }

    /// A reading that is no older, asked for if need be.
    pub(super) async fn at_most(&self, age: Duration, deadline: Deadline) -> Result<Reading> {
        let reading = self.reading();
        if self.is_fresh(&reading, age) {
            return Ok(reading);
        }
        self.ask(age, deadline).await
    }

    /// A reading that was asked for after the call.
    pub(super) async fn anew(&self, deadline: Deadline) -> Result<Reading> {
        self.ask(Duration::ZERO, deadline).await
    }

    async fn ask(&self, age: Duration, deadline: Deadline) -> Result<Reading> {
        let deadline = deadline.at_most(PATIENCE);
        let called_ms = self.now_ms();
        let _one = deadline.run("waiting for the state of Bloom filters", self.asking.lock()).await?;
        let before = self.reading();
        let asked_meanwhile = before.asked_ms.is_some_and(|asked| asked > called_ms);
        if asked_meanwhile || (!age.is_zero() && self.is_fresh(&before, age)) {
            return Ok(before);
        }
        let asked_ms = Some(self.now_ms());
        let families = standing::read(&*self.store, &before.families, || self.now_ms(), deadline).await?;
        let reading = Reading { asked_ms, families: families.into() };
        *self.reading.lock() = reading.clone();
        Ok(reading)
    }
}
