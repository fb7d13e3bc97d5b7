//! The Bloom filters in the verbs: `db_hit`, the question before a source is asked, and what a COMMIT waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::Zmsg;
use super::limits::check_key;
use super::state::State;
use crate::base::Deadline;
use crate::cache::{Filters, Match};
use crate::error::Result;
use crate::sql::Rendered;
use crate::store::{CommitHooks, ExecResult, Outcome};

/// How often a write is run again because a filter had to be opened for it.
pub(super) const MOST_TRIES: u32 = 4;
/// The longest that an admission holds a transaction up.
const ADMISSION: Duration = Duration::from_secs(10);

impl Zmsg {
    /// Whether the database may have the key. `false` is certain: no committed write of zmsg has made such a row. `true` is
    /// not: a key whose family has no Bloom filter (`SourceOptions::bloom`), a filter that is being built or cannot be
    /// reached, and one key in a hundred (`bloom_error_rate`) that does not exist.
    ///
    /// # Errors
    /// `Task` for a bad key, `Closed`. Servers that are away are no error: then the answer is `true`.
    pub async fn db_hit(&self, key: &str) -> Result<bool> {
        check_key(&self.state.config, key)?;
        let _call = self.enter()?;
        let Match::Source(source, _) = self.state.sources.find(key) else { return Ok(true) };
        if !source.bloom {
            return Ok(true);
        }
        let answer = self.state.filters.may_exist(source.pattern(), &[key], self.deadline()).await;
        Ok(answer.first().copied().unwrap_or(true))
    }
}

impl State {
    /// For keys of one source whether they may exist.
    pub(super) async fn may_exist<K: AsRef<str>>(
        &self,
        pattern: &str,
        keys: &[K],
        deadline: Deadline,
    ) -> Vec<bool> {
        // The time of a question, whose answer is to save time, is not that of the read.
        self.filters.may_exist(pattern, keys, deadline.at_most(self.config.redis_timeout)).await
    }
}

/// Hooks around a COMMIT that first see to it that the filters have the keys.
pub(super) struct Announced {
    inner: Arc<dyn CommitHooks>,
    filters: Arc<Filters>,
    keys: Vec<String>,
    /// Whether the last run ended because a filter could not be reached.
    turned_away: AtomicBool,
}

impl Announced {
    pub(super) fn new(inner: Arc<dyn CommitHooks>, filters: Arc<Filters>, keys: Vec<String>) -> Announced {
        Announced { inner, filters, keys, turned_away: AtomicBool::new(false) }
    }

    /// Before each transaction.
    pub(super) async fn prepare(&self, deadline: Deadline) -> Result<()> {
        self.turned_away.store(false, Ordering::Release);
        self.filters.prepare(&self.keys, deadline).await
    }

    /// Whether the transaction that just failed may pass once the filter is open.
    pub(super) fn may_try_again(&self, tries: u32) -> bool {
        tries < MOST_TRIES && self.turned_away.load(Ordering::Acquire)
    }
}

#[async_trait]
impl CommitHooks for Announced {
    async fn before_tasks(&self, run: u32) -> Result<()> {
        self.inner.before_tasks(run).await
    }

    async fn before_commit(&self, version: u64, results: &[ExecResult]) -> Result<Option<Rendered>> {
        // Its own time: the deadline of the call bounds both.
        let admitted = self.filters.admit(&self.keys, Deadline::after(ADMISSION)).await;
        self.turned_away.store(admitted.is_err(), Ordering::Release);
        admitted?;
        self.inner.before_commit(version, results).await
    }

    async fn after(&self, outcome: &Outcome) {
        self.inner.after(outcome).await;
    }
}
