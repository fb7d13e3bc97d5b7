//! Errors of the core become the classes of `zmsg.errors`, by the core's catalogue.

use std::any::Any;
use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use zmsg_core::error::{CATALOGUE, Error, ErrorKind, Result};

/// The Python exception for an error of the core, with its chain of causes.
pub(crate) fn to_py(py: Python<'_>, error: &Error) -> PyErr {
    let raised = build(py, error).unwrap_or_else(|failed| failed);
    raised.set_cause(py, error.source().map(|cause| cause_to_py(py, cause)));
    raised
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let class = py.import("zmsg.errors")?.getattr(error.kind().info().class)?;
    let known = PyDict::new(py);
    known.set_item("retryable", error.retryable())?;
    known.set_item("sqlstate", error.sqlstate())?;
    known.set_item("op_id", error.op_id())?;
    Ok(PyErr::from_value(class.call((error.to_string(),), Some(&known))?))
}

fn cause_to_py(py: Python<'_>, cause: &(dyn StdError + 'static)) -> PyErr {
    if let Some(error) = cause.downcast_ref::<Error>() {
        return to_py(py, error);
    }
    let raised = PyRuntimeError::new_err(cause.to_string());
    raised.set_cause(py, cause.source().map(|deeper| cause_to_py(py, deeper)));
    raised
}

/// Lets `?` turn an error of the core into an exception.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception for the error.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T> {
    #[inline]
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_py(py, &error))
    }
}

/// A `TaskError` with this message.
pub(crate) fn task_error(py: Python<'_>, message: impl Into<String>) -> PyErr {
    to_py(py, &Error::task(message))
}

/// Calls into the core so that a bug there is an exception of ours, not a `PanicException` that nobody catches.
#[inline]
pub(crate) fn guarded<T>(py: Python<'_>, call: impl FnOnce() -> Result<T>) -> PyResult<T> {
    caught(call).or_raise(py)
}

/// The same without the exception, for calls under a lock: making one runs Python code, which may let other threads on.
#[inline]
pub(crate) fn caught<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// The error for a panic.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let said =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Internal, "the engine panicked; please report this")
        .with("panic", said.unwrap_or("no message"))
}

/// The core's catalogue as `(code, class, parent, also, retryable)`; a test holds `zmsg.errors` to it.
#[pyfunction]
pub(crate) fn error_catalogue() -> Vec<(&'static str, &'static str, &'static str, &'static str, bool)> {
    CATALOGUE.iter().map(|it| (it.code, it.class, it.parent, it.python_also, it.retryable)).collect()
}
