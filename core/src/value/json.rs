//! A value as JSON text, for JSONB columns and the elements of JSONB arrays and objects.

use std::fmt::Write;
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::{Decimal, Value};
use crate::error::{Error, Result};

/// Lists nest no deeper.
const MAX_DEPTH: usize = 100;

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
        other => {
            let mut out = String::new();
            write_value(other, 0, &mut out)?;
            Ok(out.into())
        }
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
