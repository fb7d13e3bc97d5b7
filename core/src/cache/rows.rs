//! From the rows of a source to the bytes of a value.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::value::{Row, Value, value_to_json};

/// The bytes of the first row; `None` if there is no row or its only column is NULL.
///
/// One column comes back as it is: text and JSON as UTF-8, `bytea` as its bytes, everything else as text. Several come
/// back as one JSON object by column name, in select order. A source should select one row; of several the first counts.
pub(crate) fn first_row_bytes(rows: Vec<Row>) -> Result<Option<Bytes>> {
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    match row.values.as_slice() {
        [] => Ok(None),
        [only] => column_bytes(only),
        _ => Ok(Some(row_object(&row)?.into())),
    }
}

fn column_bytes(value: &Value) -> Result<Option<Bytes>> {
    Ok(match value {
        Value::Null => None,
        Value::Bytes(bytes) => Some(Bytes::copy_from_slice(bytes)),
        Value::Text(text) | Value::Json(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        other => Some(Bytes::copy_from_slice(unquoted(&as_json(other)?).as_bytes())),
    })
}

/// A JSON text without the quotes, if it is a string: dates and the like need no escapes.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json)
}

fn row_object(row: &Row) -> Result<String> {
    let mut out = String::from("{");
    for (name, value) in row.columns.iter().zip(&row.values) {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&value_to_json(&Value::Text(name.clone()))?);
        out.push(':');
        out.push_str(&as_json(value)?);
    }
    out.push('}');
    Ok(out)
}

/// A column as JSON; what JSON has no form for becomes a string, as PostgreSQL's `to_json` writes it.
fn as_json(value: &Value) -> Result<Arc<str>> {
    match value {
        // It comes from a column of a JSON type, so it is one.
        Value::Json(text) => Ok(text.clone()),
        other => value_to_json(&spelled_out(other)),
    }
}

fn spelled_out(value: &Value) -> Value {
    match value {
        Value::Bytes(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Value::text(format!("\\x{digits}"))
        }
        Value::Float(it) if it.is_nan() => Value::text("NaN"),
        Value::Float(it) if it.is_infinite() => Value::text(if *it > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::Decimal(it) if !it.is_finite() => Value::text(it.as_str()),
        Value::List(items) => Value::List(items.iter().map(spelled_out).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(columns: &[&str], rows: &[&[Value]]) -> Vec<Row> {
        let columns: std::sync::Arc<[_]> = columns.iter().map(|&name| name.into()).collect();
        rows.iter()
            .map(|values| Row { columns: columns.clone(), wide: [].into(), values: values.to_vec() })
            .collect()
    }

    fn text(rows: Vec<Row>) -> Option<String> {
        first_row_bytes(rows).unwrap().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn one_column_comes_back_as_it_is() {
        let one = |value: Value| text(rows(&["a"], &[&[value]]));
        assert_eq!(one(Value::text("\"é\"")).as_deref(), Some("\"é\""));
        assert_eq!(one(Value::Json("{\"a\": 1}".into())).as_deref(), Some("{\"a\": 1}"));
        assert_eq!(one(Value::bytes(&b"raw"[..])).as_deref(), Some("raw"));
        assert_eq!(one(Value::Int(7)).as_deref(), Some("7"));
        assert_eq!(one(Value::Date(0)).as_deref(), Some("1970-01-01"));
        assert_eq!(one(Value::text("")).as_deref(), Some(""));
        assert_eq!(one(Value::Null), None);
        assert_eq!(text(rows(&["a"], &[])), None);
    }

    #[test]
    fn what_json_has_no_form_for_is_a_string() {
        let row = [
            Value::bytes(&[1_u8, 255][..]),
            Value::Float(f64::NEG_INFINITY),
            Value::from(vec![Value::Float(f64::NAN)]),
        ];
        let shown = text(rows(&["a", "b", "c"], &[&row]));
        assert_eq!(shown.as_deref(), Some("{\"a\":\"\\\\x01ff\",\"b\":\"-Infinity\",\"c\":[\"NaN\"]}"));
    }

    #[test]
    fn several_columns_are_one_object_in_select_order() {
        let row = [Value::text("x"), Value::Null, Value::Json("[1]".into())];
        let second = [Value::Null, Value::Null, Value::Null];
        assert_eq!(
            text(rows(&["z", "a\"b", "j"], &[&row, &second])).as_deref(),
            Some("{\"z\":\"x\",\"a\\\"b\":null,\"j\":[1]}")
        );
        assert_eq!(text(rows(&["a", "b"], &[&second[..2]])).as_deref(), Some("{\"a\":null,\"b\":null}"));
    }
}
