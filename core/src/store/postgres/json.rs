//! A [`Value`] as a JSON text, for parameters of JSON types.

use super::encode::{float_text, uuid_text};
use crate::value::Value;

/// The JSON text; an error says why there is none.
pub(super) fn to_json(value: &Value) -> Result<String, &'static str> {
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Float(it) if it.is_finite() => float_text(*it),
        Value::Decimal(it) if it.is_finite() => json_number(it.as_str()),
        Value::Float(_) | Value::Decimal(_) => return Err("JSON has no NaN and no infinity"),
        Value::Text(it) => quoted(it),
        Value::Json(it) => it.to_string(),
        Value::Uuid(it) => quoted(&uuid_text(it)),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(to_json).collect::<Result<_, _>>()?;
            format!("[{}]", items.join(","))
        }
        Value::Bytes(_) => return Err("JSON has no bytes; encode them as text"),
        Value::Date(_)
        | Value::Time(_)
        | Value::Timestamp(_)
        | Value::TimestampTz(_)
        | Value::Interval { .. } => {
            return Err("JSON has no dates and times; pass them as text");
        }
    })
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// SQL reads `+.5` and `5.`, JSON does not.
fn json_number(text: &str) -> String {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = text.find(['e', 'E']).map_or((text, ""), |at| text.split_at(at));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Decimal;

    #[test]
    fn every_spelling_of_a_decimal_is_a_json_number() {
        for (text, want) in [("+.5", "0.5"), ("5.", "5"), ("-007.50", "-7.50"), ("00", "0"), ("1.e5", "1e5")]
        {
            assert_eq!(to_json(&Value::Decimal(Decimal::parse(text).unwrap())).unwrap(), want);
        }
    }

    #[test]
    fn lists_nest() {
        let inner = Value::from(vec![Value::Null, Value::text("a\"b"), Value::Json("{}".into())]);
        assert_eq!(to_json(&Value::from(vec![Value::Int(1), inner])).unwrap(), r#"[1,[null,"a\"b",{}]]"#);
    }
}
