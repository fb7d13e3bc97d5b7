//! What a read does when the source fails or takes long, and what is loaded before anybody has to wait for it.
//!
//! ```text
//! flight ─ source gave ─▶ its value
//!   │  ╰── source failed ─▶ the last good value, or the error
//!   ╰ soft timeout passed ─▶ the last good value, and the flight goes on; without one: wait
//! ```
//! What may be served is for the caches to say (`cache/stale.rs`). The soft timeout is each reader's own, so there is one
//! flight whoever gives up waiting for it. A strict reader (`ReadOptions::stale`) has no soft timeout, and flies with others
//! of its kind: their flights end in the error.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::many::Found;
use super::state::State;
use super::{ReadOptions, SourceOptions};
use crate::base::{Deadline, service};
use crate::cache::{Loaded, Lookup, Match, Miss, SourceLife, Whose};
use crate::error::{Error, ErrorKind, Result};

/// The largest `refresh_ahead`.
const MOST_AHEAD: f64 = 0.9;

/// What the options of a source say of lives.
pub(super) fn life_of(options: &SourceOptions) -> Result<SourceLife> {
    if let Some(ahead) = options.refresh_ahead
        && !(0.0..=MOST_AHEAD).contains(&ahead)
    {
        return Err(Error::task(format!(
            "refresh_ahead must be a number from 0 to {MOST_AHEAD}, not {ahead}"
        )));
    }
    Ok(SourceLife {
        ttl: options.ttl,
        absent_ttl: options.absent_ttl,
        stale_ttl: options.stale_ttl,
        refresh_ahead: options.refresh_ahead,
        soft_timeout: options.soft_timeout,
    })
}

/// Waits for so long, or without a limit; `None` if it took longer.
pub(super) async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => Deadline::after(limit).run("", work).await.ok(),
        None => Some(work.await),
    }
}

impl State {
    /// How long a read waits before it would rather have the last good value; `None` is as long as it takes.
    pub(super) fn soft_timeout(&self, own: &SourceLife) -> Option<Duration> {
        let kept = own.stale_ttl.unwrap_or(self.config.stale_ttl);
        let soft = own.soft_timeout.unwrap_or(self.config.source_soft_timeout);
        (!soft.is_zero() && !kept.is_zero()).then_some(soft)
    }

    /// Waits for a flight, but no longer than the soft timeout if there is a last good value.
    pub(super) async fn softly<T: From<Loaded>>(
        &self,
        key: &Arc<str>,
        own: &SourceLife,
        flight: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let soft = self.soft_timeout(own);
        tokio::pin!(flight);
        if let Some(landed) = within(soft, flight.as_mut()).await {
            return landed;
        }
        match self.last_good_now(key, own).await {
            Some(data) => Ok(data.into()),
            None => flight.await,
        }
    }

    /// The shortest soft timeout of several keys.
    pub(super) fn soft_timeout_of(&self, keys: &[Arc<str>], options: ReadOptions) -> Option<Duration> {
        let own = |key: &Arc<str>| options.over(self.sources.life_of(key));
        keys.iter().filter_map(|key| self.soft_timeout(&own(key))).min()
    }

    /// Takes the last good values of keys whose source takes long; gives the keys that have none.
    pub(super) async fn last_good_of(
        &self,
        keys: Vec<Arc<str>>,
        options: ReadOptions,
        found: &mut Found,
    ) -> Vec<Arc<str>> {
        let looked_up = keys.into_iter().map(|key| async {
            let own = options.over(self.sources.life_of(&key));
            let soft = self.soft_timeout(&own);
            let data = if soft.is_some() { self.last_good_now(&key, &own).await } else { None };
            (key, data)
        });
        let mut without = Vec::new();
        for (key, data) in join_all(looked_up).await {
            match data {
                Some(data) => drop(found.insert(key, data)),
                None => without.push(key),
            }
        }
        without
    }

    /// In place of an error of the source: the last good value, if there is one.
    pub(super) async fn last_good(&self, key: &Arc<str>, own: &SourceLife, error: Error) -> Result<Loaded> {
        if error.kind() == ErrorKind::Closed {
            return Err(error);
        }
        let found = self.caches.last_good(key, own, self.cache_deadline()).await;
        found.ok_or(error)
    }

    async fn last_good_now(&self, key: &Arc<str>, own: &SourceLife) -> Option<Loaded> {
        // Others that gave up waiting may have looked it up a moment ago.
        match self.caches.peek(key) {
            Some(data) => Some(data),
            None => self.caches.last_good(key, own, self.cache_deadline()).await,
        }
    }

    /// Loads a value anew that is still fresh, in the background, unless somebody does.
    pub(super) fn refresh(self: &Arc<State>, key: &Arc<str>, miss: Miss) {
        let Match::Source(source, args) = self.sources.find(key) else { return };
        let (Ok(call), Ok(task)) = (self.calls.enter(), source.task(&args)) else { return };
        let Ok(begun) = self.refreshing.begin(Whose::Engine, std::slice::from_ref(key)) else { return };
        let Some(guard) = begun.mine.into_iter().next() else { return };
        let state = self.clone();
        drop(service::detached(async move {
            let (_call, key) = (call, guard.key());
            let deadline = Deadline::after(state.config.timeout);
            if let Lookup::Miss(miss) = state.caches.ask_once(key, &miss, deadline).await
                && miss.may_refresh()
            {
                let rows = state.caches.holding(key, &miss, state.query_source(&task, deadline)).await;
                if rows.is_ok() {
                    state.counters.refreshes.inc();
                }
                drop(state.keep(Whose::Engine, key, &source, rows, &miss).await);
            }
            Ok(())
        }));
    }
}
