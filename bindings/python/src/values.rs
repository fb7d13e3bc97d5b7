//! Python objects become parameters of a task.
//!
//! Exact types are recognised first, since they are nearly all of what arrives; subclasses and everything rare come
//! after. What has no exact counterpart is a `TaskError` that names its type and place, never a guess: a NumPy
//! integer, an `Enum` or an integer of more than 64 bits is for the caller to convert.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDate, PyDateTime, PyDelta, PyDict, PyFloat, PyInt, PyList, PyMemoryView,
    PyString, PyTime, PyTuple, PyType,
};
use zmsg_core::error::Error;
use zmsg_core::value::{Decimal, Value};

use crate::errors::{OrRaise, task_error};
use crate::times;

/// Lists within lists; deeper ones are refused, so that a list that holds itself is an error.
const MAX_DEPTH: usize = 32;

/// The parameter for a Python object; `place` names it in an error ("argument 2").
#[inline]
pub(crate) fn to_value(object: &Bound<'_, PyAny>, place: impl Fn() -> String) -> PyResult<Value> {
    match exact(object) {
        Some(value) => Ok(value),
        None => convert(object, &place, 0),
    }
}

/// The commonest types, without a look at subclasses.
#[inline]
pub(crate) fn exact(object: &Bound<'_, PyAny>) -> Option<Value> {
    if let Ok(text) = object.cast_exact::<PyString>() {
        return text.to_str().ok().map(Value::text);
    }
    if let Ok(number) = object.cast_exact::<PyInt>() {
        return number.extract::<i64>().ok().map(Value::Int);
    }
    if object.is_none() {
        return Some(Value::Null);
    }
    if let Ok(truth) = object.cast_exact::<PyBool>() {
        return Some(Value::Bool(truth.is_true()));
    }
    if let Ok(number) = object.cast_exact::<PyFloat>() {
        return Some(Value::Float(number.value()));
    }
    object.cast_exact::<PyBytes>().ok().map(|bytes| Value::bytes(bytes.as_bytes()))
}

fn convert(object: &Bound<'_, PyAny>, place: &dyn Fn() -> String, depth: usize) -> PyResult<Value> {
    let py = object.py();
    if let Some(value) = exact(object) {
        return Ok(value);
    }
    if let Ok(text) = object.cast::<PyString>() {
        let text = text.to_str().map_err(|_| {
            task_error(
                py,
                format!(
                    "{} is a str with a lone surrogate, which is not UTF-8; pass bytes or clean it",
                    place()
                ),
            )
        })?;
        return Ok(Value::text(text));
    }
    if let Ok(number) = object.cast::<PyInt>() {
        return number.extract::<i64>().map(Value::Int).map_err(|_| {
            task_error(
                py,
                format!("{} is an int beyond 64 bits; pass a Decimal for a numeric column", place()),
            )
        });
    }
    if let Ok(number) = object.cast::<PyFloat>() {
        return Ok(Value::Float(number.value()));
    }
    if let Some(bytes) = bytes_of(object)? {
        return Ok(Value::bytes(bytes));
    }
    if let Some(value) = temporal(object, place)? {
        return Ok(value);
    }
    if object.is_instance(DECIMAL.import(py, "decimal", "Decimal")?)? {
        return Decimal::parse(&object.str()?.to_string_lossy()).or_raise(py).map(Value::Decimal);
    }
    if object.is_instance(UUID.import(py, "uuid", "UUID")?)? {
        let bytes: [u8; 16] = object.getattr(intern!(py, "bytes"))?.extract()?;
        return Ok(Value::Uuid(bytes));
    }
    if object.is_instance_of::<PyDict>() {
        return Ok(Value::Json(json_text(object, place)?.as_str().into()));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        return list(object, place, depth);
    }
    let name = object.get_type().fully_qualified_name()?;
    Err(task_error(py, format!("{} is of type {name}, which is no SQL parameter; convert it first", place())))
}

fn list(object: &Bound<'_, PyAny>, place: &dyn Fn() -> String, depth: usize) -> PyResult<Value> {
    if depth == MAX_DEPTH {
        let message = format!("{} is a list nested deeper than {MAX_DEPTH} levels, or holds itself", place());
        return Err(task_error(object.py(), message));
    }
    let mut values = Vec::with_capacity(object.len()?);
    for (index, element) in object.try_iter()?.enumerate() {
        values.push(convert(&element?, &|| format!("{}[{index}]", place()), depth + 1)?);
    }
    Ok(Value::List(values.into()))
}

fn temporal(object: &Bound<'_, PyAny>, place: &dyn Fn() -> String) -> PyResult<Option<Value>> {
    let value = if let Ok(datetime) = object.cast::<PyDateTime>() {
        times::from_datetime(datetime)?
    } else if let Ok(date) = object.cast::<PyDate>() {
        times::from_date(date)
    } else if let Ok(time) = object.cast::<PyTime>() {
        times::from_time(time).ok_or_else(|| {
            task_error(
                object.py(),
                format!("{} is a time with a zone; pass a datetime or a naive time", place()),
            )
        })?
    } else if let Ok(delta) = object.cast::<PyDelta>() {
        times::from_delta(delta)
    } else if object.is_instance(INTERVAL.import(object.py(), "zmsg.results", "Interval")?)? {
        let (months, days, micros) = object.extract().map_err(|_| {
            task_error(
                object.py(),
                format!("{} is an Interval whose parts are not integers in range", place()),
            )
        })?;
        Value::Interval { months, days, micros }
    } else {
        return Ok(None);
    };
    Ok(Some(value))
}

/// The bytes of a bytes-like object.
pub(crate) fn bytes_of(object: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Some(bytes.as_bytes().to_vec()));
    }
    if let Ok(bytes) = object.cast::<PyByteArray>() {
        return Ok(Some(bytes.to_vec()));
    }
    if object.is_instance_of::<PyMemoryView>() {
        return Ok(Some(object.call_method0(intern!(object.py(), "tobytes"))?.extract()?));
    }
    Ok(None)
}

/// The JSON text of an object; raises `TaskError` with the path to what has none.
pub(crate) fn json_text(object: &Bound<'_, PyAny>, place: &dyn Fn() -> String) -> PyResult<String> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let dumps = DUMPS.import(object.py(), "zmsg._json", "dumps")?;
    let text = dumps.call1((object, place()))?;
    match text.cast::<PyString>()?.to_str() {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => {
            let message = format!("{} holds a str with a lone surrogate, which is not UTF-8", place());
            Err(task_error(object.py(), message))
        }
    }
}

static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static UUID: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static INTERVAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// What goes into the caches: bytes as they are, text as UTF-8, `None` as nothing, anything else as JSON.
pub(crate) fn to_data(object: &Bound<'_, PyAny>) -> PyResult<Option<bytes::Bytes>> {
    if object.is_none() {
        return Ok(None);
    }
    if let Some(bytes) = bytes_of(object)? {
        return Ok(Some(bytes.into()));
    }
    if let Ok(text) = object.cast::<PyString>() {
        let text = text.to_str().map_err(|_| {
            crate::errors::to_py(
                object.py(),
                &Error::task("the data is a str with a lone surrogate, which is not UTF-8"),
            )
        })?;
        return Ok(Some(bytes::Bytes::copy_from_slice(text.as_bytes())));
    }
    Ok(Some(json_text(object, &|| "the data".to_owned())?.into()))
}
