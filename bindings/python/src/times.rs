//! Dates and times of Python, and the engine's microseconds and days.
//!
//! `date.min/max` and `datetime.min/max` stand for PostgreSQL's infinities, both ways, as in asyncpg.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyTime, PyTimeAccess, PyTzInfo, PyTzInfoAccess,
};
use zmsg_core::error::{Error, ErrorKind};
use zmsg_core::value::Value;

use crate::errors::{task_error, to_py};

const DAY_US: i64 = 86_400_000_000;
/// Days from 0001-01-01 (Python's ordinal 1) to 1970-01-01.
const EPOCH_ORDINAL: i64 = 719_163;
/// The last day that Python has: 9999-12-31, counted from 1970-01-01.
const LAST_DAY: i64 = 2_932_896;
const FIRST_DAY: i64 = 1 - EPOCH_ORDINAL;

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar (years from March, so that a leap day is last).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse: year, month and day.
fn civil_from_days(days: i64) -> (i32, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u8, day as u8)
}

fn day_of(date: &impl PyDateAccess) -> i64 {
    days_from_civil(date.get_year().into(), date.get_month().into(), date.get_day().into())
}

fn micros_of(time: &impl PyTimeAccess) -> i64 {
    let seconds =
        (i64::from(time.get_hour()) * 60 + i64::from(time.get_minute())) * 60 + i64::from(time.get_second());
    seconds * 1_000_000 + i64::from(time.get_microsecond())
}

pub(crate) fn from_date(date: &Bound<'_, PyDate>) -> Value {
    Value::Date(match day_of(date) {
        LAST_DAY => i32::MAX,
        FIRST_DAY => i32::MIN,
        day => day as i32,
    })
}

/// `None` if it has a zone: `timetz` has no exact counterpart.
pub(crate) fn from_time(time: &Bound<'_, PyTime>) -> Option<Value> {
    time.get_tzinfo().is_none().then(|| Value::Time(micros_of(time)))
}

pub(crate) fn from_datetime(datetime: &Bound<'_, PyDateTime>) -> PyResult<Value> {
    let py = datetime.py();
    let wall = day_of(datetime) * DAY_US + micros_of(datetime);
    let micros = match wall {
        _ if wall == LAST_DAY * DAY_US + DAY_US - 1 => i64::MAX,
        _ if wall == FIRST_DAY * DAY_US => i64::MIN,
        wall => wall,
    };
    // Python calls a datetime aware if its zone gives an offset, not if it has a zone.
    let offset = datetime.call_method0(intern!(py, "utcoffset"))?;
    let Ok(offset) = offset.cast::<PyDelta>() else { return Ok(Value::Timestamp(micros)) };
    let infinite = micros == i64::MAX || micros == i64::MIN;
    Ok(Value::TimestampTz(if infinite { micros } else { micros - delta_micros(offset) }))
}

fn delta_micros(delta: &Bound<'_, PyDelta>) -> i64 {
    i64::from(delta.get_days()) * DAY_US
        + i64::from(delta.get_seconds()) * 1_000_000
        + i64::from(delta.get_microseconds())
}

pub(crate) fn from_delta(delta: &Bound<'_, PyDelta>) -> Value {
    let micros = i64::from(delta.get_seconds()) * 1_000_000 + i64::from(delta.get_microseconds());
    Value::Interval { months: 0, days: delta.get_days(), micros }
}

pub(crate) fn to_date(py: Python<'_>, days: i32) -> PyResult<Bound<'_, PyAny>> {
    let days = match days {
        i32::MAX => LAST_DAY,
        i32::MIN => FIRST_DAY,
        days => in_range(py, days.into())?,
    };
    let (year, month, day) = civil_from_days(days);
    Ok(PyDate::new(py, year, month, day)?.into_any())
}

pub(crate) fn to_time(py: Python<'_>, micros: i64) -> PyResult<Bound<'_, PyAny>> {
    // PostgreSQL's 24:00:00 is the same instant as Python's 00:00 of the next day; a time has no day.
    let (hour, minute, second, micro) = clock(micros.rem_euclid(DAY_US));
    Ok(PyTime::new(py, hour, minute, second, micro, None)?.into_any())
}

pub(crate) fn to_datetime(py: Python<'_>, micros: i64, aware: bool) -> PyResult<Bound<'_, PyAny>> {
    let micros = match micros {
        i64::MAX => LAST_DAY * DAY_US + DAY_US - 1,
        i64::MIN => FIRST_DAY * DAY_US,
        micros => micros,
    };
    let (year, month, day) = civil_from_days(in_range(py, micros.div_euclid(DAY_US))?);
    let (hour, minute, second, micro) = clock(micros.rem_euclid(DAY_US));
    let utc = aware.then(|| PyTzInfo::utc(py)).transpose()?;
    let utc = utc.as_deref();
    Ok(PyDateTime::new(py, year, month, day, hour, minute, second, micro, utc)?.into_any())
}

fn clock(micros: i64) -> (u8, u8, u8, u32) {
    let seconds = micros / 1_000_000;
    ((seconds / 3_600) as u8, (seconds / 60 % 60) as u8, (seconds % 60) as u8, (micros % 1_000_000) as u32)
}

fn in_range(py: Python<'_>, days: i64) -> PyResult<i64> {
    if (FIRST_DAY..=LAST_DAY).contains(&days) {
        return Ok(days);
    }
    let message =
        "the result holds a date outside of the years 1 to 9999, which Python cannot show; select it ::text";
    Err(to_py(py, &Error::new(ErrorKind::Store, message)))
}

pub(crate) fn to_delta(py: Python<'_>, days: i32, micros: i64) -> PyResult<Bound<'_, PyAny>> {
    // A long interval of hours is more microseconds than an i32 of seconds holds: whole days move over.
    let days = i64::from(days) + micros.div_euclid(DAY_US);
    let micros = micros.rem_euclid(DAY_US);
    let days = i32::try_from(days).map_err(|_| task_error(py, "the interval is beyond a timedelta"))?;
    let delta = PyDelta::new(py, days, (micros / 1_000_000) as i32, (micros % 1_000_000) as i32, false)?;
    Ok(delta.into_any())
}
