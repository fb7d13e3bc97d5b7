//! Between the scenarios' JSON and the engine's values.

use serde_json::{Value as Json, json};
use zmsg_core::value::{Decimal, Row, Value};

/// The tag of an object such as `{"$decimal": "1.50"}` and what it holds.
pub fn tagged(json: &Json) -> Option<(&str, &Json)> {
    let object = json.as_object()?;
    let (name, value) = object.iter().next()?;
    (object.len() == 1).then_some(())?;
    Some((name.strip_prefix('$')?, value))
}

/// A text, `{"$repeat": …}` expanded.
pub fn text(json: &Json) -> Option<String> {
    match tagged(json) {
        Some(("repeat", parts)) => Some(parts[0].as_str()?.repeat(parts[1].as_u64()? as usize)),
        _ => json.as_str().map(str::to_owned),
    }
}

pub fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<char> = hexadecimal.chars().collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hexadecimal"))
        .collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SQL argument that a scenario writes.
pub fn to_value(json: &Json) -> Value {
    if let Some((tag, inner)) = tagged(json) {
        let text = text(json).or_else(|| inner.as_str().map(str::to_owned)).expect("a tag holds text");
        return match tag {
            "repeat" => Value::text(text),
            "int" => Value::Int(text.parse().expect("an integer")),
            "float" => Value::Float(text.parse().expect("a float")),
            "decimal" => Value::Decimal(Decimal::parse(&text).expect("a decimal")),
            "bytes" => Value::bytes(bytes(&text)),
            "uuid" => Value::Uuid(bytes(&text.replace('-', "")).try_into().expect("16 bytes")),
            "date" => Value::Date(days(&text)),
            "time" => Value::Time(micros(&text)),
            "timestamp" => Value::Timestamp(instant(&text)),
            "timestamptz" => Value::TimestampTz(instant(text.strip_suffix('Z').expect("UTC"))),
            other => panic!("unknown tag ${other}"),
        };
    }
    match json {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(*it),
        Json::Number(it) => {
            it.as_i64().map_or_else(|| Value::Float(it.as_f64().expect("a number")), Value::Int)
        }
        Json::String(it) => Value::text(it.as_str()),
        Json::Array(items) => Value::List(items.iter().map(to_value).collect()),
        Json::Object(_) => Value::Json(json.to_string().into()),
    }
}

/// A value as scenarios write it.
pub fn from_value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(it) => json!(it),
        Value::Int(it) => json!(it),
        Value::Float(it) => json!(it),
        Value::Decimal(it) => json!({ "$decimal": it.as_str() }),
        Value::Text(it) => json!(&**it),
        Value::Bytes(it) => json!({ "$bytes": hexadecimal(it) }),
        Value::Uuid(it) => {
            let hex = hexadecimal(it);
            json!({ "$uuid": format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]) })
        }
        Value::Date(it) => json!({ "$date": date(i64::from(*it)) }),
        Value::Time(it) => json!({ "$time": clock(*it) }),
        Value::Timestamp(it) => json!({ "$timestamp": moment(*it) }),
        Value::TimestampTz(it) => json!({ "$timestamptz": format!("{}Z", moment(*it)) }),
        Value::Interval { months, days, micros } => json!({ "$interval": [months, days, micros] }),
        Value::List(items) => items.iter().map(from_value).collect(),
        Value::Json(text) => serde_json::from_str(text).expect("the database gives JSON"),
    }
}

pub fn from_rows(rows: &[Row]) -> Json {
    let object = |row: &Row| -> Json {
        row.columns
            .iter()
            .zip(&row.values)
            .map(|(name, value)| (name.to_string(), from_value(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    rows.iter().map(object).collect()
}

/// Equal, `{"$int": "7"}` being the same as 7.
pub fn equal(left: &Json, right: &Json) -> bool {
    let plain = |json: &Json| match tagged(json) {
        Some(("int", Json::String(text))) => json!(text.parse::<i64>().expect("an integer")),
        _ => json.clone(),
    };
    match (&plain(left), &plain(right)) {
        (Json::Array(left), Json::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| equal(l, r))
        }
        (Json::Object(left), Json::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| equal(value, other)))
        }
        (left, right) => {
            left == right
                || (left.is_f64() || right.is_f64()) && left.as_f64() == right.as_f64() && left.is_number()
        }
    }
}

/// Whether every key of `part` is there with an equal value.
pub fn includes(whole: &Json, part: &Json) -> bool {
    if let (Some(whole), Some(part)) = (whole.as_array(), part.as_array()) {
        return whole.len() == part.len()
            && whole.iter().zip(part).all(|(whole, part)| includes(whole, part));
    }
    part.as_object().is_some_and(|part| {
        part.iter().all(|(key, value)| whole.get(key).is_some_and(|other| equal(value, other)))
    })
}

const DAY: i64 = 86_400_000_000;

fn days(text: &str) -> i32 {
    let parts: Vec<i64> = text.splitn(3, '-').map(|part| part.parse().expect("a date")).collect();
    // Days since 1970-01-01 of the proleptic Gregorian calendar, counting years from March.
    let (year, month) = if parts[1] > 2 { (parts[0], parts[1] - 3) } else { (parts[0] - 1, parts[1] + 9) };
    (365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + parts[2]
        - 719_469) as i32
}

fn date(days: i64) -> String {
    // The scenarios' dates are few: find the one by walking the years.
    let year = (1900..2200)
        .rev()
        .find(|year| i64::from(self::days(&format!("{year}-01-01"))) <= days)
        .expect("a year of our time");
    let month = (1..=12)
        .rev()
        .find(|month| i64::from(self::days(&format!("{year}-{month:02}-01"))) <= days)
        .expect("a month");
    let day = days - i64::from(self::days(&format!("{year}-{month:02}-01"))) + 1;
    format!("{year}-{month:02}-{day:02}")
}

fn micros(text: &str) -> i64 {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let seconds = clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().expect("a time"));
    seconds * 1_000_000 + format!("{fraction:0<6}").parse::<i64>().expect("microseconds")
}

fn clock(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if micros % 1_000_000 == 0 { clock } else { format!("{clock}.{:06}", micros % 1_000_000) }
}

fn instant(text: &str) -> i64 {
    let (day, time) = text.split_once('T').expect("a date and a time");
    i64::from(days(day)) * DAY + micros(time)
}

fn moment(micros: i64) -> String {
    format!("{}T{}", date(micros.div_euclid(DAY)), clock(micros.rem_euclid(DAY)))
}
