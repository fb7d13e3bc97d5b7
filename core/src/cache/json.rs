//! One value as JSON text, in the forms that PostgreSQL's `to_json` gives where it has one.

use std::fmt::Write;

use crate::error::Result;
use crate::value::Value;

const DAY_US: i64 = 86_400_000_000;

/// The value as JSON. Numbers keep every digit; what JSON has no form for becomes a string.
pub(crate) fn value_to_json(value: &Value) -> Result<String> {
    Ok(match value {
        Value::Null => "null".into(),
        Value::Bool(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Float(it) if it.is_finite() => serde_json::Value::from(*it).to_string(),
        Value::Float(it) => quoted(if it.is_nan() { "NaN" } else if *it > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::Decimal(it) if is_json_number(it.as_str()) => it.to_string(),
        Value::Decimal(it) => quoted(it.as_str()),
        Value::Text(it) => quoted(it),
        Value::Json(it) => it.to_string(),
        Value::Bytes(it) => quoted(&hex("\\x", it)),
        Value::Uuid(it) => quoted(&uuid(it)),
        Value::Date(days) => quoted(&date(*days)),
        Value::Time(us) => quoted(&time(*us)),
        Value::Timestamp(us) => quoted(&timestamp(*us, "")),
        Value::TimestampTz(us) => quoted(&timestamp(*us, "+00:00")),
        Value::Interval { months, days, micros } => quoted(&interval(*months, *days, *micros)),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(value_to_json).collect::<Result<_>>()?;
            format!("[{}]", items.join(","))
        }
    })
}

/// A string as JSON.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A decimal may be written as `+.5` or `5.`, a JSON number may not.
fn is_json_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.find(|it: char| !it.is_ascii_digit()).unwrap_or(digits.len());
    let leading_zero = whole > 1 && digits.starts_with('0');
    let bare_point = digits[whole..].starts_with('.') && !digits[whole + 1..].starts_with(|it: char| it.is_ascii_digit());
    whole > 0 && !leading_zero && !bare_point
}

fn hex(prefix: &str, bytes: &[u8]) -> String {
    bytes.iter().fold(String::from(prefix), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn uuid(bytes: &[u8; 16]) -> String {
    let all = hex("", bytes);
    [&all[..8], &all[8..12], &all[12..16], &all[16..20], &all[20..]].join("-")
}

fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".into(),
        i32::MIN => "-infinity".into(),
        days => calendar(days.into()).0,
    }
}

/// Year, month and day, and " BC" where the year has to say so.
fn calendar(days: i64) -> (String, &'static str) {
    // Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, suffix) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), suffix)
}

fn time(us: i64) -> String {
    let (seconds, fraction) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let mut out = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!(".{fraction:06}");
        out.push_str(digits.trim_end_matches('0'));
    }
    out
}

fn timestamp(us: i64, zone: &str) -> String {
    match us {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        us => {
            let (date, suffix) = calendar(us.div_euclid(DAY_US));
            format!("{date}T{}{zone}{suffix}", time(us.rem_euclid(DAY_US)))
        }
    }
}

/// ISO 8601.
fn interval(months: i32, days: i32, micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let (seconds, fraction) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    format!("P{months}M{days}DT{sign}{seconds}{fraction}S")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Decimal;

    fn json(value: Value) -> String {
        value_to_json(&value).unwrap()
    }

    #[test]
    fn every_kind_has_a_form() {
        assert_eq!(json(Value::Int(i64::MIN)), "-9223372036854775808");
        assert_eq!(json(Value::Float(1.5)), "1.5");
        assert_eq!(json(Value::Float(f64::NEG_INFINITY)), "\"-Infinity\"");
        for (decimal, form) in [("12.50", "12.50"), ("+.5", "\"+.5\""), ("NaN", "\"NaN\""), ("1e400", "1e400"), ("5.", "\"5.\""), ("007", "\"007\""), ("-0.0", "-0.0")] {
            assert_eq!(json(Value::Decimal(Decimal::parse(decimal).unwrap())), form);
        }
        assert_eq!(json(Value::text("a\"\n")), "\"a\\\"\\n\"");
        assert_eq!(json(Value::bytes(&[1_u8, 255][..])), "\"\\\\x01ff\"");
        assert_eq!(json(Value::Uuid([0xab; 16])), "\"abababab-abab-abab-abab-abababababab\"");
        assert_eq!(json(Value::from(vec![Value::Null, Value::Bool(true)])), "[null,true]");
    }

    #[test]
    fn dates_and_times_are_those_of_the_calendar() {
        assert_eq!(json(Value::Date(0)), "\"1970-01-01\"");
        assert_eq!(json(Value::Date(19_782)), "\"2024-02-29\"");
        assert_eq!(json(Value::Date(-1)), "\"1969-12-31\"");
        assert_eq!(json(Value::Date(i32::MAX)), "\"infinity\"");
        assert_eq!(json(Value::Time(3_661_000_100)), "\"01:01:01.0001\"");
        assert_eq!(json(Value::Timestamp(-1)), "\"1969-12-31T23:59:59.999999\"");
        assert_eq!(json(Value::TimestampTz(1_700_000_000_000_000)), "\"2023-11-14T22:13:20+00:00\"");
        assert_eq!(json(Value::Interval { months: 1, days: -2, micros: -1_500_000 }), "\"P1M-2DT-1.500000S\"");
    }
}
