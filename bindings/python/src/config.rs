//! The configuration on its way in: one JSON object of arguments, checked by the core.

use std::path::PathBuf;

use pyo3::prelude::*;
use serde_json::{Map, Value as Json};
use zmsg_core::config::{Config, ConfigInput, NumberUnit};
use zmsg_core::error::Error;

use crate::errors::{OrRaise, guarded};

/// A checked configuration; `zmsg.Config` is its face.
#[pyclass(frozen, module = "zmsg._native")]
pub(crate) struct Settings(Config);

impl Settings {
    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.0
    }
}

#[pymethods]
impl Settings {
    /// From a YAML file (or none), the environment and arguments, the last strongest.
    #[staticmethod]
    #[pyo3(signature = (file, arguments))]
    fn resolve(py: Python<'_>, file: Option<PathBuf>, arguments: &str) -> PyResult<Settings> {
        let arguments = object_of(py, arguments)?;
        let input = ConfigInput { file, arguments, numbers: NumberUnit::Seconds, ..ConfigInput::default() };
        guarded(py, || Config::resolve(input)).map(Settings)
    }

    /// The same with some keys replaced.
    fn overridden(&self, py: Python<'_>, arguments: &str) -> PyResult<Settings> {
        let arguments = object_of(py, arguments)?;
        guarded(py, || self.0.overridden(&arguments, NumberUnit::Seconds)).map(Settings)
    }

    /// Every setting as a JSON text, without passwords.
    fn describe(&self) -> String {
        self.0.describe().to_string()
    }
}

fn object_of(py: Python<'_>, arguments: &str) -> PyResult<Map<String, Json>> {
    let refused =
        |error: serde_json::Error| Error::config(format!("the arguments are no JSON object: {error}"));
    serde_json::from_str(arguments).map_err(refused).or_raise(py)
}
