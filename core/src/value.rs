//! What crosses between languages and SQL: one parameter or result column ([`Value`]), one result row ([`Row`]).
//!
//! Values are immutable and cheap to clone, so that a template can be bound a million times.

pub(crate) mod codec;
mod iso;
mod json;

use std::fmt;
use std::sync::Arc;

pub use json::value_to_json;

use crate::error::{Error, Result};

/// One SQL parameter or result column.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `int2`, `int4`, `int8`.
    Int(i64),
    /// `float4`, `float8`.
    Float(f64),
    /// `numeric`, exact.
    Decimal(Decimal),
    /// Any textual type; as a parameter PostgreSQL reads it in the parameter's own type.
    Text(Arc<str>),
    /// `bytea`.
    Bytes(Arc<[u8]>),
    /// `uuid`, in network order.
    Uuid([u8; 16]),
    /// `date`: days since 1970-01-01; `i32::MIN` and `i32::MAX` are the infinities.
    Date(i32),
    /// `time`: microseconds since midnight.
    Time(i64),
    /// `timestamp`: microseconds since 1970-01-01 00:00, without a zone; the extremes are the infinities.
    Timestamp(i64),
    /// `timestamptz`: microseconds since 1970-01-01 00:00 UTC; the extremes are the infinities.
    TimestampTz(i64),
    /// `interval`: months, days and microseconds, which PostgreSQL keeps apart.
    Interval {
        /// Calendar months.
        months: i32,
        /// Calendar days.
        days: i32,
        /// Microseconds.
        micros: i64,
    },
    /// A PostgreSQL array, or a JSON array where the column is JSON.
    List(Arc<[Value]>),
    /// `json`, `jsonb`: a JSON text.
    Json(Arc<str>),
}

impl Value {
    /// Text from anything string-like.
    pub fn text(text: impl Into<Arc<str>>) -> Value {
        Value::Text(text.into())
    }

    /// Bytes from a slice, copied once.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Value {
        Value::Bytes(bytes.into())
    }

    /// The name of this variant in messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Decimal(_) => "decimal",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Uuid(_) => "uuid",
            Value::Date(_) => "date",
            Value::Time(_) => "time",
            Value::Timestamp(_) => "timestamp",
            Value::TimestampTz(_) => "timestamptz",
            Value::Interval { .. } => "interval",
            Value::List(_) => "list",
            Value::Json(_) => "json",
        }
    }
}

/// Shows the type only: parameters may be secrets and never reach a log.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

macro_rules! value_from {
    ($($from:ty => |$it:ident| $to:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from($it: $from) -> Value {
                $to
            }
        })*
    };
}

value_from! {
    bool => |it| Value::Bool(it),
    i16 => |it| Value::Int(it.into()),
    i32 => |it| Value::Int(it.into()),
    u32 => |it| Value::Int(it.into()),
    i64 => |it| Value::Int(it),
    f64 => |it| Value::Float(it),
    &str => |it| Value::text(it),
    &String => |it| Value::text(it.as_str()),
    String => |it| Value::text(it),
    Arc<str> => |it| Value::Text(it),
    &[u8] => |it| Value::bytes(it),
    Vec<u8> => |it| Value::bytes(it),
    Decimal => |it| Value::Decimal(it),
    Vec<Value> => |it| Value::List(it.into()),
    serde_json::Value => |it| Value::Json(it.to_string().into()),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(it: Option<T>) -> Value {
        it.map_or(Value::Null, Into::into)
    }
}

/// An exact decimal as text in the form that PostgreSQL's `numeric` reads: digits with an optional sign, point
/// and exponent, or `NaN`, `Infinity`, `-Infinity`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Decimal(Arc<str>);

impl Decimal {
    /// Checks the text; no digit is changed.
    pub fn parse(text: &str) -> Result<Decimal> {
        let special = matches!(text, "NaN" | "Infinity" | "-Infinity");
        if special || is_decimal(text) {
            Ok(Decimal(text.into()))
        } else {
            let shown: String = text.chars().take(40).collect();
            Err(Error::task(format!("{shown:?} is not a decimal number; write it as \"12.50\"")))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a number, not `NaN` or an infinity.
    pub fn is_finite(&self) -> bool {
        !self.0.ends_with(['N', 'y'])
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[+-]? (digits [. digits?] | . digits) ([eE] [+-]? digits)?`
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|it| !it.is_empty() && it.len() <= 6 && digits(it));
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

/// One result row; rows of one statement share their column names.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Column names in select order.
    pub columns: Arc<[Arc<str>]>,
    /// Per column, whether its integers are of 64 bits (`int8` and arrays of it): languages whose numbers are not as
    /// wide take them differently. A column beyond the end counts as wide.
    pub wide: Arc<[bool]>,
    /// One value per column.
    pub values: Vec<Value>,
}

impl Row {
    /// The value of the first column of that name.
    pub fn get(&self, column: &str) -> Option<&Value> {
        let index = self.columns.iter().position(|name| &**name == column)?;
        self.values.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_checked_not_changed() {
        for good in ["1", "-1.50", "+.5", "5.", "1e10", "1.5E-3", "NaN", "-Infinity"] {
            assert_eq!(Decimal::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "-", "1e", "1e+", "1 ", "0x1", "1_0", "nan", "1e9999999", "١"] {
            assert!(Decimal::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Decimal::parse("1e5").unwrap().is_finite());
        assert!(!Decimal::parse("-Infinity").unwrap().is_finite());
    }

    #[test]
    fn debug_never_shows_a_parameter() {
        assert_eq!(format!("{:?}", Value::text("canary")), "text");
    }
}
