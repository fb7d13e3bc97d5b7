//! `zmsg._native`: the engine for the Python package, private to it. Conversion in, one call of the core, conversion
//! out; what people see is `python/zmsg`.
//!
//! Rooms: `engine` has the verbs, `loading` loads by Python functions, `task` and `builders` the SQL, `config` the settings; `arguments`, `values`, `times`, `rows`,
//! `options`, `receipt`, `lock` and `errors` convert; `runtime`, `handle`, `waiting`, `completions`, `signal` and `logging` carry calls between the
//! engine's threads and Python's.
//!
//! Invariant: no thread of the runtime ever attaches to the interpreter. What ends there is delivered through a queue to
//! a thread of Python that waits for it.

mod arguments;
mod builders;
mod completions;
mod config;
mod engine;
mod errors;
mod handle;
mod loading;
mod lock;
mod logging;
mod options;
mod receipt;
mod rows;
mod runtime;
mod signal;
mod task;
mod times;
mod values;
mod waiting;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::arguments::Bind;
    #[pymodule_export]
    use crate::builders::{Column, Counter, Map, Slice, Table, counter, map, slice, table};
    #[pymodule_export]
    use crate::completions::Completions;
    #[pymodule_export]
    use crate::config::Settings;
    #[pymodule_export]
    use crate::engine::{Engine, Migrations, open_engine};
    #[pymodule_export]
    use crate::errors::error_catalogue;
    #[pymodule_export]
    use crate::loading::Load;
    #[pymodule_export]
    use crate::lock::Lock;
    #[pymodule_export]
    use crate::logging::{next_logs, set_log_level, stop_logs};
    #[pymodule_export]
    use crate::receipt::Receipt;
    #[pymodule_export]
    use crate::runtime::{after_fork_in_child, at_exit};
    #[pymodule_export]
    use crate::task::{OnConflict, Prepared, Task, sql};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::logging::install();
        module.add("bind", Bind)?;
        module.add("version", env!("CARGO_PKG_VERSION"))
    }
}
