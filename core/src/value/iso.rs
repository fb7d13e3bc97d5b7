//! Uuids, dates, times and intervals as JSON strings in ISO 8601 form.

use super::Value;
use super::json::push;

const DAY: i64 = 86_400_000_000;

/// Appends the JSON string of one of these values; nothing for any other.
pub(super) fn write(value: &Value, out: &mut String) {
    out.push('"');
    match value {
        Value::Uuid(bytes) => write_uuid(bytes, out),
        Value::Date(i32::MAX) | Value::Timestamp(i64::MAX) | Value::TimestampTz(i64::MAX) => {
            out.push_str("infinity")
        }
        Value::Date(i32::MIN) | Value::Timestamp(i64::MIN) | Value::TimestampTz(i64::MIN) => {
            out.push_str("-infinity")
        }
        Value::Date(days) => write_date((*days).into(), "", out),
        Value::Time(micros) => write_time(*micros, out),
        Value::Timestamp(micros) => write_timestamp(*micros, "", out),
        Value::TimestampTz(micros) => write_timestamp(*micros, "+00:00", out),
        Value::Interval { months, days, micros } => write_interval(*months, *days, *micros, out),
        _ => {}
    }
    out.push('"');
}

fn write_uuid(bytes: &[u8; 16], out: &mut String) {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        push(out, format_args!("{byte:02x}"));
    }
}

fn write_timestamp(micros: i64, zone: &str, out: &mut String) {
    let mut time = String::from("T");
    write_time(micros.rem_euclid(DAY), &mut time);
    time.push_str(zone);
    write_date(micros.div_euclid(DAY), &time, out);
}

/// The date, `rest`, and BC where the year is; years over 9999 have more digits, as PostgreSQL writes them.
fn write_date(days: i64, rest: &str, out: &mut String) {
    let (year, month, day) = civil(days);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    push(out, format_args!("{year:04}-{month:02}-{day:02}{rest}{era}"));
}

fn write_time(micros: i64, out: &mut String) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    push(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    write_fraction(fraction, out);
}

fn write_fraction(micros: i64, out: &mut String) {
    if micros != 0 {
        let digits = format!(".{:06}", micros.abs());
        out.push_str(digits.trim_end_matches('0'));
    }
}

fn write_interval(months: i32, days: i32, micros: i64, out: &mut String) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let sign = if micros < 0 { "-" } else { "" };
    push(out, format_args!("P{months}M{days}DT{sign}{}", seconds.abs()));
    write_fraction(fraction, out);
    out.push('S');
}

/// Year, month and day of a day counted from 1970-01-01 in the proleptic Gregorian calendar. Years begin in March
/// inside, so that the leap day is the last one; 719,468 days lie between 0000-03-01 and 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
