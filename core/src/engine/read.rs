//! `get` and `peek`: L1, then one flight per key through L2 and the source.

use std::sync::Arc;

use bytes::Bytes;

use super::failsafe::life_of;
use super::limits::check_key;
use super::state::State;
use super::{ReadOptions, SourceOptions, Zmsg};
use crate::base::{Deadline, clock};
use crate::cache::{Filters, Loaded, Lookup, Match, Miss, Source, Whose, first_row_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Task;
use crate::value::{Row, Value};

impl Zmsg {
    /// Declares where a key family is read from: `"feed_*"` with one `?` for the whole key, or
    /// `"user:{uid:int}:post:{pid}"` with a `?` for each part. The longest literal prefix wins.
    ///
    /// # Errors
    /// `Task` for a pattern that cannot be read or fits the same keys as another, for a task whose `?` are not as
    /// many as the pattern's parts, and for one of `bloom` and `keys` without the other. `Closed`.
    pub fn source(&self, pattern: &str, task: Task, options: SourceOptions) -> Result<()> {
        let _call = self.enter()?;
        let life = life_of(&options)?;
        match (options.bloom, options.keys) {
            (true, Some(keys)) => {
                Filters::check_keys(pattern, &keys)?;
                self.state.sources.declare(pattern, task, life, true)?;
                self.state.filters.declare(pattern, keys);
                Ok(())
            }
            (true, None) => Err(Error::task(format!(
                "source {pattern:?}: bloom needs keys, the query that gives every key of the family, as sql(\"SELECT id FROM \
                 feeds\")"
            ))),
            (false, Some(_)) => Err(Error::task(format!(
                "source {pattern:?}: keys are for a Bloom filter; give bloom as well"
            ))),
            (false, None) => self.state.sources.declare(pattern, task, life, false),
        }
    }

    /// What L1 holds right now: `Some(Some(bytes))` a value, `Some(None)` a cached absence, `None` nothing. No I/O.
    ///
    /// # Errors
    /// `Task` for a bad key, `Closed`.
    pub fn peek_entry(&self, key: &str) -> Result<Option<Option<Bytes>>> {
        Ok(self.peek_warranted(key)?.map(|(data, _)| data))
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
        if let Some(found) = self.peek_entry(key)? {
            return Ok(found);
        }
        // Boxed, so that a hit does not carry the room for a miss.
        Box::pin(self.fly(key.into(), ReadOptions::default())).await
    }

    /// As [`Zmsg::get`], which says for itself what it does when the source fails or takes long.
    ///
    /// # Errors
    /// As [`Zmsg::get`].
    pub async fn get_with(&self, key: &str, options: ReadOptions) -> Result<Option<Bytes>> {
        let found = if options.strict() { self.peek_fresh(key)? } else { self.peek_entry(key)? };
        match found {
            Some(found) => Ok(found),
            None => Box::pin(self.fly(key.into(), options)).await,
        }
    }

    fn peek_fresh(&self, key: &str) -> Result<Option<Loaded>> {
        check_key(&self.state.config, key)?;
        self.check_open()?;
        Ok(self.state.caches.peek_fresh(key))
    }

    async fn fly(&self, key: Arc<str>, options: ReadOptions) -> Result<Loaded> {
        let call = self.enter()?;
        let (whose, own) = (options.whose(), options.over(self.state.sources.life_of(&key)));
        let (state, flown, deadline) = (self.state.clone(), key.clone(), self.deadline());
        let flight = self.state.caches.loader().load(whose, &key, move || async move {
            let _call = call;
            state.load(whose, &flown, state.load_deadline(deadline)).await
        });
        deadline.run("reading a key", self.state.softly(&key, &own, flight)).await?
    }

    /// As [`Zmsg::get`], but absence is an error of kind `NotFound`.
    ///
    /// # Errors
    /// `NotFound`, and as [`Zmsg::get`].
    pub async fn get_required(&self, key: &str) -> Result<Bytes> {
        self.get(key).await?.ok_or_else(|| absent(key))
    }

    /// As [`Zmsg::get_with`], but absence is an error of kind `NotFound`.
    ///
    /// # Errors
    /// `NotFound`, and as [`Zmsg::get`].
    pub async fn get_required_with(&self, key: &str, options: ReadOptions) -> Result<Bytes> {
        self.get_with(key, options).await?.ok_or_else(|| absent(key))
    }
}

/// What a key that neither tier knows needs.
pub(super) enum Need {
    /// This query.
    Query(Arc<Source>, Task),
    /// Nothing more: this is the answer.
    Answer(Result<Loaded>),
}

impl State {
    /// One load: L2, then the source. Runs once per key at a time.
    pub(super) async fn load(
        self: &Arc<State>,
        whose: Whose,
        key: &Arc<str>,
        deadline: Deadline,
    ) -> Result<Loaded> {
        let miss = match self.caches.get_shared(key, deadline).await {
            Lookup::Hit(data) => return Ok(data),
            Lookup::Ahead(data, miss) => {
                self.refresh(key, miss);
                return Ok(data);
            }
            Lookup::Miss(miss) => miss,
        };
        let (source, task) = match self.need(key, &miss) {
            Need::Answer(answer) => return answer,
            Need::Query(source, task) => (source, task),
        };
        // With Redis away the filter is, too, and would cost the same time again.
        if source.bloom
            && miss.error.is_none()
            && self.may_exist(source.pattern(), &[key], deadline).await == [false]
        {
            return Ok(None);
        }
        let miss = match self.caches.admit(key, miss, deadline).await {
            Lookup::Hit(data) | Lookup::Ahead(data, _) => return Ok(data),
            Lookup::Miss(miss) => miss,
        };
        let rows = self.caches.holding(key, &miss, self.query_source(&task, deadline)).await;
        self.keep(whose, key, &source, rows, &miss).await
    }

    /// Which query a missed key needs.
    pub(super) fn need(&self, key: &str, miss: &Miss) -> Need {
        // A text with NUL cannot be in PostgreSQL, which would refuse the question.
        match self.sources.find(key) {
            Match::Source(source, args) if !args.iter().any(holds_nul) => match source.task(&args) {
                Ok(task) => Need::Query(source, task),
                Err(error) => Need::Answer(Err(error)),
            },
            Match::Source(..) | Match::Unparsable => {
                self.counters.unparsable_misses.inc();
                Need::Answer(unless_redis_failed(miss))
            }
            Match::Unsourced => Need::Answer(self.unsourced(key, miss)),
        }
    }

    /// The answer for a key without a source.
    fn unsourced(&self, key: &str, miss: &Miss) -> Result<Loaded> {
        let absent = unless_redis_failed(miss)?;
        self.counters.unsourced_misses.inc();
        if self.unsourced.is_first_of_family(key) {
            log::info!(
                "the key {key:?} was missed and has no source: such keys are absent unless they are cached"
            );
        }
        Ok(absent)
    }

    pub(super) async fn query_source(&self, task: &Task, deadline: Deadline) -> Result<Vec<Row>> {
        let permit = self.source_permits.acquire();
        let _permit = deadline
            .run("waiting for a place among source queries", permit)
            .await?
            .map_err(|_| Error::closed())?;
        let pass = self.source_breaker.enter()?;
        self.counters.source_loads.inc();
        let began = clock::now();
        let rows = self.store.query(task, deadline).await;
        self.counters.source_queries.record(began.elapsed());
        self.source_breaker.leave(&pass, rows.as_ref().err());
        rows.inspect_err(|_| self.counters.source_errors.inc())
    }

    /// Turns a source's rows into the value and keeps it in the caches. Of an error makes the last good value, if there is
    /// one and whoever flies may have it.
    pub(super) async fn keep(
        &self,
        whose: Whose,
        key: &Arc<str>,
        source: &Source,
        rows: Result<Vec<Row>>,
        miss: &Miss,
    ) -> Result<Loaded> {
        // Others may wait for this one, however little time its caller has left.
        let deadline = self.cache_deadline();
        let data = match rows.and_then(first_row_bytes) {
            Ok(data) => data,
            Err(error) => {
                self.caches.give_up(miss, deadline).await;
                return match whose {
                    Whose::Strict => Err(error),
                    Whose::Engine | Whose::Caller => self.last_good(key, &source.life, error).await,
                };
            }
        };
        if let Some(long) = data.as_ref().filter(|data| data.len() > self.config.max_value_bytes) {
            self.counters.oversized_loads.inc();
            source.note_oversized(long.len(), self.config.max_value_bytes);
            self.caches.give_up(miss, deadline).await;
            return Ok(data);
        }
        self.caches.fill(key, data.clone(), &source.life, miss, deadline).await;
        Ok(data)
    }
}

fn absent(key: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no value for key {key:?}"))
}

/// A key that no source can give is absent, unless nobody knows what Redis would have said.
fn unless_redis_failed(miss: &Miss) -> Result<Loaded> {
    miss.error.clone().map_or(Ok(None), Err)
}

fn holds_nul(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text.contains('\0'))
}
