//! SQL tasks and what makes them.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use zmsg_core::sql as core;

use crate::errors::{guarded, task_error};
use crate::options::Key;
use crate::rows::to_object;
use crate::values::to_values;

/// One SQL statement with its arguments, checked when it was built.
#[pyclass(frozen, module = "zmsg")]
pub(crate) struct Task(core::Task);

/// A task from SQL text with `?` placeholders, and one argument per placeholder.
#[pyfunction]
#[pyo3(signature = (text, *args))]
pub(crate) fn sql(py: Python<'_>, text: Key<'_>, args: &Bound<'_, PyTuple>) -> PyResult<Task> {
    let args = to_values(args)?;
    guarded(py, || core::sql(text.0, &args)).map(Task)
}

/// The task of a task or a finished builder.
pub(crate) fn task_of(object: &Bound<'_, PyAny>) -> PyResult<core::Task> {
    match object.cast::<Task>() {
        Ok(task) => Ok(task.get().0.clone()),
        Err(_) => {
            let name = object.get_type().fully_qualified_name()?;
            Err(task_error(object.py(), format!("a task is made by sql() or a builder; this is of type {name}")))
        }
    }
}

#[pymethods]
impl Task {
    /// What would run: the PostgreSQL text and its parameters.
    fn render<'py>(&self, py: Python<'py>) -> PyResult<(String, Vec<Bound<'py, PyAny>>)> {
        let rendered = self.0.render();
        let params = rendered.params.iter().map(|value| to_object(py, value)).collect::<PyResult<_>>()?;
        Ok((rendered.sql.to_string(), params))
    }

    fn __repr__(&self) -> String {
        format!("<zmsg.Task {:?}>", self.0.render().sql)
    }
}
