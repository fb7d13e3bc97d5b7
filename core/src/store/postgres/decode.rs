//! From a column's binary form to a [`Value`].
//!
//! Which types can be read is decided when a statement is prepared, so that a column nobody can read fails the
//! statement before it has an effect.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Kind, Type};

use super::encode::{DAYS_TO_2000, MICROS_TO_2000, base_type, is_textual};
use super::{array, numeric};
use crate::error::{Error, ErrorKind, Result};
use crate::value::{Decimal, Value};

/// The bytes of a column as the server sent them.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw<'a>, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// An error unless columns of this type can be read.
pub(super) fn check(column: &str, ty: &Type) -> Result<()> {
    if is_readable(ty) { Ok(()) } else { Err(unreadable(column, ty)) }
}

fn unreadable(column: &str, ty: &Type) -> Error {
    let message = format!(
        "column {column:?} has type {}, which cannot be read; cast it to text in the statement",
        ty.name()
    );
    Error::new(ErrorKind::Store, message)
}

fn is_readable(ty: &Type) -> bool {
    let ty = base_type(ty);
    if let Kind::Array(element) = ty.kind() {
        return is_readable(element);
    }
    is_textual(ty)
        || matches!(
            *ty,
            Type::BOOL
                | Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::OID
                | Type::FLOAT4
                | Type::FLOAT8
                | Type::NUMERIC
        )
        || matches!(
            *ty,
            Type::CHAR | Type::BYTEA | Type::UUID | Type::JSON | Type::JSONB | Type::INET | Type::CIDR
        )
        || matches!(
            *ty,
            Type::DATE
                | Type::TIME
                | Type::TIMETZ
                | Type::TIMESTAMP
                | Type::TIMESTAMPTZ
                | Type::INTERVAL
                | Type::VOID
        )
}

/// Whether integers of this type, or of this array's elements, have 64 bits.
pub(super) fn is_wide(ty: &Type) -> bool {
    match base_type(ty).kind() {
        Kind::Array(element) => is_wide(element),
        _ => *base_type(ty) == Type::INT8,
    }
}

/// Every column of a row.
pub(super) fn row(row: &Row) -> Result<Vec<Value>> {
    let columns = row.columns().iter().enumerate();
    columns
        .map(|(index, column)| match row.try_get::<_, Option<Raw<'_>>>(index) {
            Ok(None) => Ok(Value::Null),
            Ok(Some(Raw(raw))) => {
                value(column.type_(), raw).ok_or_else(|| out_of_range(column.name(), column.type_()))
            }
            Err(_) => Err(unreadable(column.name(), column.type_())),
        })
        .collect()
}

fn out_of_range(column: &str, ty: &Type) -> Error {
    let message = format!(
        "column {column:?} holds a value of type {} that is out of the range that can be read; cast it to text in the statement",
        ty.name()
    );
    Error::new(ErrorKind::Store, message)
}

/// One value; `None` if the bytes are none of this type, or out of our range.
pub(super) fn value(ty: &Type, raw: &[u8]) -> Option<Value> {
    let ty = base_type(ty);
    if let Kind::Array(element) = ty.kind() {
        return array::decode(raw, element);
    }
    if is_textual(ty) {
        return text(raw);
    }
    Some(match *ty {
        Type::BOOL => Value::Bool(*raw.first()? != 0),
        Type::INT2 => Value::Int(i16::from_be_bytes(raw.try_into().ok()?).into()),
        Type::INT4 => Value::Int(i32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::INT8 => Value::Int(int8(raw)?),
        Type::OID => Value::Int(u32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::FLOAT4 => Value::Float(f32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::FLOAT8 => Value::Float(f64::from_be_bytes(raw.try_into().ok()?)),
        Type::NUMERIC => Value::Decimal(Decimal::parse(&numeric::to_text(raw)?).ok()?),
        Type::BYTEA => Value::bytes(raw),
        Type::UUID => Value::Uuid(raw.try_into().ok()?),
        Type::CHAR => Value::text(String::from_utf8_lossy(raw.strip_suffix(&[0]).unwrap_or(raw))),
        Type::JSON => Value::Json(std::str::from_utf8(raw).ok()?.into()),
        Type::JSONB => Value::Json(std::str::from_utf8(raw.strip_prefix(&[1])?).ok()?.into()),
        Type::DATE => Value::Date(date(i32::from_be_bytes(raw.try_into().ok()?))?),
        Type::TIME => Value::Time(int8(raw)?),
        Type::TIMETZ => Value::text(timetz(raw)?),
        Type::TIMESTAMP => Value::Timestamp(moment(int8(raw)?)?),
        Type::TIMESTAMPTZ => Value::TimestampTz(moment(int8(raw)?)?),
        Type::INTERVAL => interval(raw)?,
        Type::INET | Type::CIDR => Value::text(address(raw)?),
        Type::VOID => Value::Null,
        _ => return None,
    })
}

fn text(raw: &[u8]) -> Option<Value> {
    std::str::from_utf8(raw).ok().map(Value::text)
}

fn int8(raw: &[u8]) -> Option<i64> {
    raw.try_into().ok().map(i64::from_be_bytes)
}

fn date(since_2000: i32) -> Option<i32> {
    match since_2000 {
        i32::MIN | i32::MAX => Some(since_2000),
        days => days.checked_add(DAYS_TO_2000),
    }
}

/// PostgreSQL's years go on to 294276, ours end some decades earlier because they count from 1970.
fn moment(since_2000: i64) -> Option<i64> {
    match since_2000 {
        i64::MIN | i64::MAX => Some(since_2000),
        micros => micros.checked_add(MICROS_TO_2000),
    }
}

fn interval(raw: &[u8]) -> Option<Value> {
    let (micros, rest) = raw.split_first_chunk::<8>()?;
    let (days, rest) = rest.split_first_chunk::<4>()?;
    Some(Value::Interval {
        months: i32::from_be_bytes(rest.try_into().ok()?),
        days: i32::from_be_bytes(*days),
        micros: i64::from_be_bytes(*micros),
    })
}

/// Microseconds since midnight, then seconds west of Greenwich.
fn timetz(raw: &[u8]) -> Option<String> {
    let (micros, west) = raw.split_first_chunk::<8>()?;
    let micros = i64::from_be_bytes(*micros);
    let east = -i32::from_be_bytes(west.try_into().ok()?);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let mut out = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    let (sign, zone) = (if east < 0 { '-' } else { '+' }, east.unsigned_abs());
    let _ = write!(out, "{sign}{:02}", zone / 3_600);
    for part in [zone / 60 % 60, zone % 60].into_iter().take(if zone % 60 != 0 {
        2
    } else {
        usize::from(zone % 3_600 != 0)
    }) {
        let _ = write!(out, ":{part:02}");
    }
    Some(out)
}

/// Family, prefix length, whether it is a cidr, address length, address.
fn address(raw: &[u8]) -> Option<String> {
    let ([_, bits, is_cidr, _], address) = raw.split_first_chunk::<4>()?;
    let (text, full) = match address.len() {
        4 => (Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string(), 32),
        16 => (Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string(), 128),
        _ => return None,
    };
    Some(if *is_cidr != 0 || *bits != full { format!("{text}/{bits}") } else { text })
}
