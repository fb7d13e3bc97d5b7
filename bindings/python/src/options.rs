//! Keys and options of calls, as Python gives them.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDelta, PyInt, PyList, PySequence, PyString, PyTuple};
use zmsg_core::config::{NumberUnit, TimeArgument, Ttl, delay_from_argument, duration_from_argument};
use zmsg_core::engine::{DelayOptions, LoadOptions, ReadOptions, SourceOptions, Tasks, WriteOptions};
use zmsg_core::error::Error;
use zmsg_core::sql as core;

use crate::errors::{OrRaise, task_error, to_py};
use crate::task::task_of;

/// A cache key: text, checked for its length by the engine.
pub(crate) struct Key<'a>(pub(crate) &'a str);

impl<'a, 'py> FromPyObject<'a, 'py> for Key<'a> {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Key<'a>> {
        borrowed_text(object, "the key").map(Key)
    }
}

/// The id of a dead letter, checked before anything is asked of the database.
pub(crate) struct LetterId(pub(crate) i64);

impl<'a, 'py> FromPyObject<'a, 'py> for LetterId {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<LetterId> {
        let given = if object.is_instance_of::<PyInt>() && !object.is_instance_of::<PyBool>() {
            match object.extract::<i64>() {
                Ok(id) if id > 0 => return Ok(LetterId(id)),
                Ok(id) => id.to_string(),
                Err(_) => "one of more than 64 bits".to_owned(),
            }
        } else {
            object.get_type().fully_qualified_name()?.to_string()
        };
        let message = format!(
            "the id of a dead letter must be a positive int, as dead_letters() gives it, not {given}"
        );
        Err(task_error(object.py(), message))
    }
}

/// A whole number of at most 64 bits; a `bool` is none.
pub(crate) fn int_of(object: &Bound<'_, PyAny>, option: &str) -> PyResult<i64> {
    if !object.is_instance_of::<PyInt>() || object.is_instance_of::<PyBool>() {
        let name = object.get_type().fully_qualified_name()?;
        return Err(task_error(object.py(), format!("{option} must be an int, not {name}")));
    }
    object
        .extract()
        .map_err(|_: PyErr| task_error(object.py(), format!("{option} must be an int of at most 64 bits")))
}

/// The text of a `str`; `what` names it in the error.
#[inline]
pub(crate) fn text_of<'a>(object: &'a Bound<'_, PyAny>, what: &str) -> PyResult<&'a str> {
    borrowed_text(object.as_borrowed(), what)
}

/// The same, of an element of a tuple.
#[inline]
pub(crate) fn borrowed_text<'a>(object: Borrowed<'a, '_, PyAny>, what: &str) -> PyResult<&'a str> {
    object.extract().map_err(|_: PyErr| {
        let py = object.py();
        if object.is_instance_of::<PyString>() {
            return task_error(py, format!("{what} holds a lone surrogate, which is not UTF-8"));
        }
        let name = object.get_type().name().map_or_else(|_| "that".to_owned(), |name| name.to_string());
        task_error(py, format!("{what} must be a str, not {name}"))
    })
}

/// Several keys, from any sequence or iterable.
pub(crate) fn keys_of(keys: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    texts_of(keys, "keys", "a key")
}

fn texts_of(texts: &Bound<'_, PyAny>, all: &str, one: &str) -> PyResult<Vec<String>> {
    if texts.is_instance_of::<PyString>() {
        return Err(task_error(texts.py(), format!("{all} must be several {all}, not one str")));
    }
    texts.try_iter()?.map(|text| Ok(text_of(&text?, one)?.to_owned())).collect()
}

/// The time of an option: seconds, a `timedelta`, or text as `"5s"`.
pub(crate) fn duration_of(object: &Bound<'_, PyAny>, option: &str) -> PyResult<Duration> {
    duration_from_argument(argument_of(object, option)?, option).or_raise(object.py())
}

/// `timeout=`; `None` is the configured one.
pub(crate) fn timeout_of(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    object.map(|object| duration_of(object, "timeout")).transpose()
}

/// `ttl=`: a time or `"never"`; `None` is the configured one.
pub(crate) fn ttl_of(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Ttl>> {
    object
        .map(|object| Ttl::from_argument(argument_of(object, "ttl")?, "ttl").or_raise(object.py()))
        .transpose()
}

fn argument_of<'a>(object: &'a Bound<'_, PyAny>, option: &str) -> PyResult<TimeArgument<'a>> {
    let seconds = |seconds| TimeArgument::Number(seconds, NumberUnit::Seconds);
    if object.is_instance_of::<PyString>() {
        return Ok(TimeArgument::Text(text_of(object, option)?));
    }
    if object.is_instance_of::<PyDelta>() {
        return Ok(seconds(object.call_method0(intern!(object.py(), "total_seconds"))?.extract()?));
    }
    match object.extract::<f64>() {
        Ok(number) if !object.is_instance_of::<PyBool>() => Ok(seconds(number)),
        _ => {
            let name = object.get_type().fully_qualified_name()?;
            let message = format!("{option} must be seconds, a timedelta or text as \"5s\", not {name}");
            Err(task_error(object.py(), message))
        }
    }
}

/// The options of a write.
pub(crate) fn write_options(
    ttl: Option<&Bound<'_, PyAny>>,
    invalidates: Option<&Bound<'_, PyAny>>,
    tags: Option<&Bound<'_, PyAny>>,
    bloom_keys: Option<&Bound<'_, PyAny>>,
) -> PyResult<WriteOptions> {
    let invalidates = invalidates.map(keys_of).transpose()?.unwrap_or_default();
    let tags = tags.map(|tags| texts_of(tags, "tags", "a tag")).transpose()?.unwrap_or_default();
    let bloom_keys = bloom_keys.map(keys_of).transpose()?.unwrap_or_default();
    Ok(WriteOptions { ttl: ttl_of(ttl)?, invalidates, tags, bloom_keys })
}

/// `wait=` of a lock, which may be zero; `None` is the time limit of a call.
pub(crate) fn wait_of(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    object.map(|object| delay_of(object, "wait")).transpose()
}

/// The options of a delayed write as the verbs hand them over: `ttl`, `invalidates`, `tags`, `bloom_keys`, `delay`,
/// `op_id`, `coalesce`, `task_timeout`.
pub(crate) type Delay<'py> = (
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyAny>>,
);

/// The options of a delayed write.
pub(crate) fn delay_options(given: &Delay<'_>) -> PyResult<DelayOptions> {
    let (ttl, invalidates, tags, bloom_keys, delay, op_id, coalesce, task_timeout) = given;
    let delay = delay.as_ref().map(|object| delay_of(object, "delay"));
    let op_id = op_id.as_ref().map(|object| Ok::<_, PyErr>(text_of(object, "op_id")?.to_owned()));
    Ok(DelayOptions {
        write: write_options(ttl.as_ref(), invalidates.as_ref(), tags.as_ref(), bloom_keys.as_ref())?,
        delay: delay.transpose()?,
        op_id: op_id.transpose()?,
        coalesce: bool_of(coalesce, "coalesce")?,
        task_timeout: task_timeout.as_ref().map(|object| duration_of(object, "task_timeout")).transpose()?,
    })
}

/// How a read goes about a source that fails or takes long, as the verbs hand it over: `stale`, `soft_timeout`.
pub(crate) type Read<'py> = (Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

/// The options of a read.
pub(crate) fn read_options((stale, soft_timeout): &Read<'_>) -> PyResult<ReadOptions> {
    Ok(ReadOptions {
        stale: stale.as_ref().map(|object| bool_of(object, "stale")).transpose()?,
        soft_timeout: soft_timeout_of(soft_timeout.as_ref())?,
    })
}

/// The options of a source.
pub(crate) fn source_options(
    life: &Life<'_>,
    refresh_ahead: Option<&Bound<'_, PyAny>>,
    bloom: bool,
    keys: Option<&Bound<'_, PyAny>>,
) -> PyResult<SourceOptions> {
    let LoadOptions { ttl, absent_ttl, stale_ttl, soft_timeout } = load_options(life)?;
    let refresh_ahead = refresh_ahead.map(|object| fraction_of(object, "refresh_ahead")).transpose()?;
    let keys = keys.map(task_of).transpose()?;
    Ok(SourceOptions { ttl, absent_ttl, stale_ttl, refresh_ahead, soft_timeout, bloom, keys })
}

/// How long what is loaded lives, as the verbs hand it over: `ttl`, `absent_ttl`, `stale_ttl`, `soft_timeout`.
pub(crate) type Life<'py> = (
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyAny>>,
);

/// The options of a load.
pub(crate) fn load_options((ttl, absent_ttl, stale_ttl, soft_timeout): &Life<'_>) -> PyResult<LoadOptions> {
    let absent_ttl = absent_ttl.as_ref().map(|object| duration_of(object, "absent_ttl"));
    Ok(LoadOptions {
        ttl: ttl_of(ttl.as_ref())?,
        absent_ttl: absent_ttl.transpose()?,
        stale_ttl: stale_ttl.as_ref().map(|object| delay_of(object, "stale_ttl")).transpose()?,
        soft_timeout: soft_timeout_of(soft_timeout.as_ref())?,
    })
}

fn soft_timeout_of(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    object.map(|object| delay_of(object, "soft_timeout")).transpose()
}

fn bool_of(object: &Bound<'_, PyAny>, option: &str) -> PyResult<bool> {
    if let Ok(given) = object.extract() {
        return Ok(given);
    }
    let name = object.get_type().fully_qualified_name()?;
    Err(task_error(object.py(), format!("{option} must be a bool, not {name}")))
}

/// A time that may be zero.
fn delay_of(object: &Bound<'_, PyAny>, option: &str) -> PyResult<Duration> {
    delay_from_argument(argument_of(object, option)?, option).or_raise(object.py())
}

fn fraction_of(object: &Bound<'_, PyAny>, option: &str) -> PyResult<f64> {
    match object.extract::<f64>() {
        Ok(number) if !object.is_instance_of::<PyBool>() => Ok(number),
        _ => {
            let name = object.get_type().fully_qualified_name()?;
            Err(task_error(object.py(), format!("{option} must be a number, not {name}")))
        }
    }
}

/// One task or builder, or a list of them.
pub(crate) fn tasks_of(object: &Bound<'_, PyAny>) -> PyResult<Tasks> {
    match list_of(object)? {
        Some(tasks) => Ok(tasks.into()),
        None => Ok(task_of(object)?.into()),
    }
}

/// The tasks of a list or tuple; `None` if the object is neither, and so one task.
#[inline]
pub(crate) fn list_of(object: &Bound<'_, PyAny>) -> PyResult<Option<Vec<core::Task>>> {
    if !(object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>()) {
        return Ok(None);
    }
    let tasks =
        object.cast::<PySequence>()?.try_iter()?.map(|task| task_of(&task?)).collect::<PyResult<Vec<_>>>()?;
    if tasks.is_empty() {
        return Err(to_py(object.py(), &Error::task("the list of tasks is empty")));
    }
    Ok(Some(tasks))
}
