//! The verbs that write: to the caches only, or to PostgreSQL and then the caches.

use std::sync::Arc;

use bytes::Bytes;

use super::caller::Caller;
use super::filters::Announced;
use super::limits::{check_data, check_key, check_tags, check_write};
use super::order::CacheAfterCommit;
use super::{Receipt, Tasks, WriteOptions, Zmsg};
use crate::base::{Deadline, random, service};
use crate::error::{Error, Result};
use crate::sql::Task;

impl Zmsg {
    /// Puts a value into the caches only; PostgreSQL is not told.
    ///
    /// # Errors
    /// `Task` for a bad key or an oversized value, `Cache` if Redis did not take it (this process then holds nothing
    /// under the key either).
    pub async fn cache_only(&self, key: &str, data: Bytes, options: WriteOptions) -> Result<()> {
        check_key(&self.state.config, key)?;
        check_data(&self.state.config, key, &data)?;
        check_write("cache_only", &self.state.config, &options)?;
        let (zmsg, key, deadline) = (self.clone(), key.to_owned(), self.deadline());
        let data = own(&data);
        let call = self.enter()?;
        let work = async move {
            let _call = call;
            let value = zmsg.state.value(data, &options).await;
            zmsg.state.put_or_drop(zmsg.state.caches.begin(&[key]), value, None).await
        };
        deadline.run("putting a value into the caches", service::to_the_end(work)).await?
    }

    /// Drops a key from every cache. A key that is not there is fine.
    ///
    /// # Errors
    /// `Cache` if Redis could not be told; this process's memory has dropped the key all the same.
    pub async fn del(&self, key: &str) -> Result<()> {
        check_key(&self.state.config, key)?;
        let (zmsg, keys, deadline) = (self.clone(), [key.to_owned()], self.deadline());
        let call = self.enter()?;
        let work = async move {
            let _call = call;
            zmsg.state.drop_keys(zmsg.state.caches.begin(&keys)).await
        };
        deadline.run("dropping a key from the caches", service::to_the_end(work)).await?
    }

    /// Runs the tasks in one transaction and, after its COMMIT, caches `data` under `key`. Without data the key is
    /// dropped from the caches, since what they hold is older than the row; without a key no cache is concerned.
    ///
    /// # Errors
    /// `Task` before anything is sent; `Store` with its SQLSTATE if the database refused, `Timeout` if it took too
    /// long: then nothing is stored and no cache has changed. `CommitUnknown` if the connection was lost during COMMIT
    /// and the database could not be asked. A cache that fails after the COMMIT is no error: see [`Receipt::cached`].
    pub async fn cache_and_store(
        &self,
        key: Option<&str>,
        data: Option<Bytes>,
        tasks: impl Into<Tasks>,
        options: WriteOptions,
    ) -> Result<Receipt> {
        let tasks = tasks.into().checked("cache_and_store")?;
        match (key, &data) {
            (Some(key), Some(data)) => check_data(&self.state.config, key, data)?,
            (None, Some(_)) => {
                return Err(Error::task("cache_and_store was given data but no key to cache it under"));
            }
            _ => {}
        }
        self.store(key, data, tasks, options).await
    }

    /// Runs the tasks in one transaction and, after its COMMIT, drops `key` from every cache.
    ///
    /// # Errors
    /// As [`Zmsg::cache_and_store`].
    pub async fn del_store(
        &self,
        key: Option<&str>,
        tasks: impl Into<Tasks>,
        options: WriteOptions,
    ) -> Result<Receipt> {
        if options.ttl.is_some() {
            return Err(Error::task("del_store takes no ttl: it caches nothing"));
        }
        if !options.tags.is_empty() {
            return Err(Error::task("del_store takes no tags: it caches nothing"));
        }
        let tasks = tasks.into().checked("del_store")?;
        self.store(key, None, tasks, options).await
    }

    async fn store(
        &self,
        key: Option<&str>,
        data: Option<Bytes>,
        tasks: Vec<Task>,
        options: WriteOptions,
    ) -> Result<Receipt> {
        let (config, options) = (&self.state.config, options.with_bloom_keys_named());
        for key in key.into_iter().chain(options.invalidates.iter().map(String::as_str)) {
            check_key(config, key)?;
        }
        check_tags(config, &options.tags)?;
        let keys = key.map(str::to_owned).into_iter().chain(options.invalidates.iter().cloned()).collect();
        let (caller, waiting) = Caller::new();
        let entry = key.map(|key| (key.to_owned(), data.as_ref().map(own)));
        let (state, deadline) = (self.state.clone(), self.deadline());
        let hooks = CacheAfterCommit::new(state, entry, options, caller, deadline);
        let hooks = Arc::new(hooks);
        let receipt = service::detached(self.clone().transact(tasks, keys, hooks, deadline)).await;
        drop(waiting);
        receipt
    }

    async fn transact(
        self,
        tasks: Vec<Task>,
        keys: Vec<String>,
        hooks: Arc<CacheAfterCommit>,
        deadline: Deadline,
    ) -> Result<Receipt> {
        let _call = self.enter()?;
        self.state.own_tables(deadline).await?;
        let op_id = random::operation_id();
        let announced = Arc::new(Announced::new(hooks.clone(), self.state.filters.clone(), keys));
        let mut tries = 0;
        let outcome = loop {
            announced.prepare(deadline).await.map_err(|error| error.with_op_id(&op_id))?;
            let outcome = self.state.store.transact(&tasks, announced.clone(), deadline).await;
            tries += 1;
            if outcome.is_ok() || !announced.may_try_again(tries) {
                break outcome;
            }
        };
        let total = outcome.map_err(|error| error.with_op_id(&op_id))?.total();
        Ok(Receipt::committed(op_id, total, hooks.cached()))
    }
}

/// A copy: a slice of a caller's buffer would keep all of it in memory for as long as it is cached.
pub(super) fn own(data: &Bytes) -> Bytes {
    Bytes::copy_from_slice(data)
}
