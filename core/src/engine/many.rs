//! `get_many`: one pass over L1, one MGET for what is missing there, one pipelined flight of source queries for the rest.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use futures_util::future::{join, join_all};

use super::failsafe::within;
use super::limits::check_key;
use super::read::Need;
use super::state::State;
use super::{ReadOptions, Zmsg, calls::Call};
use crate::base::{Deadline, clock, service};
use crate::cache::{FlightGuard, Loaded, Lookup, Miss, Source, Waiter, Whose};
use crate::error::{Error, Result};
use crate::sql::Task;
use crate::value::Row;

/// Keys that are loaded at once: one MGET and one flight of queries have no more.
const CHUNK: usize = 10_000;

/// What is known so far of the keys that L1 did not have.
pub(super) type Found = HashMap<Arc<str>, Loaded>;

/// A key on its way to the database.
struct Query {
    guard: FlightGuard,
    source: Arc<Source>,
    task: Task,
    miss: Miss,
}

impl Zmsg {
    /// The values of many keys, one per key in order; `None` for an absent one. A key may be named twice.
    ///
    /// # Errors
    /// As [`Zmsg::get`], for the first key that failed; the others are in the caches then.
    pub async fn get_many<K: AsRef<str>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>> {
        self.get_many_with(keys, ReadOptions::default()).await
    }

    /// As [`Zmsg::get_many`], which says for itself what it does when the source fails or takes long.
    ///
    /// # Errors
    /// As [`Zmsg::get_many`].
    pub async fn get_many_with<K: AsRef<str>>(
        &self,
        keys: &[K],
        options: ReadOptions,
    ) -> Result<Vec<Option<Bytes>>> {
        keys.iter().try_for_each(|key| check_key(&self.state.config, key.as_ref()))?;
        let call = Arc::new(self.enter()?);
        let caches = &self.state.caches;
        let peek = |key: &K| match options.strict() {
            true => caches.peek_fresh(key.as_ref()),
            false => caches.peek(key.as_ref()),
        };
        let hits: Vec<Option<Loaded>> = keys.iter().map(peek).collect();
        let mut missing: Vec<Arc<str>> = Vec::new();
        let mut found = Found::new();
        for (key, _) in keys.iter().zip(&hits).filter(|(_, hit)| hit.is_none()) {
            let key: Arc<str> = key.as_ref().into();
            if found.insert(key.clone(), None).is_none() {
                missing.push(key);
            }
        }
        let deadline = self.deadline();
        let fetching = Box::pin(async {
            for chunk in missing.chunks(CHUNK) {
                self.fetch(call.clone(), chunk.to_vec(), options, &mut found, deadline).await?;
            }
            Ok::<_, Error>(())
        });
        deadline.run("reading many keys", fetching).await??;
        let values = keys.iter().zip(hits);
        Ok(values
            .map(|(key, hit)| hit.unwrap_or_else(|| found.get(key.as_ref()).cloned().flatten()))
            .collect())
    }

    /// Loads what is missing, together with whoever is loading some of it already.
    async fn fetch(
        &self,
        call: Arc<Call>,
        mut missing: Vec<Arc<str>>,
        options: ReadOptions,
        found: &mut Found,
        deadline: Deadline,
    ) -> Result<()> {
        let mut soft = self.state.soft_timeout_of(&missing, options);
        while !missing.is_empty() {
            let begun = self.state.caches.loader().begin(options.whose(), &missing)?;
            let (state, call, whose) = (self.state.clone(), call.clone(), options.whose());
            let mine = async {
                if begun.mine.is_empty() {
                    return Ok(Vec::new());
                }
                service::detached(async move {
                    let _call = call;
                    let deadline = state.load_deadline(deadline);
                    Ok(state.load_many(whose, begun.mine, deadline).await)
                })
                .await
            };
            let landing = join(mine, join_all(begun.others.into_iter().map(wait)));
            let Some((mine, others)) = within(soft.take(), landing).await else {
                // The loads go on, and are joined for what has no last good value.
                missing = self.state.last_good_of(missing, options, found).await;
                continue;
            };
            for (key, loaded) in mine? {
                found.insert(key, loaded?);
            }
            missing = Vec::new();
            for (key, landed) in others {
                match landed {
                    Some(loaded) => drop(found.insert(key, loaded?)),
                    None => missing.push(key),
                }
            }
        }
        Ok(())
    }
}

async fn wait(waiter: Waiter) -> (Arc<str>, Option<Result<Loaded>>) {
    let key = waiter.key().clone();
    (key, waiter.wait().await)
}

impl State {
    async fn load_many(
        self: &Arc<State>,
        whose: Whose,
        guards: Vec<FlightGuard>,
        deadline: Deadline,
    ) -> Vec<(Arc<str>, Result<Loaded>)> {
        let keys: Vec<Arc<str>> = guards.iter().map(|guard| guard.key().clone()).collect();
        let looked_up = self.caches.get_many_shared(&keys, deadline).await;
        let (mut done, mut wanted, mut busy) = (Vec::with_capacity(keys.len()), Vec::new(), Vec::new());
        for (guard, lookup) in guards.into_iter().zip(looked_up) {
            match lookup {
                Lookup::Hit(data) => done.push(land(guard, Ok(data))),
                Lookup::Ahead(data, miss) => {
                    self.refresh(guard.key(), miss);
                    done.push(land(guard, Ok(data)));
                }
                Lookup::Miss(miss) => match self.need(guard.key(), &miss) {
                    Need::Answer(answer) => done.push(land(guard, answer)),
                    // Another process is at it: its value may be there by the time that the others are loaded.
                    Need::Query(..) if miss.is_busy() => busy.push(guard),
                    Need::Query(source, task) => wanted.push(Query { guard, source, task, miss }),
                },
            }
        }
        let wanted = self.leave_out_absent(wanted, &mut done, deadline).await;
        let mut queries = Vec::with_capacity(wanted.len());
        let asked = join_all(wanted.into_iter().map(|query| async {
            let asked = self.caches.ask_once(query.guard.key(), &query.miss, deadline).await;
            (query, asked)
        }));
        for (query, asked) in asked.await {
            match asked {
                Lookup::Hit(data) | Lookup::Ahead(data, _) => done.push(land(query.guard, Ok(data))),
                Lookup::Miss(miss) if miss.is_busy() => busy.push(query.guard),
                Lookup::Miss(miss) => queries.push(Query { miss, ..query }),
            }
        }
        if !queries.is_empty() {
            done.extend(self.load_from_sources(whose, queries, deadline).await);
        }
        let waited = busy.into_iter().map(|guard| async {
            let loaded = self.load(whose, &guard.key().clone(), deadline).await;
            land(guard, loaded)
        });
        done.extend(join_all(waited).await);
        done
    }

    /// Leaves out the keys of which a Bloom filter says that no row has them: one question for all of one source.
    async fn leave_out_absent(
        &self,
        queries: Vec<Query>,
        done: &mut Vec<(Arc<str>, Result<Loaded>)>,
        deadline: Deadline,
    ) -> Vec<Query> {
        let asks = |query: &Query| query.source.bloom && query.miss.error.is_none();
        let (mut asked, mut left): (Vec<Query>, Vec<Query>) = queries.into_iter().partition(asks);
        asked.sort_by(|a, b| a.source.pattern().cmp(b.source.pattern()));
        while let Some(pattern) = asked.last().map(|query| query.source.pattern().to_owned()) {
            let from = asked.partition_point(|query| query.source.pattern() < pattern.as_str());
            let family = asked.split_off(from);
            let keys: Vec<Arc<str>> = family.iter().map(|query| query.guard.key().clone()).collect();
            let may_exist = self.may_exist(&pattern, &keys, deadline).await;
            for (query, may) in family.into_iter().zip(may_exist) {
                match may {
                    true => left.push(query),
                    false => done.push(land(query.guard, Ok(None))),
                }
            }
        }
        left
    }

    /// All queries in one flight on one connection.
    async fn load_from_sources(
        &self,
        whose: Whose,
        queries: Vec<Query>,
        deadline: Deadline,
    ) -> Vec<(Arc<str>, Result<Loaded>)> {
        let tasks: Vec<Task> = queries.iter().map(|query| query.task.clone()).collect();
        let held: Vec<(Arc<str>, Miss)> =
            queries.iter().map(|query| (query.guard.key().clone(), query.miss.clone())).collect();
        let answers = match self.caches.holding_all(&held, self.query_sources(&tasks, deadline)).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); queries.len()],
        };
        join_all(queries.into_iter().zip(answers).map(|(query, rows)| self.settle(whose, query, rows))).await
    }

    async fn query_sources(&self, tasks: &[Task], deadline: Deadline) -> Result<Vec<Result<Vec<Row>>>> {
        // One connection, so one place, however many queries travel on it.
        let permit = self.source_permits.acquire();
        let _permit = deadline
            .run("waiting for a place among source queries", permit)
            .await?
            .map_err(|_| Error::closed())?;
        let pass = self.source_breaker.enter()?;
        self.counters.source_loads.add(tasks.len() as u64);
        let began = clock::now();
        let answers = self.store.query_many(tasks, deadline).await;
        self.counters.source_queries.record(began.elapsed());
        self.source_breaker.leave(&pass, answers.iter().find_map(|answer| answer.as_ref().err()));
        self.counters.source_errors.add(answers.iter().filter(|answer| answer.is_err()).count() as u64);
        Ok(answers)
    }

    async fn settle(&self, whose: Whose, query: Query, rows: Result<Vec<Row>>) -> (Arc<str>, Result<Loaded>) {
        let loaded = self.keep(whose, query.guard.key(), &query.source, rows, &query.miss).await;
        land(query.guard, loaded)
    }
}

fn land(guard: FlightGuard, loaded: Result<Loaded>) -> (Arc<str>, Result<Loaded>) {
    let key = guard.key().clone();
    guard.complete(&loaded);
    (key, loaded)
}
