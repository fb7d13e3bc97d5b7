//! The duty to load a key with the caller's own function, which runs in Python.

use std::mem;

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zmsg_core::engine::{Begun, LoadGuard};
use zmsg_core::error::{Error, ErrorKind, Result};

use crate::errors::OrRaise;
use crate::options::text_of;
use crate::runtime;
use crate::values::to_data;
use crate::waiting::{Port, run};

/// A guard of the core. What is dropped without a result goes to somebody who waits.
#[pyclass(frozen, module = "zmsg._native")]
pub(crate) struct Load {
    guard: Mutex<Option<LoadGuard>>,
    /// The process whose engine it belongs to.
    forks: usize,
}

impl Load {
    fn take(&self) -> Result<LoadGuard> {
        let over = || Error::new(ErrorKind::Internal, "this load has its result already");
        self.check_process()?;
        self.guard.lock().take().ok_or_else(over)
    }

    fn check_process(&self) -> Result<()> {
        let message = "a load from before the fork belongs to the process that began it";
        if self.forks == runtime::forks() { Ok(()) } else { Err(Error::new(ErrorKind::Closed, message)) }
    }
}

#[pymethods]
impl Load {
    /// Seconds after which the caller would rather have the last good value, or `None`.
    #[getter]
    fn soft_timeout(&self) -> Option<f64> {
        self.guard.lock().as_ref().and_then(LoadGuard::soft_timeout).map(|time| time.as_secs_f64())
    }

    /// The loader gave this, `None` for an absence; gives the bytes.
    #[pyo3(signature = (data, port))]
    fn complete(&self, py: Python<'_>, data: &Bound<'_, PyAny>, port: Port<'_>) -> PyResult<Py<PyAny>> {
        // Converted first: what cannot be is a failure of the loader, for which the guard is still there.
        let data = to_data(data)?;
        let guard = self.take().or_raise(py)?;
        run(py, port, async move { Ok(guard.complete(data).await) }, loaded)
    }

    /// The loader raised: gives the last good value, or `...` if there is none.
    #[pyo3(signature = (cause, port))]
    fn fail(&self, py: Python<'_>, cause: &Bound<'_, PyAny>, port: Port<'_>) -> PyResult<Py<PyAny>> {
        let cause = text_of(cause, "cause")?.to_owned();
        let guard = self.take().or_raise(py)?;
        let failed = async move {
            let error = guard.failure(&cause);
            Ok(guard.fail(error).await.ok())
        };
        run(py, port, failed, covered)
    }

    /// The last good value, or `...` if there is none; the load goes on.
    #[pyo3(signature = (port))]
    fn last_good(&self, py: Python<'_>, port: Port<'_>) -> PyResult<Py<PyAny>> {
        self.check_process().or_raise(py)?;
        let found = self.guard.lock().as_ref().map(LoadGuard::last_good);
        let asked = async move {
            match found {
                Some(found) => Ok(found.await),
                // It ended just now.
                None => Ok(None),
            }
        };
        run(py, port, asked, covered)
    }

    /// Leaves the load to somebody else.
    fn give_up(&self) {
        if self.check_process().is_ok() {
            drop(self.guard.lock().take());
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.check_process().is_err() {
            // It holds the parent's engine, whose sockets are not this process's to close.
            mem::forget(self.guard.lock().take());
        }
    }
}

/// Gives `(value, load)`: the value, or `...` if the caller is to load it, and what the caller is to load.
pub(crate) fn begun(py: Python<'_>, begun: Begun) -> PyResult<Py<PyAny>> {
    let (value, guard) = match begun {
        Begun::Found(data) => (loaded(py, data)?, None),
        Begun::Refresh(data, guard) => (loaded(py, data)?, Some(guard)),
        Begun::Load(guard) => (py.Ellipsis(), Some(guard)),
    };
    let load = guard.map(|guard| Load { guard: Mutex::new(Some(guard)), forks: runtime::forks() });
    Ok((value, load).into_pyobject(py)?.into_any().unbind())
}

fn loaded(py: Python<'_>, data: Option<Bytes>) -> PyResult<Py<PyAny>> {
    Ok(data.map_or_else(|| py.None(), |data| PyBytes::new(py, &data).into_any().unbind()))
}

fn covered(py: Python<'_>, found: Option<Option<Bytes>>) -> PyResult<Py<PyAny>> {
    match found {
        Some(data) => loaded(py, data),
        None => Ok(py.Ellipsis()),
    }
}
