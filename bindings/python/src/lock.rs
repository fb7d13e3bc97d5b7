//! A lock that is held; `zmsg.Lock` and `zmsg.sync.Lock` are its faces.

use std::sync::Arc;

use pyo3::prelude::*;
use zmsg_core::engine as core;

use crate::engine::yes_or_no;
use crate::waiting::{Port, run};

/// A lock of the core. It is given back when nobody has it any more.
#[pyclass(frozen, module = "zmsg._native")]
pub(crate) struct Lock(Arc<core::Lock>);

impl Lock {
    pub(crate) fn new(inner: core::Lock) -> Lock {
        Lock(Arc::new(inner))
    }
}

#[pymethods]
impl Lock {
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn token(&self) -> u64 {
        self.0.token()
    }

    #[getter]
    fn held(&self) -> bool {
        self.0.is_held()
    }

    #[pyo3(signature = (port))]
    fn extend(&self, py: Python<'_>, port: Port<'_>) -> PyResult<Py<PyAny>> {
        let lock = self.0.clone();
        run(py, port, async move { lock.extend().await }, yes_or_no)
    }

    #[pyo3(signature = (port))]
    fn release(&self, py: Python<'_>, port: Port<'_>) -> PyResult<Py<PyAny>> {
        let lock = self.0.clone();
        run(py, port, async move { lock.release().await }, yes_or_no)
    }

    /// Waits until it is lost or given back.
    #[pyo3(signature = (port))]
    fn lost(&self, py: Python<'_>, port: Port<'_>) -> PyResult<Py<PyAny>> {
        let lost = self.0.when_lost();
        let wait = async move {
            lost.await;
            Ok(())
        };
        run(py, port, wait, |py, ()| Ok(py.None()))
    }
}
