//! Aggregated writes: accepted now, composed in memory, flushed in batches.
//!
//! ```text
//! accepted (journal) ─▶ value cached, if there is one ─▶ receipt … flush: COMMIT ─▶ caches ─▶ receipt.done()
//! ```
//! Accepted first: a value that is cached for an operation that was then refused would be one that never comes true.

use bytes::Bytes;

use super::limits::{check_data, check_key, check_tags};
use super::write::own;
use super::{FlushReport, Receipt, Tasks, WriteOptions, Zmsg};
use crate::base::service;
use crate::batch::{Keys, ToCache};
use crate::cache::digest;
use crate::error::{Error, Result};
use crate::sql::Task;
use crate::value::Value;

const VERB: &str = "cache_and_periodic_store";

impl Zmsg {
    /// Accepts tasks for the next flush and caches `data` under `key`. Operations of builders on one cell are composed:
    /// five hundred `inc(1)` become one `+ 500`. A list of tasks is accepted and applied as one.
    ///
    /// Without data the caches are left as they are until the flush; after its COMMIT the key is dropped from every cache,
    /// unless they still hold the value cached with it.
    ///
    /// # Errors
    /// `Task` for what cannot be aggregated (a read, RETURNING, a template); `Overloaded` if there was no room within
    /// `overload_timeout`; `CommitUnknown` if the disk failed in class `journal_fsync`. A cache that fails after the task
    /// was accepted is no error: see [`Receipt::cached`].
    pub async fn cache_and_periodic_store(
        &self,
        key: Option<&str>,
        data: Option<Bytes>,
        tasks: impl Into<Tasks>,
        options: WriteOptions,
    ) -> Result<Receipt> {
        let (tasks, options) = (tasks.into().0, options.with_bloom_keys_named());
        match data {
            None => match self.periodic_now(key, &tasks, &options)? {
                Some(receipt) => Ok(receipt),
                None => self.periodic(key, None, tasks, options).await,
            },
            Some(data) => self.periodic(key, Some(data), tasks, options).await,
        }
    }

    /// The same without data, if it needs no waiting: `None` if there is no room now or the journal has to reach the disk
    /// first. No I/O, so that it can be called where nothing can be awaited.
    ///
    /// # Errors
    /// As [`Zmsg::cache_and_periodic_store`].
    #[inline]
    pub fn periodic_now(
        &self,
        key: Option<&str>,
        tasks: &[Task],
        options: &WriteOptions,
    ) -> Result<Option<Receipt>> {
        let named;
        let options = match options.bloom_keys.is_empty() {
            true => options,
            false => {
                named = options.clone().with_bloom_keys_named();
                &named
            }
        };
        self.check_periodic(key, tasks, options)?;
        let _call = self.enter()?;
        let keys = Keys { key, invalidates: &options.invalidates };
        let batcher = &self.state.batcher;
        Ok(batcher
            .try_accept(tasks, keys)?
            .map(|ticket| Receipt::accepted(ticket, batcher.durability(), true)))
    }

    async fn periodic(
        &self,
        key: Option<&str>,
        data: Option<Bytes>,
        tasks: Vec<Task>,
        options: WriteOptions,
    ) -> Result<Receipt> {
        self.check_periodic(key, &tasks, &options)?;
        match (key, &data) {
            (Some(key), Some(data)) => check_data(&self.state.config, key, data)?,
            (None, Some(_)) => {
                return Err(Error::task(format!("{VERB} was given data but no key to cache it under")));
            }
            _ => {}
        }
        let (zmsg, call, deadline) = (self.clone(), self.enter()?, self.deadline());
        let entry = key.zip(data.as_ref()).map(|(key, data)| (key.to_owned(), own(data)));
        let key = key.map(str::to_owned);
        service::detached(async move {
            let (_call, state) = (call, &zmsg.state);
            let keys = Keys { key: key.as_deref(), invalidates: &options.invalidates };
            let kept = entry.as_ref().map(|(_, data)| ToCache { digest: digest(data), gate: &state.gate });
            let entry = match entry {
                Some((key, data)) => Some((key, state.value(data, &options).await)),
                None => None,
            };
            // Held until the value is cached.
            let (ticket, _held) = state.batcher.accept(&tasks, keys, kept, deadline).await?;
            let cached = match entry {
                Some((key, value)) => state.put_or_drop(state.caches.begin(&[key]), value, None).await,
                None => Ok(()),
            };
            if let Err(error) = &cached {
                log::warn!("a value could not be cached with its aggregated write: {error}");
            }
            Ok(Receipt::accepted(ticket, state.batcher.durability(), cached.is_ok()))
        })
        .await
    }

    #[inline]
    fn check_periodic(&self, key: Option<&str>, tasks: &[Task], options: &WriteOptions) -> Result<()> {
        if tasks.is_empty() {
            return Err(Error::task(format!("{VERB} was given an empty list of tasks; give at least one")));
        }
        self.state.check_usable()?;
        let config = &self.state.config;
        for key in key.into_iter().chain(options.invalidates.iter().map(String::as_str)) {
            check_key(config, key)?;
        }
        check_tags(config, &options.tags)?;
        tasks.iter().try_for_each(|task| check_task(VERB, task))
    }

    /// Flushes everything that was accepted so far, and says what that did.
    ///
    /// # Errors
    /// Why the first try failed (the operations stay in the journal, and the background tries again), `Timeout`,
    /// `Closed`.
    pub async fn flush(&self) -> Result<FlushReport> {
        let _call = self.enter()?;
        let deadline = self.deadline();
        self.state.own_tables(deadline).await?;
        self.state.batcher.flush(deadline).await
    }

    /// The value of the cell that a builder's task changes, as it will be once everything pending in this process is
    /// flushed; the task's own operations are not applied. `None` if the row is missing and nothing pending makes it.
    ///
    /// # Errors
    /// `Task` for a statement in the caller's words, or if WHERE finds several rows; `Store`, `Timeout`, `Closed`.
    pub async fn pending(&self, task: &Task) -> Result<Option<Value>> {
        task.check_runnable("pending")?;
        let _call = self.enter()?;
        let deadline = self.deadline();
        self.state.own_tables(deadline).await?;
        self.state.batcher.pending(task, deadline).await
    }
}

#[inline]
pub(super) fn check_task(verb: &str, task: &Task) -> Result<()> {
    task.check_runnable(verb)?;
    if task.returns_rows() {
        return Err(Error::task(format!(
            "{verb} cannot give rows back: the statement runs later; leave RETURNING out"
        )));
    }
    if task.is_of_session() {
        return Err(Error::task(format!(
            "{verb} takes statements that change rows; this one concerns the connection, which is shared"
        )));
    }
    if task.is_read() {
        return Err(Error::task(format!(
            "{verb} takes statements that change rows, not one that reads; to run a function for its effects, write \
             DO $$BEGIN PERFORM f(); END$$, or CALL a procedure"
        )));
    }
    Ok(())
}
