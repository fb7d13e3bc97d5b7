//! What an accepted write gives back; `zmsg.Receipt` and `zmsg.sync.Receipt` are its faces.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;
use zmsg_core::engine as core;
use zmsg_core::error::{Error, ErrorKind};

use crate::options::timeout_of;
use crate::rows;
use crate::runtime;
use crate::waiting::{Port, run};

/// The `durability` of what was committed before the receipt was given: nothing is left to wait for.
const COMMITTED: &str = "postgres";

/// A receipt of the core. What it says is made when it is asked for: most are never looked at.
#[pyclass(frozen, module = "zmsg._native")]
pub(crate) struct Receipt {
    inner: core::Receipt,
    /// The process that can wait for it: a forked child has no flush that would end the wait.
    forks: usize,
    rows: PyOnceLock<Py<PyList>>,
}

impl Receipt {
    pub(crate) fn new(inner: core::Receipt) -> Receipt {
        Receipt { inner, forks: runtime::forks(), rows: PyOnceLock::new() }
    }
}

#[pymethods]
impl Receipt {
    #[getter]
    fn op_id(&self) -> String {
        self.inner.op_id()
    }

    #[getter]
    fn rows_affected(&self) -> u64 {
        self.inner.rows_affected
    }

    #[getter]
    fn rows(&self, py: Python<'_>) -> PyResult<&Py<PyList>> {
        self.rows.get_or_try_init(py, || Ok(rows::to_dicts(py, &self.inner.rows)?.unbind()))
    }

    #[getter]
    fn durability(&self) -> &'static str {
        self.inner.durability
    }

    #[getter]
    fn cached(&self) -> bool {
        self.inner.cached
    }

    /// Waits for the COMMIT, without a timeout for as long as it takes, or raises what became of the operation.
    #[pyo3(signature = (timeout, port))]
    fn done(&self, py: Python<'_>, timeout: Option<Bound<'_, PyAny>>, port: Port<'_>) -> PyResult<Py<PyAny>> {
        let timeout = timeout_of(timeout.as_ref())?;
        let receipt = self.inner.clone();
        let is_inherited = self.forks != runtime::forks() && receipt.durability != COMMITTED;
        let done = async move {
            if is_inherited {
                let message = "a receipt from before the fork can be awaited only in the process that got it";
                return Err(Error::new(ErrorKind::Closed, message));
            }
            match timeout {
                Some(timeout) => receipt.done_within(timeout).await,
                None => receipt.done().await,
            }
        };
        run(py, port, done, |py, ()| Ok(py.None()))
    }
}
