//! From a [`Value`] to a parameter of the type that the server inferred.
//!
//! Nothing is converted silently: an int is not a text, a naive timestamp is not a moment. What does not fit is a
//! `Task` error that names the argument by its number, never by its value. Text is the one that goes everywhere: the
//! server reads it in the parameter's own type, as it would a quoted literal (except for bytea, where backslashes of
//! the text would be taken for escapes).

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

use super::{array, numeric};
use crate::error::{Error, Result};
use crate::value::{Value, value_to_json};

pub(super) const DAYS_TO_2000: i32 = 10_957;
pub(super) const MICROS_TO_2000: i64 = 946_684_800_000_000;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// One encoded parameter.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) bytes: Bytes,
    pub(super) text: bool,
}

/// Where its bytes are; long texts are shared with the value, not copied.
pub(super) enum Bytes {
    Null,
    Text(Arc<str>),
    Shared(Arc<[u8]>),
    Owned(Vec<u8>),
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The driver's debug log prints parameters.
        f.write_str("***")
    }
}

impl Bytes {
    pub(super) fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Bytes::Null => None,
            Bytes::Text(text) => Some(text.as_bytes()),
            Bytes::Shared(bytes) => Some(bytes),
            Bytes::Owned(bytes) => Some(bytes),
        }
    }
}

impl ToSql for Param {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match self.bytes.as_slice() {
            None => IsNull::Yes,
            Some(bytes) => {
                out.put_slice(bytes);
                IsNull::No
            }
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if self.text { Format::Text } else { Format::Binary }
    }

    to_sql_checked!();
}

fn binary(bytes: impl Into<Vec<u8>>) -> Option<Param> {
    Some(Param { bytes: Bytes::Owned(bytes.into()), text: false })
}

fn as_text(text: impl Into<Arc<str>>) -> Option<Param> {
    Some(Param { bytes: Bytes::Text(text.into()), text: true })
}

/// Encodes the `number`-th argument (from 1).
pub(super) fn encode(value: &Value, ty: &Type, number: usize) -> Result<Param> {
    encode_as(value, base_type(ty), &|why| {
        let name = ty.name();
        Error::task(match why {
            "" => format!(
                "argument {number} is {}, but PostgreSQL expects {name} there{}",
                value.type_name(),
                hint(value, ty)
            ),
            why => format!("argument {number}, for {name}: {why}"),
        })
    })
}

/// Makes the error of one argument; an empty reason means that the kinds do not go together.
pub(super) type Refuse<'a> = &'a dyn Fn(&str) -> Error;

fn hint(value: &Value, ty: &Type) -> &'static str {
    match (value, ty) {
        (Value::Timestamp(_), &Type::TIMESTAMPTZ) => "; give it a time zone",
        (Value::TimestampTz(_), &Type::TIMESTAMP) => {
            "; give it without a time zone, or make the column timestamptz"
        }
        (_, ty) if is_textual(ty) => "; pass text, or cast the placeholder, as in ?::bigint",
        _ => "",
    }
}

/// The type below any domains.
pub(super) fn base_type(ty: &Type) -> &Type {
    match ty.kind() {
        Kind::Domain(base) => base_type(base),
        _ => ty,
    }
}

pub(super) fn is_textual(ty: &Type) -> bool {
    matches!(*ty, Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML)
        || matches!(ty.kind(), Kind::Enum(_))
        || (*ty.kind() == Kind::Simple && ty.name() == "citext")
}

/// Encodes for a type that is no domain.
pub(super) fn encode_as(value: &Value, ty: &Type, refuse: Refuse<'_>) -> Result<Param> {
    if let Value::Null = value {
        return Ok(Param { bytes: Bytes::Null, text: false });
    }
    if matches!(*ty, Type::JSON | Type::JSONB) {
        return for_json(value, ty, refuse);
    }
    let param = match value {
        Value::Null => None,
        Value::Bool(it) => (*ty == Type::BOOL).then(|| binary([u8::from(*it)])).flatten(),
        Value::Int(it) => int(*it, ty, refuse)?,
        Value::Float(it) => float(*it, ty, refuse)?,
        Value::Decimal(it) => match *ty {
            Type::NUMERIC | Type::FLOAT4 | Type::FLOAT8 | Type::MONEY => as_text(it.as_str()),
            Type::INT2 | Type::INT4 | Type::INT8 => match numeric::to_integer(it.as_str()) {
                Some(integer) => int(integer, ty, refuse)?,
                None => return Err(refuse("the decimal is not an integer that fits")),
            },
            _ => None,
        },
        Value::Text(it) => text(it, ty, refuse)?,
        Value::Bytes(it) => {
            (*ty == Type::BYTEA).then(|| Param { bytes: Bytes::Shared(it.clone()), text: false })
        }
        Value::Uuid(it) if *ty == Type::UUID => binary(*it),
        Value::Uuid(it) if is_textual(ty) => as_text(uuid_text(it)),
        Value::Date(it) if *ty == Type::DATE => binary(days(*it, refuse)?.to_be_bytes()),
        Value::Date(it) if *ty == Type::TIMESTAMP => binary(midnight(*it, refuse)?.to_be_bytes()),
        Value::Time(it) if *ty == Type::TIME => binary(it.to_be_bytes()),
        Value::Timestamp(it) if *ty == Type::TIMESTAMP => binary(micros(*it, refuse)?.to_be_bytes()),
        Value::TimestampTz(it) if *ty == Type::TIMESTAMPTZ => binary(micros(*it, refuse)?.to_be_bytes()),
        Value::Interval { months, days, micros } if *ty == Type::INTERVAL => {
            binary([&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat())
        }
        Value::List(items) => match ty.kind() {
            Kind::Array(element) => Some(array::encode(items, element, refuse)?),
            _ => None,
        },
        Value::Json(it) if is_textual(ty) => as_text(it.clone()),
        _ => None,
    };
    param.ok_or_else(|| refuse(""))
}

fn int(it: i64, ty: &Type, refuse: Refuse<'_>) -> Result<Option<Param>> {
    let out_of_range = || refuse("the integer is out of range");
    Ok(match *ty {
        Type::INT8 => binary(it.to_be_bytes()),
        Type::INT4 => binary(i32::try_from(it).map_err(|_| out_of_range())?.to_be_bytes()),
        Type::INT2 => binary(i16::try_from(it).map_err(|_| out_of_range())?.to_be_bytes()),
        Type::OID => binary(u32::try_from(it).map_err(|_| out_of_range())?.to_be_bytes()),
        Type::NUMERIC | Type::FLOAT4 | Type::FLOAT8 | Type::MONEY => as_text(it.to_string()),
        _ => None,
    })
}

fn float(it: f64, ty: &Type, refuse: Refuse<'_>) -> Result<Option<Param>> {
    Ok(match *ty {
        Type::FLOAT8 => binary(it.to_be_bytes()),
        Type::FLOAT4 => {
            let narrow = it as f32;
            if narrow.is_infinite() && it.is_finite() {
                return Err(refuse("the float is out of range"));
            }
            binary(narrow.to_be_bytes())
        }
        Type::NUMERIC => as_text(float_text(it)),
        Type::INT2 | Type::INT4 | Type::INT8 => {
            // 2^63 is the first that does not fit; -2^63 does.
            let fits = it.fract() == 0.0
                && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&it);
            if !fits {
                return Err(refuse("the float is not an integer that fits"));
            }
            int(it as i64, ty, refuse)?
        }
        _ => None,
    })
}

/// The shortest text that reads back as the same float, as PostgreSQL spells it.
pub(super) fn float_text(it: f64) -> String {
    if it.is_nan() {
        "NaN".to_owned()
    } else if it.is_infinite() {
        if it > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{it:?}")
    }
}

fn text(it: &Arc<str>, ty: &Type, refuse: Refuse<'_>) -> Result<Option<Param>> {
    if *ty == Type::BYTEA {
        return Ok(None);
    }
    if it.contains('\0') {
        return Err(refuse("the text holds a NUL character, which PostgreSQL cannot store"));
    }
    // For textual types both formats are the same bytes; binary ones can be elements of a binary array.
    Ok(Some(Param { bytes: Bytes::Text(it.clone()), text: !is_textual(ty) }))
}

fn for_json(value: &Value, ty: &Type, refuse: Refuse<'_>) -> Result<Param> {
    let document: Arc<str> = match value {
        Value::Json(it) | Value::Text(it) => it.clone(),
        Value::Bytes(_) => return Err(refuse("")),
        other => value_to_json(other).map_err(|error| refuse(error.message()))?,
    };
    if document.contains('\0') {
        return Err(refuse("the JSON text holds a NUL character"));
    }
    Ok(match *ty {
        // jsonb's binary form is a version byte and the text.
        Type::JSONB => {
            let mut bytes = Vec::with_capacity(document.len() + 1);
            bytes.push(1);
            bytes.extend_from_slice(document.as_bytes());
            Param { bytes: Bytes::Owned(bytes), text: false }
        }
        _ => Param { bytes: Bytes::Text(document), text: false },
    })
}

pub(super) fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

const DATE_RANGE: &str = "the date is outside of what PostgreSQL can store";

fn days(since_1970: i32, refuse: Refuse<'_>) -> Result<i32> {
    match since_1970 {
        i32::MIN | i32::MAX => Ok(since_1970),
        days => days.checked_sub(DAYS_TO_2000).filter(|it| *it != i32::MIN).ok_or_else(|| refuse(DATE_RANGE)),
    }
}

fn micros(since_1970: i64, refuse: Refuse<'_>) -> Result<i64> {
    match since_1970 {
        i64::MIN | i64::MAX => Ok(since_1970),
        micros => {
            micros.checked_sub(MICROS_TO_2000).filter(|it| *it != i64::MIN).ok_or_else(|| refuse(DATE_RANGE))
        }
    }
}

fn midnight(since_1970: i32, refuse: Refuse<'_>) -> Result<i64> {
    match since_1970 {
        i32::MIN => Ok(i64::MIN),
        i32::MAX => Ok(i64::MAX),
        days => {
            let midnight = i64::from(days).checked_mul(MICROS_PER_DAY).ok_or_else(|| refuse(DATE_RANGE))?;
            micros(midnight, refuse)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Decimal;

    fn refused(value: Value, ty: Type) -> String {
        encode(&value, &ty, 2).expect_err("refused").to_string()
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_number() {
        let cases = [
            (Value::Int(40_000), Type::INT2),
            (Value::Int(-1), Type::OID),
            (Value::Int(1), Type::TEXT),
            (Value::Float(f64::NAN), Type::INT8),
            (Value::Float(1.5), Type::INT4),
            (Value::Float(9.3e18), Type::INT8),
            (Value::Float(1e300), Type::FLOAT4),
            (Value::Decimal(Decimal::parse("1.5").unwrap()), Type::INT4),
            (Value::text("a\0b"), Type::TEXT),
            (Value::text("abc"), Type::BYTEA),
            (Value::bytes(&b"abc"[..]), Type::TEXT),
            (Value::Timestamp(0), Type::TIMESTAMPTZ),
            (Value::TimestampTz(0), Type::TIMESTAMP),
            (Value::Date(i32::MAX - 1), Type::TIMESTAMP),
            (Value::Date(i32::MIN + 1), Type::DATE),
            (Value::Float(f64::INFINITY), Type::JSONB),
            (Value::from(vec![Value::Int(1), Value::text("2")]), Type::INT8_ARRAY),
            (Value::from(vec![Value::from(vec![Value::Int(1)]), Value::Int(1)]), Type::INT8_ARRAY),
        ];
        for (value, ty) in cases {
            let message = refused(value.clone(), ty.clone());
            assert!(message.contains("argument 2") && message.contains(ty.name()), "{value:?}: {message}");
        }
    }

    #[test]
    fn no_message_shows_an_argument() {
        let message = refused(Value::text("canary\0"), Type::TEXT);
        assert!(!message.contains("canary"), "{message}");
    }

    #[test]
    fn parameters_do_not_show_in_the_drivers_log() {
        let param = encode(&Value::text("canary"), &Type::TEXT, 1).unwrap();
        assert!(!format!("{param:?}").contains("canary"));
    }
}
