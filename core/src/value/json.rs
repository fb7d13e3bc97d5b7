//! A value as JSON text, for JSONB columns and the elements of JSONB arrays and objects.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::{Decimal, Value};
use crate::error::{Error, Result};

/// Lists nest no deeper.
const MAX_DEPTH: usize = 100;

/// What a thread keeps to write in between two texts.
const MOST_SCRATCH: usize = 4 << 10;

thread_local! {
    /// Where a text grows, so that the finished one is the only allocation.
    static SCRATCH: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The value as JSON text.
///
/// A [`Value::Json`] is checked and taken as it is; a decimal becomes a JSON number with all its digits; uuid, date,
/// time and timestamps become strings in ISO 8601 form (`timestamptz` in UTC with `+00:00`, infinities as
/// `"infinity"` and `"-infinity"`), an interval an ISO 8601 duration. Refused: bytes, numbers that are not finite,
/// text with a NUL character (JSONB cannot hold it, whether written plainly or as `\u0000`), a JSON text that is none.
pub fn value_to_json(value: &Value) -> Result<Arc<str>> {
    match value {
        Value::Json(text) => {
            check_text(text)?;
            Ok(text.clone())
        }
        other => SCRATCH.with_borrow_mut(|out| {
            out.clear();
            out.shrink_to(MOST_SCRATCH);
            write_value(other, 0, out)?;
            Ok(out.as_str().into())
        }),
    }
}

fn write_value(value: &Value, depth: usize, out: &mut String) -> Result<()> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(it) => push(out, format_args!("{it}")),
        Value::Int(it) => push(out, format_args!("{it}")),
        Value::Float(it) if it.is_finite() => push(out, format_args!("{it:?}")),
        Value::Decimal(it) if it.is_finite() => write_decimal(it, out),
        Value::Float(_) | Value::Decimal(_) => return Err(Error::task("JSON has no NaN and no infinity")),
        Value::Text(text) => write_text(text, out)?,
        Value::Json(text) => {
            check_text(text)?;
            out.push_str(text);
        }
        Value::List(items) => write_list(items, depth, out)?,
        Value::Bytes(_) => return Err(Error::task("JSON cannot hold bytes; encode them as text")),
        other => super::iso::write(other, out),
    }
    Ok(())
}

fn write_list(items: &[Value], depth: usize, out: &mut String) -> Result<()> {
    if depth >= MAX_DEPTH {
        return Err(Error::task(format!("lists nest deeper than {MAX_DEPTH}")));
    }
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_value(item, depth + 1, out)?;
    }
    out.push(']');
    Ok(())
}

fn write_text(text: &str, out: &mut String) -> Result<()> {
    if !text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return Ok(());
    }
    if text.contains('\0') {
        return Err(nul_error());
    }
    let quoted =
        serde_json::to_string(text).map_err(|error| Error::task("text is not JSON").with_source(error))?;
    out.push_str(&quoted);
    Ok(())
}

/// JSON wants digits on both sides of the point, no plus sign and no leading zeros; the digits stay.
fn write_decimal(decimal: &Decimal, out: &mut String) {
    let text = decimal.as_str();
    let (sign, text) = match text.strip_prefix(['+', '-']) {
        Some(rest) if text.starts_with('-') => ("-", rest),
        Some(rest) => ("", rest),
        None => ("", text),
    };
    let split = text.find(['e', 'E']).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(split);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    out.push_str(sign);
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        push(out, format_args!(".{fraction}"));
    }
    out.push_str(exponent);
}

/// One JSON text, without what JSONB refuses.
fn check_text(text: &str) -> Result<()> {
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| Error::task(format!("not a JSON text: {}", describe(&error))))?;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        if char == '\\' {
            if text[at + 1..].starts_with("u0000") {
                return Err(nul_error());
            }
            // What a backslash escapes is no escape itself.
            chars.next();
        }
    }
    Ok(())
}

/// Where and which rule; serde's own words may quote the text.
fn describe(error: &serde_json::Error) -> String {
    let what = if error.is_eof() { "it ends too early" } else { "syntax error" };
    format!("{what} at line {}, column {}", error.line(), error.column())
}

fn nul_error() -> Error {
    Error::task("JSONB cannot hold a NUL character (\\u0000)")
}

pub(super) fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: Value) -> String {
        value_to_json(&value).unwrap().to_string()
    }

    #[test]
    fn every_kind_of_value_has_its_form() {
        let decimal = |text: &str| Value::Decimal(Decimal::parse(text).unwrap());
        let day = 86_400_000_000;
        for (value, text) in [
            (Value::Null, "null"),
            (true.into(), "true"),
            (i64::MIN.into(), "-9223372036854775808"),
            (0.1.into(), "0.1"),
            (1e300.into(), "1e300"),
            (2.0.into(), "2.0"),
            (decimal("+007.50"), "7.50"),
            (decimal(".5"), "0.5"),
            (decimal("-5."), "-5"),
            (decimal("-.0E-3"), "-0.0E-3"),
            ("a\"\\\n\u{1}ü".into(), r#""a\"\\\n\u0001ü""#),
            (Value::Json(r#" {"a": [1]}"#.into()), r#" {"a": [1]}"#),
            (vec![1.into(), Value::Json("{}".into()), Value::List([].into())].into(), "[1,{},[]]"),
            (
                Value::Uuid(*b"\x01#Eg\x89\xab\xcd\xef\x01#Eg\x89\xab\xcd\xef"),
                r#""01234567-89ab-cdef-0123-456789abcdef""#,
            ),
            (Value::Date(0), r#""1970-01-01""#),
            (Value::Date(19_782), r#""2024-02-29""#),
            (Value::Date(-719_528), r#""0001-01-01 BC""#),
            (Value::Date(i32::MAX), r#""infinity""#),
            (Value::Time(day - 1), r#""23:59:59.999999""#),
            (Value::Time(3_600_500_000), r#""01:00:00.5""#),
            (Value::Timestamp(-1), r#""1969-12-31T23:59:59.999999""#),
            (Value::Timestamp(i64::MIN), r#""-infinity""#),
            (Value::TimestampTz(day), r#""1970-01-02T00:00:00+00:00""#),
            (Value::Interval { months: 1, days: -2, micros: -500_000 }, r#""P1M-2DT-0.5S""#),
        ] {
            let made = json(value.clone());
            assert_eq!(made, text);
            serde_json::from_str::<serde_json::Value>(&made).unwrap();
        }
    }

    #[test]
    fn what_jsonb_cannot_hold_is_refused_without_showing_it() {
        let list = |value: Value| Value::List([value].into());
        let raw = |text: &str| Value::Json(text.into());
        for (value, says) in [
            (f64::NAN.into(), "NaN"),
            (Value::Decimal(Decimal::parse("-Infinity").unwrap()), "infinity"),
            (Value::bytes(&b"canary"[..]), "bytes"),
            ("canary\0".into(), "NUL"),
            (raw(r#""canary\u0000""#), "NUL"),
            (raw(r#""\\\u0000""#), "NUL"),
            (raw(r#"{"canary"}"#), "not a JSON text: syntax error at line 1"),
            (raw("[1"), "ends too early"),
            (raw("1, 2"), "not a JSON text"),
            (raw(""), "ends too early"),
            (list(raw("1], [2")), "not a JSON text"),
            (list(Value::bytes(&b""[..])), "bytes"),
            ((0..200).fold(Value::Null, |it, _| list(it)), "deeper"),
        ] {
            let said = value_to_json(&value).unwrap_err().to_string();
            assert!(said.contains(says) && !said.contains("canary"), "{said}");
        }
        assert_eq!(json(raw(r#""\\u0000""#)), r#""\\u0000""#);
    }
}
