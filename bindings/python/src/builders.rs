//! Builders of operations on one cell. Every step gives a new builder.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use zmsg_core::sql as core;

use crate::arguments::{arg_of, args_of, columns_of, names_of};
use crate::errors::guarded;
use crate::options::text_of;
use crate::task::{Prepared, Rendered, Task, rendered, shown};

type Object<'a, 'py> = &'a Bound<'py, PyAny>;

/// A table; its columns make builders.
#[pyclass(frozen, module = "zmsg")]
pub(crate) struct Table(core::Table);

/// A column of a table, not yet said to be a counter, a slice or a map.
#[pyclass(frozen, module = "zmsg")]
pub(crate) struct Column(core::Column);

/// A table by its name, possibly qualified: `feeds`, `public.feeds`.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub(crate) fn table(py: Python<'_>, name: Object<'_, '_>) -> PyResult<Table> {
    let name = text_of(name, "the table")?;
    guarded(py, || core::table(name)).map(Table)
}

/// A counter: a numeric column.
#[pyfunction]
#[pyo3(signature = (table, column, /))]
pub(crate) fn counter(py: Python<'_>, table: Object<'_, '_>, column: Object<'_, '_>) -> PyResult<Counter> {
    let (table, column) = (text_of(table, "the table")?, text_of(column, "the column")?);
    guarded(py, || core::counter(table, column)).map(Counter)
}

/// A slice: a JSONB column that holds an array.
#[pyfunction]
#[pyo3(signature = (table, column, /))]
pub(crate) fn slice(py: Python<'_>, table: Object<'_, '_>, column: Object<'_, '_>) -> PyResult<Slice> {
    let (table, column) = (text_of(table, "the table")?, text_of(column, "the column")?);
    guarded(py, || core::slice(table, column)).map(Slice)
}

/// A map: a JSONB column that holds an object.
#[pyfunction]
#[pyo3(signature = (table, column, /))]
pub(crate) fn map(py: Python<'_>, table: Object<'_, '_>, column: Object<'_, '_>) -> PyResult<Map> {
    let (table, column) = (text_of(table, "the table")?, text_of(column, "the column")?);
    guarded(py, || core::map(table, column)).map(Map)
}

#[pymethods]
impl Table {
    /// One of its columns.
    #[pyo3(signature = (name, /))]
    fn column(&self, py: Python<'_>, name: Object<'_, '_>) -> PyResult<Column> {
        let name = text_of(name, "the column")?;
        guarded(py, || self.0.column(name)).map(Column)
    }
}

#[pymethods]
impl Column {
    /// As a number: integer, numeric or float.
    fn counter(&self) -> Counter {
        Counter(self.0.clone().counter())
    }

    /// As a JSONB array.
    fn slice(&self) -> Slice {
        Slice(self.0.clone().slice())
    }

    /// As a JSONB object.
    fn map(&self) -> Map {
        Map(self.0.clone().map())
    }
}

/// A builder's class: its own operations, and the steps that all of them share.
macro_rules! builder {
    ($(#[$doc:meta])* $name:ident { $($operations:tt)* }) => {
        $(#[$doc])*
        #[pyclass(frozen, module = "zmsg")]
        pub(crate) struct $name(pub(crate) core::$name);

        #[pymethods]
        impl $name {
            $($operations)*

            /// A condition with a `?` for each argument; repeated calls are joined by AND.
            #[pyo3(name = "where", signature = (text, /, *args))]
            fn where_(&self, py: Python<'_>, text: Object<'_, '_>, args: &Bound<'_, PyTuple>) -> PyResult<$name> {
                let (text, args) = (text_of(text, "the WHERE text")?, args_of(args)?);
                guarded(py, || self.0.clone().where_(text, args)).map($name)
            }

            /// Inserts the row with these values first if it is missing.
            #[pyo3(signature = (**columns))]
            fn or_insert(&self, py: Python<'_>, columns: Option<&Bound<'_, PyDict>>) -> PyResult<$name> {
                let columns = columns_of(columns)?;
                let columns: Vec<_> = columns.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
                guarded(py, || self.0.clone().or_insert(&columns)).map($name)
            }

            /// Gives back these columns of the changed rows; `"*"` gives all.
            #[pyo3(signature = (*columns))]
            fn returning(&self, py: Python<'_>, columns: &Bound<'_, PyTuple>) -> PyResult<$name> {
                let columns = names_of(columns)?;
                guarded(py, || self.0.clone().returning(&columns)).map($name)
            }

            /// Names the row for sharding and statistics; it never changes the result.
            #[pyo3(signature = (key, /))]
            fn batch_key(&self, key: Object<'_, '_>) -> PyResult<$name> {
                Ok($name(self.0.clone().batch_key(text_of(key, "the batch key")?)))
            }

            /// Allows a change of every row, without a condition.
            fn all_rows(&self) -> $name {
                $name(self.0.clone().all_rows())
            }

            /// The task. Optional: whatever takes a task takes a finished builder too.
            fn build(&self, py: Python<'_>) -> PyResult<Task> {
                guarded(py, || self.0.clone().build()).map(Task)
            }

            /// A callable that makes tasks cheaply, one argument per `bind`.
            fn prepare(&self, py: Python<'_>) -> PyResult<Prepared> {
                let template = guarded(py, || self.0.clone().build().and_then(|task| task.check_template().map(|()| task)))?;
                Ok(Prepared(template))
            }

            /// What would run: the PostgreSQL text and its parameters.
            fn render<'py>(&self, py: Python<'py>) -> PyResult<Rendered<'py>> {
                rendered(py, &guarded(py, || self.0.clone().build())?)
            }

            fn __repr__(&self) -> String {
                match self.0.clone().build() {
                    Ok(task) => shown(stringify!($name), &task),
                    Err(error) => format!("<zmsg.{}, unfinished: {error}>", stringify!($name)),
                }
            }
        }
    };
}

builder! {
    /// Operations on a numeric column, applied in order; NULL reads as 0.
    Counter {
        /// Adds.
        #[pyo3(signature = (n, /))]
        fn inc(&self, n: Object<'_, '_>) -> PyResult<Counter> {
            Ok(Counter(self.0.clone().inc(arg_of(n, || "the argument of inc".to_owned())?)))
        }

        /// Subtracts.
        #[pyo3(signature = (n, /))]
        fn dec(&self, n: Object<'_, '_>) -> PyResult<Counter> {
            Ok(Counter(self.0.clone().dec(arg_of(n, || "the argument of dec".to_owned())?)))
        }

        /// Multiplies.
        #[pyo3(signature = (n, /))]
        fn mul(&self, n: Object<'_, '_>) -> PyResult<Counter> {
            Ok(Counter(self.0.clone().mul(arg_of(n, || "the argument of mul".to_owned())?)))
        }

        /// Replaces; operations before it are dropped.
        #[pyo3(signature = (n, /))]
        fn set(&self, n: Object<'_, '_>) -> PyResult<Counter> {
            Ok(Counter(self.0.clone().set(arg_of(n, || "the argument of set".to_owned())?)))
        }

        /// Sets to 0; operations before it are dropped.
        fn clean(&self) -> Counter {
            Counter(self.0.clone().clean())
        }
    }
}

builder! {
    /// Operations on a JSONB array, applied in order; NULL reads as `[]`.
    Slice {
        /// Appends an element.
        #[pyo3(signature = (element, /))]
        fn add(&self, element: Object<'_, '_>) -> PyResult<Slice> {
            Ok(Slice(self.0.clone().add(arg_of(element, || "the argument of add".to_owned())?)))
        }

        /// Removes every equal element.
        #[pyo3(signature = (element, /))]
        fn delete(&self, element: Object<'_, '_>) -> PyResult<Slice> {
            Ok(Slice(self.0.clone().delete(arg_of(element, || "the argument of delete".to_owned())?)))
        }

        /// Removes every element; operations before it are dropped.
        fn clean(&self) -> Slice {
            Slice(self.0.clone().clean())
        }
    }
}

builder! {
    /// Operations on a JSONB object, applied in order; NULL reads as `{}`.
    Map {
        /// Sets a key.
        #[pyo3(signature = (key, value, /))]
        fn set(&self, key: Object<'_, '_>, value: Object<'_, '_>) -> PyResult<Map> {
            let key = arg_of(key, || "the key of set".to_owned())?;
            Ok(Map(self.0.clone().set(key, arg_of(value, || "the value of set".to_owned())?)))
        }

        /// Removes a key.
        #[pyo3(signature = (key, /))]
        fn delete(&self, key: Object<'_, '_>) -> PyResult<Map> {
            Ok(Map(self.0.clone().delete(arg_of(key, || "the key of delete".to_owned())?)))
        }
    }
}
