//! Delayed writes: accepted by Redis, run in order, once, by whichever process has a worker.
//!
//! ```text
//! accepted (queue) ─▶ value cached, if there is one ─▶ receipt … worker: COMMIT ─▶ caches ─▶ receipt.done()
//! ```
//! Accepted first: a value that is cached for a write that was then refused would be one that never comes true.

use std::time::Duration;

use bytes::Bytes;

use super::fenced::Fenced;
use super::limits::{check_data, check_key, check_tags};
use super::periodic::check_task;
use super::write::own;
use super::{Receipt, Tasks, WriteOptions, Zmsg};
use crate::base::{Deadline, clock, random, service};
use crate::config::QueueFallback;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Accepted, Cancelled, Delayed, MOST_OP_ID, Queue};
use crate::sql::Task;

const STORE: &str = "cache_and_delay_store";
const DEL: &str = "del_delay_store";

/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 86_400);

/// Options of a delayed write.
#[derive(Debug, Clone, Default)]
pub struct DelayOptions {
    /// What it is to the caches.
    pub write: WriteOptions,
    /// From when on it runs; `None` is `queue.task_delay`, zero is at once.
    pub delay: Option<Duration>,
    /// Names the operation: a second call with the same name finds the first, and there is one effect. 1 to 200 printable
    /// ASCII characters without spaces; `None` makes one up.
    pub op_id: Option<String>,
    /// Whether it takes the place of the last waiting write of its key, if that one may be replaced as well and has not
    /// started.
    pub coalesce: bool,
    /// The time of one try; `None` is `queue.task_timeout`.
    pub task_timeout: Option<Duration>,
}

impl Cancelled {
    /// The word for it in Python and Node.
    pub fn word(self) -> &'static str {
        match self {
            Cancelled::Yes => "cancelled",
            Cancelled::Started => "started",
            Cancelled::Unknown => "unknown",
        }
    }
}

/// What a delayed write does to its key at once.
enum Entry {
    /// Leaves it alone.
    Nothing,
    Value(Bytes),
    Dropped,
}

impl Zmsg {
    /// Accepts tasks for the queue and caches `data` under `key`. They run in one transaction after the delay, once, in the
    /// order in which they were accepted for the key; whichever process has a worker runs them.
    ///
    /// Without data the caches are left as they are until then; after the COMMIT the key is dropped from every cache, unless
    /// they hold the value of this write or of a later accepted one.
    ///
    /// # Errors
    /// `Task` for what cannot run later (a read, RETURNING, a template) and for bad options; `Queue` if Redis did not
    /// accept it: it says whether that is certain, and a call with the same `op_id` finds out. With `queue.fallback: sync`
    /// the tasks run at once instead, and errors are those of [`Zmsg::cache_and_store`]. A cache that fails after the
    /// acceptance is no error: see [`Receipt::cached`].
    pub async fn cache_and_delay_store(
        &self,
        key: Option<&str>,
        data: Option<Bytes>,
        tasks: impl Into<Tasks>,
        options: DelayOptions,
    ) -> Result<Receipt> {
        match (key, &data) {
            (Some(key), Some(data)) => check_data(&self.state.config, key, data)?,
            (None, Some(_)) => {
                return Err(Error::task(format!("{STORE} was given data but no key to cache it under")));
            }
            _ => {}
        }
        let entry = data.map_or(Entry::Nothing, |data| Entry::Value(own(&data)));
        self.delayed(STORE, key, entry, tasks.into().0, options).await
    }

    /// The same for a key that is dropped from every cache, now and again after the COMMIT.
    ///
    /// # Errors
    /// As [`Zmsg::cache_and_delay_store`].
    pub async fn del_delay_store(
        &self,
        key: Option<&str>,
        tasks: impl Into<Tasks>,
        options: DelayOptions,
    ) -> Result<Receipt> {
        if options.write.ttl.is_some() {
            return Err(Error::task(format!("{DEL} takes no ttl: it caches nothing")));
        }
        if !options.write.tags.is_empty() {
            return Err(Error::task(format!("{DEL} takes no tags: it caches nothing")));
        }
        self.delayed(DEL, key, Entry::Dropped, tasks.into().0, options).await
    }

    /// Takes back a delayed write that no worker has begun.
    ///
    /// # Errors
    /// `Queue`, `Timeout`, `Closed`; `Config` if there is no queue.
    pub async fn cancel_delayed(&self, op_id: &str) -> Result<Cancelled> {
        let _call = self.enter()?;
        self.queue("cancel_delayed")?.cancel(op_id, self.deadline()).await
    }

    /// Keeps the workers of all processes from beginning anything. Writes are accepted all the same.
    ///
    /// # Errors
    /// As [`Zmsg::cancel_delayed`].
    pub async fn pause_queue(&self) -> Result<()> {
        let _call = self.enter()?;
        self.queue("pause_queue")?.pause(true, self.deadline()).await
    }

    /// Lets the workers go on.
    ///
    /// # Errors
    /// As [`Zmsg::cancel_delayed`].
    pub async fn resume_queue(&self) -> Result<()> {
        let _call = self.enter()?;
        self.queue("resume_queue")?.pause(false, self.deadline()).await
    }

    async fn delayed(
        &self,
        verb: &'static str,
        key: Option<&str>,
        entry: Entry,
        tasks: Vec<Task>,
        mut options: DelayOptions,
    ) -> Result<Receipt> {
        options.write = options.write.with_bloom_keys_named();
        self.check_delayed(verb, key, &tasks, &options)?;
        self.queue(verb)?;
        let (zmsg, call, deadline) = (self.clone(), self.enter()?, self.deadline());
        let key = key.map(str::to_owned);
        service::detached(async move {
            let _call = call;
            zmsg.accept_delayed(key, entry, tasks, options, deadline).await
        })
        .await
    }

    async fn accept_delayed(
        self,
        key: Option<String>,
        entry: Entry,
        tasks: Vec<Task>,
        options: DelayOptions,
        deadline: Deadline,
    ) -> Result<Receipt> {
        let (state, queue) = (&self.state, self.queue(STORE)?);
        let named = options.op_id.is_some();
        let op_id = options.op_id.unwrap_or_else(random::operation_id);
        let delay = options.delay.unwrap_or(state.config.queue.task_delay);
        let delayed = Delayed {
            op_id: &op_id,
            key: key.as_deref(),
            invalidates: &options.write.invalidates,
            tasks: &tasks,
            delay,
            timeout: options.task_timeout,
            coalesce: options.coalesce,
            named,
        };
        // Until PostgreSQL was reached nobody knows whose queue this is.
        state.own_tables(deadline).await.map_err(|error| error.with_op_id(&op_id))?;
        let (value, drops) = match entry {
            Entry::Value(data) => (Some(state.value(data, &options.write).await), false),
            Entry::Dropped => (None, true),
            Entry::Nothing => (None, false),
        };
        let began = clock::now();
        match queue.accept(&delayed, deadline).await {
            Ok(Accepted { ticket, sequence, durability }) => {
                let cached = match (key, value, sequence) {
                    (Some(key), Some(value), Some(sequence)) => {
                        let change = state.caches.begin(std::slice::from_ref(&key));
                        let put = state.put_or_drop(change, value, Some(sequence)).await;
                        // Where it may have had its effect before its value was cached, that value may be older than what
                        // others have written since.
                        let in_time = clock::now().duration_since(began) < delay;
                        if in_time || queue.has(&op_id, deadline).await.unwrap_or(false) {
                            put
                        } else {
                            state.drop_keys(state.caches.begin(&[key])).await
                        }
                    }
                    (Some(key), None, _) if drops => state.drop_keys(state.caches.begin(&[key])).await,
                    _ => Ok(()),
                };
                if let Err(error) = &cached {
                    log::warn!("the caches could not follow a delayed write: {error}");
                }
                Ok(Receipt::delayed(ticket, durability, cached.is_ok()))
            }
            Err(error)
                if error.kind() == ErrorKind::Queue && state.config.queue.fallback == QueueFallback::Sync =>
            {
                log::warn!("a delayed write runs at once: {error}");
                let fencing = Fenced::begin(state, key.as_deref(), &options.write.invalidates, deadline);
                let fenced = match fencing.await {
                    Ok(fenced) => fenced,
                    Err(unfenced) => {
                        log::warn!("it does not, as the caches cannot be told of it: {unfenced}");
                        // That of the queue: it may have the write all the same.
                        return Err(error.with_op_id(&op_id));
                    }
                };
                let ran = queue.run_now(&delayed, deadline).await;
                let untold = matches!(value, Some(Err(_)));
                let cached = fenced.end(&ran, value.and_then(Result::ok)).await && !untold;
                ran.map_err(|error| error.with_op_id(&op_id))?;
                Ok(Receipt::committed(op_id, crate::store::ExecResult::default(), cached))
            }
            Err(error) => Err(error),
        }
    }

    fn check_delayed(
        &self,
        verb: &str,
        key: Option<&str>,
        tasks: &[Task],
        options: &DelayOptions,
    ) -> Result<()> {
        if tasks.is_empty() {
            return Err(Error::task(format!("{verb} was given an empty list of tasks; give at least one")));
        }
        self.state.check_usable()?;
        let config = &self.state.config;
        for key in key.into_iter().chain(options.write.invalidates.iter().map(String::as_str)) {
            check_key(config, key)?;
        }
        check_tags(config, &options.write.tags)?;
        if key == Some("") {
            return Err(Error::task(format!("{verb} was given an empty key")));
        }
        if options.delay.is_some_and(|delay| delay > LONGEST_DELAY) {
            return Err(Error::task(format!("{verb}: delay is above a year")));
        }
        if options.coalesce && key.is_none() {
            return Err(Error::task(format!(
                "{verb}: coalesce needs a key, of which the later write replaces the earlier"
            )));
        }
        if let Some(op_id) = &options.op_id
            && (op_id.is_empty()
                || op_id.len() > MOST_OP_ID
                || !op_id.bytes().all(|it| it.is_ascii_graphic()))
        {
            return Err(Error::task(format!(
                "{verb}: op_id has to be 1 to {MOST_OP_ID} printable ASCII characters without spaces, not {op_id:?}"
            )));
        }
        tasks.iter().try_for_each(|task| check_task(verb, task))
    }

    fn queue(&self, verb: &str) -> Result<&Queue> {
        self.state.queue.as_ref().ok_or_else(|| {
            Error::config(format!("{verb} needs a Redis for the queue: set queue.addr or redis_addr"))
        })
    }
}
