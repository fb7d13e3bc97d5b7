//! Result rows become dictionaries.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use zmsg_core::value::{Row, Value};

use crate::times;

/// One dictionary per row, keyed by column name.
pub(crate) fn to_dicts<'py>(py: Python<'py>, rows: &[Row]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    let mut names: Vec<Bound<'py, PyString>> = Vec::new();
    let mut named: Option<&Arc<[Arc<str>]>> = None;
    for row in rows {
        // Rows of one statement share their names, so these are made once.
        if !named.is_some_and(|columns| Arc::ptr_eq(columns, &row.columns)) {
            names = row.columns.iter().map(|name| PyString::new(py, name)).collect();
            named = Some(&row.columns);
        }
        let dict = PyDict::new(py);
        for (name, value) in names.iter().zip(&row.values) {
            dict.set_item(name, to_object(py, value)?)?;
        }
        list.append(dict)?;
    }
    Ok(list)
}

/// The Python object for a result column or a parameter.
pub(crate) fn to_object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(truth) => truth.into_pyobject(py)?.to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => number.into_pyobject(py)?.into_any(),
        Value::Decimal(number) => {
            static DECIMAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            DECIMAL.import(py, "decimal", "Decimal")?.call1((number.as_str(),))?
        }
        Value::Text(text) => PyString::new(py, text).into_any(),
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::Uuid(bytes) => {
            static UUID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let known = PyDict::new(py);
            known.set_item(intern!(py, "bytes"), PyBytes::new(py, bytes))?;
            UUID.import(py, "uuid", "UUID")?.call((), Some(&known))?
        }
        Value::Date(days) => times::to_date(py, *days)?,
        Value::Time(micros) => times::to_time(py, *micros)?,
        Value::Timestamp(micros) => times::to_datetime(py, *micros, false)?,
        Value::TimestampTz(micros) => times::to_datetime(py, *micros, true)?,
        Value::Interval { months: 0, days, micros } => times::to_delta(py, *days, *micros)?,
        Value::Interval { months, days, micros } => {
            static INTERVAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            INTERVAL.import(py, "zmsg.results", "Interval")?.call1((months, days, micros))?
        }
        Value::List(values) => {
            let objects: Vec<_> = values.iter().map(|value| to_object(py, value)).collect::<PyResult<_>>()?;
            PyList::new(py, objects)?.into_any()
        }
        Value::Json(text) => {
            static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            LOADS.import(py, "json", "loads")?.call1((&**text,))?
        }
    })
}
