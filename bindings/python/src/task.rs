//! SQL tasks. Building one does no I/O.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use zmsg_core::sql as core;

use crate::arguments::{args_of, names_of, values_of};
use crate::builders::{Counter, Map, Slice};
use crate::errors::{guarded, task_error};
use crate::options::text_of;
use crate::rows::to_object;

/// What a task would run: the PostgreSQL text and its parameters.
pub(crate) type Rendered<'py> = (String, Vec<Bound<'py, PyAny>>);

/// One SQL statement with its arguments, checked when it was built. Immutable.
#[pyclass(frozen, module = "zmsg")]
pub(crate) struct Task(pub(crate) core::Task);

/// A task from SQL text, with one argument for each `?` (`??` is a literal question mark).
///
/// Without arguments for its placeholders it is a template, for `source` and `prepare`.
#[pyfunction]
#[pyo3(signature = (text, /, *args))]
pub(crate) fn sql(py: Python<'_>, text: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>) -> PyResult<Task> {
    let (text, args) = (text_of(text, "the SQL text")?, args_of(args)?);
    guarded(py, || core::sql(text, args)).map(Task)
}

/// The task of a task or of a finished builder.
#[inline]
pub(crate) fn task_of(object: &Bound<'_, PyAny>) -> PyResult<core::Task> {
    if let Ok(task) = object.cast::<Task>() {
        return Ok(task.get().0.clone());
    }
    let py = object.py();
    if let Ok(builder) = object.cast::<Counter>() {
        guarded(py, || builder.get().0.clone().build())
    } else if let Ok(builder) = object.cast::<Slice>() {
        guarded(py, || builder.get().0.clone().build())
    } else if let Ok(builder) = object.cast::<Map>() {
        guarded(py, || builder.get().0.clone().build())
    } else {
        let name = object.get_type().fully_qualified_name()?;
        Err(task_error(py, format!("a task is made by sql() or a builder; this is of type {name}")))
    }
}

/// The task of a task or of a builder that names a cell: what reads a cell needs no operation.
pub(crate) fn cell_of(object: &Bound<'_, PyAny>) -> PyResult<core::Task> {
    let py = object.py();
    if let Ok(builder) = object.cast::<Counter>() {
        let builder = &builder.get().0;
        guarded(py, || builder.clone().build().or_else(|_| builder.clone().clean().build()))
    } else if let Ok(builder) = object.cast::<Slice>() {
        let builder = &builder.get().0;
        guarded(py, || builder.clone().build().or_else(|_| builder.clone().clean().build()))
    } else if let Ok(builder) = object.cast::<Map>() {
        let builder = &builder.get().0;
        guarded(py, || builder.clone().build().or_else(|_| builder.clone().delete("").build()))
    } else {
        task_of(object)
    }
}

/// What a task would run.
pub(crate) fn rendered<'py>(py: Python<'py>, task: &core::Task) -> PyResult<Rendered<'py>> {
    let rendered = guarded(py, || Ok(task.render()))?;
    let params = rendered.params.iter().map(|value| to_object(py, value)).collect::<PyResult<_>>()?;
    Ok((rendered.sql.to_string(), params))
}

/// A task's text, without its parameters.
pub(crate) fn shown(name: &str, task: &core::Task) -> String {
    format!("<zmsg.{name} {:?}>", task.render().sql)
}

#[pymethods]
impl Task {
    /// Says what happens when the inserted row is there already: `.do_update(…)` or `.do_nothing()` follows.
    #[pyo3(signature = (*columns))]
    fn on_conflict(&self, py: Python<'_>, columns: &Bound<'_, PyTuple>) -> PyResult<OnConflict> {
        let columns = names_of(columns)?;
        guarded(py, || self.0.clone().on_conflict(&columns)).map(OnConflict)
    }

    /// Gives back these columns of the changed rows; `"*"` gives all.
    #[pyo3(signature = (*columns))]
    fn returning(&self, py: Python<'_>, columns: &Bound<'_, PyTuple>) -> PyResult<Task> {
        let columns = names_of(columns)?;
        guarded(py, || self.0.clone().returning(&columns)).map(Task)
    }

    /// The same task under a coalescing key.
    #[pyo3(signature = (key, /))]
    fn batch_key(&self, key: &Bound<'_, PyAny>) -> PyResult<Task> {
        Ok(Task(self.0.clone().with_batch_key(text_of(key, "the batch key")?)))
    }

    /// A callable that makes tasks from this template cheaply, one argument per open placeholder.
    fn prepare(&self, py: Python<'_>) -> PyResult<Prepared> {
        guarded(py, || self.0.check_template())?;
        Ok(Prepared(self.0.clone()))
    }

    /// What would run: the PostgreSQL text and its parameters.
    fn render<'py>(&self, py: Python<'py>) -> PyResult<Rendered<'py>> {
        rendered(py, &self.0)
    }

    fn __repr__(&self) -> String {
        shown("Task", &self.0)
    }
}

/// An INSERT whose conflict clause is not finished.
#[pyclass(frozen, module = "zmsg")]
pub(crate) struct OnConflict(core::OnConflict);

#[pymethods]
impl OnConflict {
    /// Takes these columns from the row that was to be inserted.
    #[pyo3(signature = (*columns))]
    fn do_update(&self, py: Python<'_>, columns: &Bound<'_, PyTuple>) -> PyResult<Task> {
        let columns = names_of(columns)?;
        guarded(py, || self.0.clone().do_update(&columns)).map(Task)
    }

    /// Keeps the row as it is.
    fn do_nothing(&self, py: Python<'_>) -> PyResult<Task> {
        guarded(py, || self.0.clone().do_nothing()).map(Task)
    }
}

/// Makes tasks from a template: call it with one argument per open placeholder.
#[pyclass(frozen, module = "zmsg")]
pub(crate) struct Prepared(pub(crate) core::Task);

#[pymethods]
impl Prepared {
    #[pyo3(signature = (*args))]
    fn __call__(&self, py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<Task> {
        let values = values_of(args)?;
        guarded(py, || self.0.bind(&values)).map(Task)
    }

    fn __repr__(&self) -> String {
        shown("Prepared", &self.0)
    }
}
