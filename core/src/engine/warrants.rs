//! For a binding that keeps copies of hits on its own side, where crossing into Rust would cost more than the hit.

use bytes::Bytes;

use super::Zmsg;
use super::limits::check_key;
use crate::cache::{Warrant, WarrantWords};
use crate::error::Result;

impl Zmsg {
    /// As [`Zmsg::peek_entry`], with leave to answer further reads of the key by the same value while the warrant holds. There
    /// is none for an entry that has tags.
    ///
    /// # Errors
    /// As [`Zmsg::peek_entry`].
    #[inline]
    pub fn peek_warranted(&self, key: &str) -> Result<Option<(Option<Bytes>, Option<Warrant>)>> {
        check_key(&self.state.config, key)?;
        self.check_open()?;
        Ok(self.state.caches.peek_warranted(key))
    }

    /// What to check warrants by. Whoever does also looks whether the engine was closed: no word says so.
    pub fn warrant_words(&self) -> WarrantWords {
        self.state.caches.warrant_words()
    }

    /// The time on the clock of the deadlines, in milliseconds.
    pub fn now_ms(&self) -> f64 {
        self.state.caches.now_ms()
    }

    /// Adds reads that were answered under warrants to the figures, `absences` being part of `hits`. A `key` among them
    /// counts as read in L1, which would else give up for room what nobody seems to want.
    pub fn count_warranted(&self, hits: u64, absences: u64, key: Option<&str>) {
        self.state.caches.count_warranted(hits, absences, key);
    }
}
