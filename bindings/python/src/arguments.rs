//! Arguments of tasks: values now, or the marker `bind` that leaves a place open for a prepared task.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use zmsg_core::sql::Arg;
use zmsg_core::value::Value;

use crate::options::{borrowed_text, text_of};
use crate::values::{exact, to_value};

/// The marker of an argument that a prepared task is given later.
#[pyclass(frozen, module = "zmsg", name = "Bind")]
pub(crate) struct Bind;

#[pymethods]
impl Bind {
    fn __repr__(&self) -> &'static str {
        "zmsg.bind"
    }
}

/// One argument; `place` names it in an error.
#[inline]
pub(crate) fn arg_of(object: &Bound<'_, PyAny>, place: impl Fn() -> String) -> PyResult<Arg> {
    match exact(object) {
        Some(value) => Ok(Arg::Value(value)),
        None if object.is_exact_instance_of::<Bind>() => Ok(Arg::Open),
        None => to_value(object, place).map(Arg::Value),
    }
}

/// The arguments of a text, in the order of its placeholders.
#[inline]
pub(crate) fn args_of(arguments: &Bound<'_, PyTuple>) -> PyResult<Vec<Arg>> {
    each(arguments, |object, index| arg_of(object, || format!("argument {}", index + 1)))
}

/// The values that fill a template.
pub(crate) fn values_of(arguments: &Bound<'_, PyTuple>) -> PyResult<Vec<Value>> {
    each(arguments, |object, index| to_value(object, || format!("argument {}", index + 1)))
}

/// What `convert` makes of each. A loop, because `collect` into a `Result` moved every argument so often that this alone
/// was a third of what a task costs.
#[inline]
fn each<T>(
    arguments: &Bound<'_, PyTuple>,
    convert: impl Fn(&Bound<'_, PyAny>, usize) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let mut made = Vec::with_capacity(arguments.len());
    for (index, object) in arguments.iter_borrowed().enumerate() {
        made.push(convert(&object, index)?);
    }
    Ok(made)
}

/// Columns with their values, from keyword arguments.
pub(crate) fn columns_of(columns: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<(String, Arg)>> {
    let Some(columns) = columns else { return Ok(Vec::new()) };
    columns
        .iter()
        .map(|(name, value)| {
            let name = text_of(&name, "a column")?.to_owned();
            let value = arg_of(&value, || format!("column {name}"))?;
            Ok((name, value))
        })
        .collect()
}

/// Names of columns.
pub(crate) fn names_of<'a>(names: &'a Bound<'_, PyTuple>) -> PyResult<Vec<&'a str>> {
    names.iter_borrowed().map(|name| borrowed_text(name, "a column")).collect()
}
