//! The verbs: conversion in, one call of the core, conversion out.
//!
//! Every method that does I/O takes a `port` last: the caller's completions and future, or `None` to block.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict};
use serde::Serialize;
use zmsg_core::engine::{self as core, Zmsg};
use zmsg_core::error::{Error, Result};

use crate::config::Settings;
use crate::errors::{OrRaise, caught, guarded};
use crate::handle::{Engine as Opening, Handle};
use crate::loading;
use crate::lock::Lock;
use crate::options::{
    Delay, Key, LetterId, Life, Read, delay_options, duration_of, int_of, keys_of, list_of, load_options,
    read_options, source_options, tasks_of, text_of, timeout_of, ttl_of, wait_of, write_options,
};
use crate::receipt::Receipt;
use crate::rows;
use crate::task::{cell_of, task_of};
use crate::values::to_data;
use crate::waiting::{Port, run};

type Object = Py<PyAny>;

/// An engine; `zmsg.Zmsg` and `zmsg.sync.Zmsg` are its faces.
#[pyclass(frozen, module = "zmsg._native")]
pub(crate) struct Engine(Handle);

/// Opens an engine; gives an [`Engine`].
#[pyfunction]
#[pyo3(signature = (settings, port))]
pub(crate) fn open_engine(py: Python<'_>, settings: &Settings, port: Port<'_>) -> PyResult<Object> {
    let engine = Arc::new(Opening::new(settings.config().clone()));
    let call = async move {
        engine.open().await?;
        Ok(engine)
    };
    run(py, port, call, |py, engine| Ok(Py::new(py, Engine(Handle::new(engine)))?.into_any()))
}

impl Engine {
    /// Runs one call of the core with the engine of this process and the call's own time limit.
    fn call<T, F>(
        &self,
        py: Python<'_>,
        port: Port<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        call: impl FnOnce(Zmsg) -> F + Send + 'static,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Object> + Send + 'static,
    ) -> PyResult<Object>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        let timeout: Option<Duration> = timeout_of(timeout.as_ref())?;
        let engine = self.0.current(py)?;
        // In flight from here on, unless the engine has yet to be opened again in a forked child.
        let admitted = engine.opened().map(Zmsg::admitted);
        let work = async move {
            let engine = match admitted {
                Some(engine) => engine,
                None => engine.open().await?,
            };
            call(if timeout.is_some() { engine.with_timeout(timeout) } else { engine }).await
        };
        run(py, port, work, convert)
    }
}

#[pymethods]
impl Engine {
    /// The value in L1, `None` for a cached absence, `...` if L1 does not know.
    #[inline]
    fn lookup(&self, py: Python<'_>, key: Key<'_>) -> PyResult<Object> {
        let found = self.0.look(py, |engine| match engine.opened() {
            Some(engine) => caught(|| engine.peek_entry(key.0)),
            None => Ok(None),
        })?;
        Ok(match found.or_raise(py)? {
            Some(Some(value)) => PyBytes::new(py, &value).into_any().unbind(),
            Some(None) => py.None(),
            None => py.Ellipsis(),
        })
    }

    /// The value in L1, or `None`.
    fn peek(&self, py: Python<'_>, key: Key<'_>) -> PyResult<Option<Object>> {
        let engine = self.0.current(py)?;
        if engine.is_closed() {
            return Err(crate::errors::to_py(py, &Error::closed()));
        }
        let Some(engine) = engine.opened() else { return Ok(None) };
        let value = guarded(py, || engine.peek(key.0))?;
        Ok(value.map(|value| PyBytes::new(py, &value).into_any().unbind()))
    }

    #[pyo3(signature = (key, read, timeout, port))]
    fn get(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        read: Read<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, options) = (key.0.to_owned(), read_options(&read)?);
        let call = move |engine: Zmsg| async move { engine.get_with(&key, options).await };
        self.call(py, port, timeout, call, optional_bytes)
    }

    #[pyo3(signature = (key, read, timeout, port))]
    fn get_required(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        read: Read<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, options) = (key.0.to_owned(), read_options(&read)?);
        let call = move |engine: Zmsg| async move { engine.get_required_with(&key, options).await.map(Some) };
        self.call(py, port, timeout, call, optional_bytes)
    }

    /// Gives `(value, load)`; see [`loading::begun`].
    #[pyo3(signature = (key, life, timeout, port))]
    fn get_or_begin(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        life: Life<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, options) = (key.0.to_owned(), load_options(&life)?);
        let call = |engine: Zmsg| async move { engine.get_or_begin(&key, &options).await };
        self.call(py, port, timeout, call, loading::begun)
    }

    #[pyo3(signature = (key, timeout, port))]
    fn db_hit(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let key = key.0.to_owned();
        self.call(py, port, timeout, |engine| async move { engine.db_hit(&key).await }, yes_or_no)
    }

    #[pyo3(signature = (keys, read, timeout, port))]
    fn get_many(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        read: Read<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (keys, options) = (keys_of(keys)?, read_options(&read)?);
        let call = move |engine: Zmsg| async move {
            let values = engine.get_many_with(&keys, options).await?;
            Ok((keys, values))
        };
        self.call(py, port, timeout, call, |py, (keys, values)| {
            let found = PyDict::new(py);
            for (key, value) in keys.iter().zip(values) {
                if let Some(value) = value {
                    found.set_item(key, PyBytes::new(py, &value))?;
                }
            }
            Ok(found.into_any().unbind())
        })
    }

    #[pyo3(signature = (key, data, ttl, tags, timeout, port))]
    #[expect(clippy::too_many_arguments, reason = "they are the verb's")]
    fn cache_only(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        data: &Bound<'_, PyAny>,
        ttl: Option<Bound<'_, PyAny>>,
        tags: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, data) = (key.0.to_owned(), needed(data, "cache_only")?);
        let options = write_options(ttl.as_ref(), None, tags.as_ref(), None)?;
        self.call(
            py,
            port,
            timeout,
            |engine| async move { engine.cache_only(&key, data, options).await },
            none,
        )
    }

    #[pyo3(signature = (key, data, task, ttl, invalidates, tags, bloom_keys, timeout, port))]
    #[expect(clippy::too_many_arguments, reason = "they are the verb's")]
    fn cache_and_store(
        &self,
        py: Python<'_>,
        key: Option<Key<'_>>,
        data: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        ttl: Option<Bound<'_, PyAny>>,
        invalidates: Option<Bound<'_, PyAny>>,
        tags: Option<Bound<'_, PyAny>>,
        bloom_keys: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, data, tasks) = (key.map(|key| key.0.to_owned()), to_data(data)?, tasks_of(task)?);
        let options = write_options(ttl.as_ref(), invalidates.as_ref(), tags.as_ref(), bloom_keys.as_ref())?;
        let call =
            |engine: Zmsg| async move { engine.cache_and_store(key.as_deref(), data, tasks, options).await };
        self.call(py, port, timeout, call, receipt)
    }

    /// Accepts tasks for the next flush if that needs no waiting: a receipt, or `None` if it does.
    #[pyo3(signature = (key, task, invalidates, bloom_keys))]
    fn periodic_now(
        &self,
        py: Python<'_>,
        key: Option<Key<'_>>,
        task: &Bound<'_, PyAny>,
        invalidates: Option<&Bound<'_, PyAny>>,
        bloom_keys: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Receipt>> {
        let (list, one);
        let tasks = match list_of(task)? {
            Some(tasks) => {
                list = tasks;
                list.as_slice()
            }
            None => {
                one = task_of(task)?;
                std::slice::from_ref(&one)
            }
        };
        let options = write_options(None, invalidates, None, bloom_keys)?;
        let key = key.map(|key| key.0);
        let accepted = self.0.look(py, |engine| match engine.opened() {
            Some(engine) => caught(|| engine.periodic_now(key, tasks, &options)),
            None => Ok(None),
        })?;
        Ok(accepted.or_raise(py)?.map(Receipt::new))
    }

    #[pyo3(signature = (key, data, task, ttl, invalidates, tags, bloom_keys, timeout, port))]
    #[expect(clippy::too_many_arguments, reason = "they are the verb's")]
    fn cache_and_periodic_store(
        &self,
        py: Python<'_>,
        key: Option<Key<'_>>,
        data: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        ttl: Option<Bound<'_, PyAny>>,
        invalidates: Option<Bound<'_, PyAny>>,
        tags: Option<Bound<'_, PyAny>>,
        bloom_keys: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, data, tasks) = (key.map(|key| key.0.to_owned()), to_data(data)?, tasks_of(task)?);
        let options = write_options(ttl.as_ref(), invalidates.as_ref(), tags.as_ref(), bloom_keys.as_ref())?;
        let call = |engine: Zmsg| async move {
            engine.cache_and_periodic_store(key.as_deref(), data, tasks, options).await
        };
        self.call(py, port, timeout, call, receipt)
    }

    #[pyo3(signature = (key, data, task, options, timeout, port))]
    #[expect(clippy::too_many_arguments, reason = "they are the verb's")]
    fn cache_and_delay_store(
        &self,
        py: Python<'_>,
        key: Option<Key<'_>>,
        data: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        options: Delay<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, data, tasks) = (key.map(|key| key.0.to_owned()), to_data(data)?, tasks_of(task)?);
        let options = delay_options(&options)?;
        let call = |engine: Zmsg| async move {
            engine.cache_and_delay_store(key.as_deref(), data, tasks, options).await
        };
        self.call(py, port, timeout, call, receipt)
    }

    #[pyo3(signature = (key, task, options, timeout, port))]
    fn del_delay_store(
        &self,
        py: Python<'_>,
        key: Option<Key<'_>>,
        task: &Bound<'_, PyAny>,
        options: Delay<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, tasks) = (key.map(|key| key.0.to_owned()), tasks_of(task)?);
        let options = delay_options(&options)?;
        let call = |engine: Zmsg| async move { engine.del_delay_store(key.as_deref(), tasks, options).await };
        self.call(py, port, timeout, call, receipt)
    }

    /// Gives what became of the wish, as a word.
    #[pyo3(signature = (op_id, timeout, port))]
    fn cancel_delayed(
        &self,
        py: Python<'_>,
        op_id: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let op_id = text_of(op_id, "op_id")?.to_owned();
        let call = |engine: Zmsg| async move { engine.cancel_delayed(&op_id).await };
        self.call(py, port, timeout, call, |py, cancelled| {
            Ok(cancelled.word().into_pyobject(py)?.into_any().unbind())
        })
    }

    #[pyo3(signature = (timeout, port))]
    fn pause_queue(
        &self,
        py: Python<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        self.call(py, port, timeout, |engine| async move { engine.pause_queue().await }, none)
    }

    #[pyo3(signature = (timeout, port))]
    fn resume_queue(
        &self,
        py: Python<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        self.call(py, port, timeout, |engine| async move { engine.resume_queue().await }, none)
    }

    /// Gives a JSON text.
    #[pyo3(signature = (timeout, port))]
    fn flush(&self, py: Python<'_>, timeout: Option<Bound<'_, PyAny>>, port: Port<'_>) -> PyResult<Object> {
        self.call(py, port, timeout, |engine| async move { engine.flush().await }, json)
    }

    #[pyo3(signature = (task, timeout, port))]
    fn pending(
        &self,
        py: Python<'_>,
        task: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let task = cell_of(task)?;
        let call = |engine: Zmsg| async move { engine.pending(&task).await };
        self.call(py, port, timeout, call, |py, value| match value {
            Some(value) => Ok(rows::to_object(py, &value)?.unbind()),
            None => Ok(py.None()),
        })
    }

    /// Gives a JSON text.
    #[pyo3(signature = (after, limit, timeout, port))]
    fn dead_letters(
        &self,
        py: Python<'_>,
        after: &Bound<'_, PyAny>,
        limit: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let after = int_of(after, "after")?;
        // What does not fit is no limit either.
        let limit = u32::try_from(int_of(limit, "limit")?).unwrap_or(u32::MAX);
        let call = move |engine: Zmsg| async move { engine.dead_letters_after(after, limit).await };
        self.call(py, port, timeout, call, json)
    }

    #[pyo3(signature = (id, timeout, port))]
    fn retry_dead(
        &self,
        py: Python<'_>,
        id: LetterId,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        self.call(py, port, timeout, move |engine| async move { engine.retry_dead(id.0).await }, none)
    }

    /// Gives a JSON text.
    #[pyo3(signature = (timeout, port))]
    fn retry_all_dead(
        &self,
        py: Python<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        self.call(py, port, timeout, |engine| async move { engine.retry_all_dead().await }, json)
    }

    #[pyo3(signature = (id, timeout, port))]
    fn drop_dead(
        &self,
        py: Python<'_>,
        id: LetterId,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        self.call(py, port, timeout, move |engine| async move { engine.drop_dead(id.0).await }, none)
    }

    #[pyo3(signature = (key, timeout, port))]
    fn delete(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let key = key.0.to_owned();
        self.call(py, port, timeout, |engine| async move { engine.del(&key).await }, none)
    }

    /// Gives a bool.
    #[pyo3(signature = (key, data, ttl, tags, timeout, port))]
    #[expect(clippy::too_many_arguments, reason = "they are the verb's")]
    fn add(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        data: &Bound<'_, PyAny>,
        ttl: Option<Bound<'_, PyAny>>,
        tags: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, data) = (key.0.to_owned(), needed(data, "add")?);
        let options = write_options(ttl.as_ref(), None, tags.as_ref(), None)?;
        self.call(py, port, timeout, |engine| async move { engine.add(&key, data, options).await }, yes_or_no)
    }

    /// Gives a bool.
    #[pyo3(signature = (key, ttl, timeout, port))]
    fn touch(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        ttl: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, ttl) = (key.0.to_owned(), ttl_of(ttl.as_ref())?);
        let call = move |engine: Zmsg| async move { engine.touch(&key, ttl).await };
        self.call(py, port, timeout, call, yes_or_no)
    }

    /// Gives seconds, `"never"`, or `None`.
    #[pyo3(signature = (key, timeout, port))]
    fn ttl(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let key = key.0.to_owned();
        self.call(
            py,
            port,
            timeout,
            |engine| async move { engine.ttl(&key).await },
            |py, left| {
                Ok(match left {
                    core::Left::Nothing => py.None(),
                    core::Left::Forever => "never".into_pyobject(py)?.into_any().unbind(),
                    core::Left::For(left) => left.as_secs_f64().into_pyobject(py)?.into_any().unbind(),
                })
            },
        )
    }

    /// Gives an int.
    #[pyo3(signature = (key, by, ttl, timeout, port))]
    fn incr(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        by: &Bound<'_, PyAny>,
        ttl: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, by, ttl) = (key.0.to_owned(), int_of(by, "by")?, ttl_of(ttl.as_ref())?);
        let call = move |engine: Zmsg| async move { engine.incr(&key, by, ttl).await };
        self.call(py, port, timeout, call, |py, sum| Ok(sum.into_pyobject(py)?.into_any().unbind()))
    }

    /// Takes pairs of key and data.
    #[pyo3(signature = (items, ttl, tags, timeout, port))]
    fn cache_many(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        ttl: Option<Bound<'_, PyAny>>,
        tags: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let pair = |item: PyResult<Bound<'_, PyAny>>| {
            let (key, data): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
            Ok((text_of(&key, "a key")?.to_owned(), needed(&data, "cache_many")?))
        };
        let items = items.try_iter()?.map(pair).collect::<PyResult<Vec<_>>>()?;
        let options = write_options(ttl.as_ref(), None, tags.as_ref(), None)?;
        self.call(py, port, timeout, |engine| async move { engine.cache_many(items, options).await }, none)
    }

    #[pyo3(signature = (keys, timeout, port))]
    fn delete_many(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let keys = keys_of(keys)?;
        self.call(py, port, timeout, |engine| async move { engine.delete_many(&keys).await }, none)
    }

    /// Gives a list of str.
    #[pyo3(signature = (prefix, timeout, port))]
    fn keys(
        &self,
        py: Python<'_>,
        prefix: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let prefix = text_of(prefix, "the prefix")?.to_owned();
        let call = |engine: Zmsg| async move { engine.keys(&prefix).await };
        self.call(py, port, timeout, call, |py, keys| Ok(keys.into_pyobject(py)?.into_any().unbind()))
    }

    /// Gives an int.
    #[pyo3(signature = (prefix, timeout, port))]
    fn clear(
        &self,
        py: Python<'_>,
        prefix: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let prefix = text_of(prefix, "the prefix")?.to_owned();
        let call = |engine: Zmsg| async move { engine.clear(&prefix).await };
        self.call(py, port, timeout, call, |py, count| Ok(count.into_pyobject(py)?.into_any().unbind()))
    }

    #[pyo3(signature = (tag, timeout, port))]
    fn invalidate_tag(
        &self,
        py: Python<'_>,
        tag: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let tag = text_of(tag, "the tag")?.to_owned();
        self.call(py, port, timeout, |engine| async move { engine.invalidate_tag(&tag).await }, none)
    }

    /// Gives a [`Lock`].
    #[pyo3(signature = (name, ttl, wait, port))]
    fn lock(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        ttl: Option<Bound<'_, PyAny>>,
        wait: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let name = text_of(name, "the name of a lock")?.to_owned();
        let ttl = ttl.map(|ttl| duration_of(&ttl, "ttl")).transpose()?;
        let options = core::LockOptions { ttl, wait: wait_of(wait.as_ref())? };
        let call = move |engine: Zmsg| async move { engine.lock(&name, options).await };
        self.call(py, port, None, call, |py, lock| Ok(Py::new(py, Lock::new(lock))?.into_any()))
    }

    #[pyo3(signature = (key, task, invalidates, bloom_keys, timeout, port))]
    #[expect(clippy::too_many_arguments, reason = "they are the verb's")]
    fn del_store(
        &self,
        py: Python<'_>,
        key: Option<Key<'_>>,
        task: &Bound<'_, PyAny>,
        invalidates: Option<Bound<'_, PyAny>>,
        bloom_keys: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let (key, tasks) = (key.map(|key| key.0.to_owned()), tasks_of(task)?);
        let options = write_options(None, invalidates.as_ref(), None, bloom_keys.as_ref())?;
        let call = |engine: Zmsg| async move { engine.del_store(key.as_deref(), tasks, options).await };
        self.call(py, port, timeout, call, receipt)
    }

    /// Gives `(rows_affected, rows)`.
    #[pyo3(signature = (task, timeout, port))]
    fn sql_exec(
        &self,
        py: Python<'_>,
        task: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let tasks = tasks_of(task)?;
        self.call(
            py,
            port,
            timeout,
            |engine| async move { engine.sql_exec(tasks).await },
            |py, done| {
                Ok((done.rows_affected, rows::to_dicts(py, &done.rows)?)
                    .into_pyobject(py)?
                    .into_any()
                    .unbind())
            },
        )
    }

    #[pyo3(signature = (task, timeout, port))]
    fn query(
        &self,
        py: Python<'_>,
        task: &Bound<'_, PyAny>,
        timeout: Option<Bound<'_, PyAny>>,
        port: Port<'_>,
    ) -> PyResult<Object> {
        let task = task_of(task)?;
        self.call(
            py,
            port,
            timeout,
            |engine| async move { engine.query(task).await },
            |py, rows| Ok(rows::to_dicts(py, &rows)?.into_any().unbind()),
        )
    }

    /// `prefix_number`, or the bare number without a prefix.
    #[pyo3(signature = (prefix = None))]
    fn next_id(&self, py: Python<'_>, prefix: Option<Key<'_>>) -> PyResult<Object> {
        let engine = self.0.opened(py)?;
        Ok(match prefix {
            Some(prefix) => guarded(py, || engine.next_id(prefix.0))?.into_pyobject(py)?.into_any().unbind(),
            None => guarded(py, || engine.next_id_number())?.into_pyobject(py)?.into_any().unbind(),
        })
    }

    #[pyo3(signature = (pattern, task, life, refresh_ahead, bloom, keys))]
    #[expect(clippy::too_many_arguments, reason = "they are the verb's")]
    fn source(
        &self,
        py: Python<'_>,
        pattern: Key<'_>,
        task: &Bound<'_, PyAny>,
        life: Life<'_>,
        refresh_ahead: Option<Bound<'_, PyAny>>,
        bloom: bool,
        keys: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let options = source_options(&life, refresh_ahead.as_ref(), bloom, keys.as_ref())?;
        let task = task_of(task)?;
        let engine = self.0.current(py)?;
        guarded(py, || engine.declare(pattern.0, task, options))
    }

    fn load_dir(&self, py: Python<'_>, path: PathBuf) -> PyResult<Migrations> {
        let engine = self.0.opened(py)?;
        guarded(py, || engine.load_dir(&path)).map(Migrations::new)
    }

    fn load(&self, py: Python<'_>, path: PathBuf) -> PyResult<Migrations> {
        let engine = self.0.opened(py)?;
        guarded(py, || engine.load(&path)).map(Migrations::new)
    }

    fn load_sql(&self, py: Python<'_>, text: Key<'_>, name: Key<'_>) -> PyResult<Migrations> {
        let engine = self.0.opened(py)?;
        guarded(py, || engine.load_sql(text.0, name.0)).map(Migrations::new)
    }

    /// A JSON text.
    #[pyo3(signature = (timeout, port))]
    fn health(&self, py: Python<'_>, timeout: Option<Bound<'_, PyAny>>, port: Port<'_>) -> PyResult<Object> {
        self.call(py, port, timeout, |engine| async move { engine.health().await }, json)
    }

    /// A JSON text.
    fn stats(&self, py: Python<'_>) -> PyResult<Object> {
        let engine = self.0.opened(py)?;
        json(py, guarded(py, || Ok(engine.stats()))?)
    }

    #[pyo3(signature = (port))]
    fn close(&self, py: Python<'_>, port: Port<'_>) -> PyResult<Object> {
        let engine = self.0.current(py)?;
        run(py, port, async move { engine.close().await }, none)
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.current(py)?.is_closed())
    }
}

/// Migrations that were loaded and not yet run.
#[pyclass(frozen, module = "zmsg._native")]
pub(crate) struct Migrations(Mutex<Option<core::Migrations>>);

impl Migrations {
    fn new(loaded: core::Migrations) -> Migrations {
        Migrations(Mutex::new(Some(loaded)))
    }
}

#[pymethods]
impl Migrations {
    /// Applies what has not been applied; gives a JSON text.
    #[pyo3(signature = (port))]
    fn migrate(&self, py: Python<'_>, port: Port<'_>) -> PyResult<Object> {
        let again = || Error::task("these migrations were run already; load them again");
        let loaded = self.0.lock().take();
        let loaded = loaded.ok_or_else(again).or_raise(py)?;
        run(py, port, loaded.migrate(), json)
    }
}

/// The data of a verb that caches something.
fn needed(data: &Bound<'_, PyAny>, verb: &str) -> PyResult<Bytes> {
    let nothing = || Error::task(format!("{verb} needs data; None would leave the cache as it is"));
    to_data(data)?.ok_or_else(nothing).or_raise(data.py())
}

pub(crate) fn yes_or_no(py: Python<'_>, yes: bool) -> PyResult<Object> {
    Ok(PyBool::new(py, yes).to_owned().into_any().unbind())
}

fn none(py: Python<'_>, _nothing: ()) -> PyResult<Object> {
    Ok(py.None())
}

fn optional_bytes(py: Python<'_>, value: Option<Bytes>) -> PyResult<Object> {
    Ok(value.map_or_else(|| py.None(), |value| PyBytes::new(py, &value).into_any().unbind()))
}

fn json(py: Python<'_>, told: impl Serialize) -> PyResult<Object> {
    let text = serde_json::to_string(&told).expect("a struct of numbers and texts has a JSON form");
    Ok(text.into_pyobject(py)?.into_any().unbind())
}

fn receipt(py: Python<'_>, receipt: core::Receipt) -> PyResult<Object> {
    Ok(Py::new(py, Receipt::new(receipt))?.into_any())
}
