//! `get` and `peek`: L1, then one flight per key through L2 and the source.

use bytes::Bytes;

use super::Zmsg;
use super::limits::check_key;
use super::state::State;
use crate::error::{Error, ErrorKind, Result};

impl Zmsg {
    /// What L1 holds right now: `Some(Some(bytes))` a value, `Some(None)` a cached absence, `None` nothing. No I/O,
    /// nothing is counted.
    ///
    /// # Errors
    /// `Task` for a bad key, `Closed`.
    pub fn peek_entry(&self, key: &str) -> Result<Option<Option<Bytes>>> {
        check_key(&self.state.config, key)?;
        if self.is_closed() {
            return Err(Error::closed());
        }
        Ok(self.state.caches.peek(key))
    }

    /// The value that L1 holds right now. No I/O.
    ///
    /// # Errors
    /// As [`Zmsg::peek_entry`].
    pub fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.peek_entry(key)?.flatten())
    }

    /// The value of a key from L1, Redis or the source declared for its family; `None` if it is absent in all.
    ///
    /// # Errors
    /// `Task` for a bad key; `Store` or `Timeout` if the source was needed and failed; `Cache` if Redis could not be
    /// asked and no source covers the key. A failure is told to every waiter once and not cached.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(&self.state.config, key)?;
        let call = self.state.calls.enter()?;
        if let Some(found) = self.state.caches.hit(key) {
            return Ok(found);
        }
        let (state, owned) = (self.state.clone(), key.to_owned());
        let flight = self.state.flights.load(key, move || async move {
            let _call = call;
            state.load(&owned).await
        });
        self.deadline().run("reading a key", flight).await?
    }

    /// As [`Zmsg::get`], but absence is an error of kind `NotFound`.
    ///
    /// # Errors
    /// `NotFound`, and as [`Zmsg::get`].
    pub async fn get_required(&self, key: &str) -> Result<Bytes> {
        self.get(key).await?.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no value for key {key:?}")))
    }
}

impl State {
    /// One load: L2, then the source. Runs once per key at a time.
    async fn load(&self, key: &str) -> Result<Option<Bytes>> {
        let seen = self.caches.epoch(key);
        let l2 = self.caches.load_l2(key, seen, self.load_deadline()).await;
        match l2 {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.load_source(key, seen, None).await,
            Err(error) => self.load_source(key, seen, Some(error)).await,
        }
    }
}
