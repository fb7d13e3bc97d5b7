//! Loads by a function of the caller's own: the rules of a source's loads, and the caller runs the load.
//!
//! ```text
//! get_or_begin ─ in a cache, or another caller loaded it ─▶ Found
//!      ├ fresh, ends soon ─▶ Refresh: serve it, and complete the guard in the background
//!      ╰ nobody has it ─▶ Load(guard) ─ complete ─▶ cached, and every waiter has it
//!                               ├ fail ─▶ the last good value, or every waiter has the error, once
//!                               ╰ dropped ─▶ one of the waiters is given the next guard
//! ```
//! The guard is the key's flight in this process and its lease between processes; the lease is kept while the guard lives,
//! for the time of a call at most. A value is cached only if nothing happened to the key since the guard was given.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::calls::Call;
use super::limits::check_key;
use super::state::State;
use super::{LoadOptions, Zmsg};
use crate::base::{Deadline, service};
use crate::cache::{FlightGuard, Loaded, Lookup, Miss, SourceLife, Waiter, Whose};
use crate::error::{Error, ErrorKind, Result};

/// What [`Zmsg::get_or_begin`] gives.
pub enum Begun {
    /// The value, or `None` for an absence.
    Found(Option<Bytes>),
    /// The caller is to load it.
    Load(LoadGuard),
    /// The value, and the caller is to load it anew in the background.
    Refresh(Option<Bytes>, LoadGuard),
}

/// The duty to load a key. Dropped without a result it goes to one of those who wait.
pub struct LoadGuard {
    state: Arc<State>,
    call: Call,
    flight: FlightGuard,
    miss: Miss,
    own: SourceLife,
    refreshes: bool,
    /// Dropped with the guard, which ends the keeping of its lease.
    kept: oneshot::Sender<()>,
}

impl Zmsg {
    /// The value of a key, or the duty to load it. Several callers at once, in any process, get one duty.
    ///
    /// # Errors
    /// `Task` for a bad key; what the loader of another caller failed with; `Timeout`, `Overloaded`, `Closed`.
    pub async fn get_or_begin(&self, key: &str, options: &LoadOptions) -> Result<Begun> {
        if let Some(found) = self.peek_entry(key)? {
            return Ok(Begun::Found(found));
        }
        let (call, deadline) = (self.enter()?, self.deadline());
        let beginning = self.state.begin_load(call, key.into(), options, deadline);
        Box::pin(deadline.run("waiting for a load", beginning)).await?
    }

    /// The value of a key; what `load` gives if there is none. `load` runs to its end, whether or not this call is waited
    /// for, once for all that call at the same time.
    ///
    /// # Errors
    /// As [`Zmsg::get_or_begin`], and what `load` failed with.
    pub async fn get_or_load<F>(
        &self,
        key: &str,
        options: &LoadOptions,
        load: impl FnOnce() -> F,
    ) -> Result<Option<Bytes>>
    where
        F: Future<Output = Result<Option<Bytes>>> + Send + 'static,
    {
        let (found, guard) = match self.get_or_begin(key, options).await? {
            Begun::Found(data) => return Ok(data),
            Begun::Refresh(data, guard) => (Some(data), guard),
            Begun::Load(guard) => (None, guard),
        };
        let (state, own, key) = (self.state.clone(), guard.own, guard.flight.key().clone());
        let loading = load();
        let running = service::detached(async move {
            match loading.await {
                Ok(data) => Ok(guard.complete(data).await),
                Err(error) => guard.fail(error).await,
            }
        });
        match found {
            Some(data) => Ok(data),
            None => self.deadline().run("loading a key", state.softly(&key, &own, running)).await?,
        }
    }
}

impl State {
    async fn begin_load(
        self: &Arc<State>,
        call: Call,
        key: Arc<str>,
        options: &LoadOptions,
        deadline: Deadline,
    ) -> Result<Begun> {
        check_key(&self.config, &key)?;
        let own = self.own_life(&key, options);
        let flight = loop {
            let begun = self.caches.loader().begin(Whose::Caller, std::slice::from_ref(&key))?;
            if let Some(flight) = begun.mine.into_iter().next() {
                break flight;
            }
            for waiter in begun.others {
                if let Some(data) = self.softly(&key, &own, landed(waiter)).await? {
                    return Ok(Begun::Found(data));
                }
            }
        };
        // Boxed each: what a read of Redis needs would else have its room in here several times.
        let miss = match Box::pin(self.caches.get_shared(&key, deadline)).await {
            Lookup::Miss(miss) => miss,
            Lookup::Hit(data) => return Ok(land(flight, data)),
            Lookup::Ahead(data, miss) => {
                flight.complete(&Ok(data.clone()));
                return Ok(self.begin_refresh(call, key, own, data, &miss, deadline).await);
            }
        };
        match Box::pin(self.caches.admit(&key, miss, deadline)).await {
            Lookup::Miss(miss) => Ok(Begun::Load(LoadGuard::new(self, call, flight, miss, own, false))),
            Lookup::Hit(data) | Lookup::Ahead(data, _) => Ok(land(flight, data)),
        }
    }

    async fn begin_refresh(
        self: &Arc<State>,
        call: Call,
        key: Arc<str>,
        own: SourceLife,
        data: Loaded,
        miss: &Miss,
        deadline: Deadline,
    ) -> Begun {
        let begun = self.refreshing.begin(Whose::Caller, std::slice::from_ref(&key));
        let Some(flight) = begun.ok().and_then(|begun| begun.mine.into_iter().next()) else {
            return Begun::Found(data);
        };
        match Box::pin(self.caches.ask_once(&key, miss, deadline)).await {
            Lookup::Miss(miss) if miss.may_refresh() => {
                Begun::Refresh(data, LoadGuard::new(self, call, flight, miss, own, true))
            }
            _ => Begun::Found(data),
        }
    }

    /// What the call says of lives, else the key's source.
    fn own_life(&self, key: &str, options: &LoadOptions) -> SourceLife {
        let source = self.sources.life_of(key);
        SourceLife {
            ttl: options.ttl.or(source.ttl),
            absent_ttl: options.absent_ttl.or(source.absent_ttl),
            stale_ttl: options.stale_ttl.or(source.stale_ttl),
            soft_timeout: options.soft_timeout.or(source.soft_timeout),
            ..source
        }
    }
}

/// The result of a flight; `Ok(None)` if it was given up.
async fn landed(waiter: Waiter) -> Result<Option<Loaded>> {
    waiter.wait().await.transpose()
}

fn land(flight: FlightGuard, data: Loaded) -> Begun {
    flight.complete(&Ok(data.clone()));
    Begun::Found(data)
}

impl LoadGuard {
    fn new(
        state: &Arc<State>,
        call: Call,
        flight: FlightGuard,
        miss: Miss,
        own: SourceLife,
        refreshes: bool,
    ) -> LoadGuard {
        let (kept, ended) = oneshot::channel();
        let (keeper, key, held) = (state.clone(), flight.key().clone(), miss.clone());
        drop(service::detached(async move {
            let deadline = Deadline::after(keeper.config.timeout);
            let done = keeper.caches.holding(&key, &held, deadline.run("loading", ended)).await;
            // Given up, or it takes longer than any call.
            if !matches!(done, Ok(Ok(()))) {
                keeper.caches.give_up(&held, keeper.cache_deadline()).await;
            }
            Ok(())
        }));
        LoadGuard { state: state.clone(), call, flight, miss, own, refreshes, kept }
    }

    /// How long the load should be waited for if there is a last good value; see [`LoadGuard::last_good`].
    pub fn soft_timeout(&self) -> Option<Duration> {
        self.state.soft_timeout(&self.own)
    }

    /// What a caller may have that does not want to wait for the load any longer.
    /// It can be asked for without the guard, which the load needs.
    pub fn last_good(&self) -> impl Future<Output = Option<Option<Bytes>>> + Send + use<> {
        let (state, key, own) = (self.state.clone(), self.flight.key().clone(), self.own);
        async move { state.caches.last_good(&key, &own, state.cache_deadline()).await }
    }

    /// The load gave a value, or an absence: caches it as far as nothing happened to the key meanwhile, gives it to those
    /// who wait, and back. A value longer than `max_value_bytes` is given, not cached.
    pub async fn complete(self, data: Option<Bytes>) -> Option<Bytes> {
        let given = data.clone();
        let kept = service::detached(async move {
            let LoadGuard { state, call: _call, flight, miss, own, refreshes, kept } = self;
            let (key, deadline) = (flight.key(), state.cache_deadline());
            let counted = if refreshes { &state.counters.refreshes } else { &state.counters.caller_loads };
            counted.inc();
            if data.as_ref().is_some_and(|data| data.len() > state.config.max_value_bytes) {
                state.counters.oversized_loads.inc();
                state.caches.give_up(&miss, deadline).await;
            } else {
                state.caches.fill(key, data.clone(), &own, &miss, deadline).await;
            }
            // Nobody listens if the load took longer than a call may.
            let _ = kept.send(());
            flight.complete(&Ok(data));
            Ok(())
        });
        drop(kept.await);
        given
    }

    /// The load failed. Those who wait have the last good value if there is one, and so has the caller; else they all have
    /// this error.
    ///
    /// # Errors
    /// That error.
    pub async fn fail(self, error: Error) -> Result<Option<Bytes>> {
        service::detached(async move {
            let LoadGuard { state, call: _call, flight, miss, own, kept, .. } = self;
            state.counters.caller_loads.inc();
            let key = flight.key();
            state.caches.give_up(&miss, state.cache_deadline()).await;
            let _ = kept.send(());
            let result = state.last_good(key, &own, error).await;
            flight.complete(&result);
            result
        })
        .await
    }

    /// The error of a load that failed with something that is no error of the engine's.
    pub fn failure(&self, cause: &str) -> Error {
        Error::new(ErrorKind::Store, format!("the loader of {:?} failed: {cause}", self.flight.key()))
    }
}
