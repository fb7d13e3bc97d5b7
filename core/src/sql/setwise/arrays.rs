//! The parameters of a set-wise statement: one array per column of what comes in.

use super::INPUT;
use crate::sql::Rendered;
use crate::value::Value;

/// Arrays of equal length, and what their columns are called.
#[derive(Default)]
pub(super) struct Arrays {
    types: Vec<String>,
    values: Vec<Value>,
}

impl Arrays {
    /// Takes an array and gives the name of its column.
    pub fn push(&mut self, ty: &str, values: impl Iterator<Item = Value>) -> String {
        let name = format!("{INPUT}.c{}", self.values.len());
        self.types.push(format!("{ty}[]"));
        self.values.push(Value::List(values.collect()));
        name
    }

    /// The arrays as a table; `n` is the position of a row, from 1.
    pub fn source(&self) -> String {
        self.table(" WITH ORDINALITY", "n")
    }

    /// The arrays as a table without positions.
    pub fn plain_source(&self) -> String {
        self.table("", "")
    }

    fn table(&self, with: &str, last: &str) -> String {
        let casts = self.types.iter().enumerate().map(|(index, ty)| format!("${}::{ty}", index + 1));
        let names = (0..self.values.len()).map(|index| format!("c{index}"));
        let names = names.chain((!last.is_empty()).then(|| last.to_owned()));
        let (casts, names) = (casts.collect::<Vec<_>>().join(", "), names.collect::<Vec<_>>().join(", "));
        format!("unnest({casts}){with} AS {INPUT} ({names})")
    }

    /// The statement.
    pub fn rendered(self, sql: String) -> Rendered {
        Rendered { sql: sql.into(), params: self.values.into() }
    }
}
