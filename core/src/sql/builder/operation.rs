//! Operations, and what their arguments become on the way into a statement.

use crate::error::{Error, Result};
use crate::value::{Decimal, Value, value_to_json};

/// One operation on a cell. The numbers are indexes into the cell's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Counter: add.
    Inc(u32),
    /// Counter: subtract.
    Dec(u32),
    /// Counter: multiply.
    Mul(u32),
    /// Counter: replace; always the first.
    Set(u32),
    /// Counter: 0. Slice: empty. Always the first.
    Clean,
    /// Slice: append.
    Add(u32),
    /// Slice: remove every equal element.
    Delete(u32),
    /// Map: set a key.
    Put {
        /// The key.
        key: u32,
        /// Its JSON value.
        value: u32,
    },
    /// Map: remove a key.
    Remove(u32),
}

/// What an argument is used for, and so which cast it has in the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// In a text of the caller, or a column's value: as it is, without a cast.
    Free,
    /// An integer, or a number that is not known yet, cast to `int8`.
    Number,
    /// A number with a fraction, cast to `numeric`.
    Exact,
    /// A JSON text, cast to `jsonb` by way of `text`.
    Json,
    /// A map's key, cast to `text`.
    Key,
}

impl Role {
    /// The value as it is bound.
    pub fn convert(self, value: Value) -> Result<Value> {
        match self {
            Role::Free => Ok(value),
            Role::Number | Role::Exact => number(value),
            Role::Json => Ok(Value::Text(value_to_json(&value)?)),
            Role::Key => match value {
                Value::Text(_) => Ok(value),
                other => Err(Error::task(format!("a map's key is text, not {}", other.type_name()))),
            },
        }
    }

    /// The role once the converted value is known.
    pub fn of(self, value: &Value) -> Role {
        match (self, value) {
            (Role::Number | Role::Exact, Value::Decimal(_)) => Role::Exact,
            (Role::Number | Role::Exact, _) => Role::Number,
            (role, _) => role,
        }
    }

    /// What follows `$n`.
    pub fn cast(self) -> &'static str {
        match self {
            Role::Free => "",
            Role::Number => "::int8",
            Role::Exact => "::numeric",
            Role::Json => "::text::jsonb",
            Role::Key => "::text",
        }
    }
}

/// Integers stay; floats become the shortest decimal that reads back as the same float.
///
/// As `float8` a float would pull an integer or `numeric` column through floating point on its way and lose digits
/// silently. As `numeric` it is exact there, and a float column still computes in `float8`, since the server
/// converts `numeric` to it.
fn number(value: Value) -> Result<Value> {
    match value {
        Value::Int(_) => Ok(value),
        Value::Float(float) if float.is_finite() => {
            Ok(Value::Decimal(Decimal::parse(&format!("{float:e}"))?))
        }
        Value::Decimal(ref decimal) if decimal.is_finite() => Ok(value),
        Value::Float(_) | Value::Decimal(_) => Err(Error::task("a counter's number must be finite")),
        other => Err(Error::task(format!(
            "a counter's number is int, float or decimal, not {}",
            other.type_name()
        ))),
    }
}
