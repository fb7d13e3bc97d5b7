//! What an accepted write gives back; `zmsg.Receipt` and `zmsg.sync.Receipt` are its faces.

use pyo3::prelude::*;
use pyo3::types::PyList;
use zmsg_core::engine as core;

use crate::rows;
use crate::waiting::{Port, run};

/// A receipt of the core. What it says is made when it is asked for: most are never looked at.
#[pyclass(frozen, module = "zmsg._native")]
pub(crate) struct Receipt(pub(crate) core::Receipt);

#[pymethods]
impl Receipt {
    #[getter]
    fn op_id(&self) -> String {
        self.0.op_id()
    }

    #[getter]
    fn rows_affected(&self) -> u64 {
        self.0.rows_affected
    }

    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        rows::to_dicts(py, &self.0.rows)
    }

    #[getter]
    fn durability(&self) -> &'static str {
        self.0.durability
    }

    #[getter]
    fn cached(&self) -> bool {
        self.0.cached
    }

    /// Waits for the COMMIT, or raises what became of the operation.
    #[pyo3(signature = (port))]
    fn done(&self, py: Python<'_>, port: Port<'_>) -> PyResult<Py<PyAny>> {
        let receipt = self.0.clone();
        run(py, port, async move { receipt.done().await }, |py, ()| Ok(py.None()))
    }
}
