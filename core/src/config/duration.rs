//! Times as people write them: `500ms`, `5s`, `10m`, `24h`, `7d`, and numbers in the unit of the caller's language.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};

/// The shortest time anything can be set to: Redis counts in milliseconds.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);
/// The longest: ten years, far below where any tier's arithmetic could overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);

/// Units and their milliseconds, the longest name first so that "ms" is not read as "s".
const UNITS: &[(&str, f64)] =
    &[("ms", 1.0), ("s", 1_000.0), ("m", 60_000.0), ("h", 3_600_000.0), ("d", 86_400_000.0)];

/// How long a cached value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// No expiry.
    Never,
    /// From the write on.
    For(Duration),
}

/// The unit of a bare number, by the language of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NumberUnit {
    /// Python and Rust.
    #[default]
    Seconds,
    /// Node.
    Milliseconds,
}

/// A time as a call's argument gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeArgument<'a> {
    /// `"5s"`, or `"never"` where a TTL is meant.
    Text(&'a str),
    /// A number in the caller's unit.
    Number(f64, NumberUnit),
}

impl<'a> From<&'a str> for TimeArgument<'a> {
    fn from(text: &'a str) -> Self {
        TimeArgument::Text(text)
    }
}

/// Why a time was refused, in words that follow "… is"; the caller adds where it came from and picks the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadTime(String);

impl fmt::Display for BadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BadTime {
    /// The `TaskError` of a call whose argument `name` was refused.
    pub(crate) fn in_call(self, name: &str) -> Error {
        Error::task(format!("{name} {self}"))
    }
}

impl TimeArgument<'_> {
    /// The time; the error says what is wrong with it.
    pub(crate) fn duration(self) -> Result<Duration, BadTime> {
        match self {
            TimeArgument::Text(text) => read(text),
            TimeArgument::Number(number, NumberUnit::Seconds) => {
                bounded(number * 1_000.0, || format!("{number}"))
            }
            TimeArgument::Number(number, NumberUnit::Milliseconds) => bounded(number, || format!("{number}")),
        }
    }

    /// The time, which may be zero: at once.
    pub(crate) fn delay(self) -> Result<Duration, BadTime> {
        let zero = match self {
            TimeArgument::Text(text) => parts(text).is_some_and(|(number, _)| number == 0.0),
            TimeArgument::Number(number, _) if number < 0.0 => {
                return Err(BadTime(format!("{number} is negative")));
            }
            TimeArgument::Number(number, _) => number == 0.0,
        };
        if zero { Ok(Duration::ZERO) } else { self.duration() }
    }

    /// The time or `never`.
    pub(crate) fn ttl(self) -> Result<Ttl, BadTime> {
        match self {
            TimeArgument::Text(text) if text.trim() == "never" => Ok(Ttl::Never),
            other => other.duration().map(Ttl::For),
        }
    }
}

impl Ttl {
    /// Reads `"5s"` or `"never"`.
    ///
    /// # Errors
    /// `Task` for anything else, and for times below 1 ms or above ten years.
    pub fn parse(text: &str) -> Result<Ttl> {
        Ttl::from_argument(text.into(), "ttl")
    }

    /// The TTL that a call's argument gives; `name` is the argument's name in the message.
    ///
    /// # Errors
    /// `Task` for zero, negative or not finite numbers and for texts that are no time.
    pub fn from_argument(argument: TimeArgument<'_>, name: &str) -> Result<Ttl> {
        argument.ttl().map_err(|bad| bad.in_call(name))
    }

    /// The time, if there is an end.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Ttl::Never => None,
            Ttl::For(duration) => Some(duration),
        }
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ttl::Never => f.write_str("never"),
            Ttl::For(duration) => f.write_str(&show_duration(*duration)),
        }
    }
}

/// Reads `"500ms"`, `"5s"`, `"1.5s"`, `"10m"`, `"24h"`, `"7d"`.
///
/// # Errors
/// `Task` for anything else, and for times below 1 ms or above ten years.
pub fn parse_duration(text: &str) -> Result<Duration> {
    duration_from_argument(text.into(), "time")
}

/// The time that a call's argument gives; `name` is the argument's name in the message.
///
/// # Errors
/// `Task` for zero, negative or not finite numbers and for texts that are no time.
pub fn duration_from_argument(argument: TimeArgument<'_>, name: &str) -> Result<Duration> {
    argument.duration().map_err(|bad| bad.in_call(name))
}

/// The same for a delay, which may also be zero.
///
/// # Errors
/// `Task` for negative or not finite numbers, for texts that are no time, and for times below 1 ms or above ten years.
pub fn delay_from_argument(argument: TimeArgument<'_>, name: &str) -> Result<Duration> {
    argument.delay().map_err(|bad| bad.in_call(name))
}

/// The number of a text and its unit, as written.
fn split(text: &str) -> (&str, &str) {
    let trimmed = text.trim();
    let digits = trimmed.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(trimmed.len());
    trimmed.split_at(digits)
}

/// The number of a text and the milliseconds of its unit, if it is a time.
fn parts(text: &str) -> Option<(f64, f64)> {
    let (number, unit) = split(text);
    let unit_ms = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms)?;
    number.parse().ok().map(|number| (number, unit_ms))
}

fn read(text: &str) -> Result<Duration, BadTime> {
    let shown = || -> String { text.chars().take(40).collect() };
    let (number, unit) = split(text);
    match parts(text) {
        Some((number, unit_ms)) => bounded(number * unit_ms, || format!("{:?}", shown())),
        None if unit.is_empty() && number.parse::<f64>().is_ok() => {
            let number = shown();
            Err(BadTime(format!("{number:?} has no unit; write it as \"{number}s\" or \"{number}ms\"")))
        }
        _ => Err(BadTime(format!(
            "{:?} is not a time; write it as \"500ms\", \"5s\", \"10m\", \"24h\" or \"7d\"",
            shown()
        ))),
    }
}

fn bounded(ms: f64, shown: impl Fn() -> String) -> Result<Duration, BadTime> {
    if ms.is_nan() {
        return Err(BadTime(format!("{} is not a number", shown())));
    }
    if ms <= 0.0 {
        return Err(BadTime(format!("{} must be greater than zero", shown())));
    }
    if ms < SHORTEST.as_millis() as f64 {
        return Err(BadTime(format!("{} is shorter than 1 ms", shown())));
    }
    if ms > LONGEST.as_millis() as f64 {
        return Err(BadTime(format!("{} is longer than ten years (3650d)", shown())));
    }
    // Rounded to microseconds: 0.1 s is not to become 99.999999 ms.
    Ok(Duration::from_micros((ms * 1_000.0).round() as u64))
}

/// A time in the largest unit that shows it exactly; reads back as itself.
pub(crate) fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    if !micros.is_multiple_of(1_000) {
        return format!("{}ms", micros as f64 / 1_000.0);
    }
    let ms = micros / 1_000;
    // Days are left out: people write 24h.
    for (name, unit) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms > 0 && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        for (text, ms, shown) in [
            ("500ms", 500, "500ms"),
            ("5s", 5_000, "5s"),
            ("1.5s", 1_500, "1500ms"),
            ("10m", 600_000, "10m"),
            ("24h", 86_400_000, "24h"),
            ("7d", 604_800_000, "168h"),
            (" 90s ", 90_000, "90s"),
            ("1ms", 1, "1ms"),
            ("3650d", 315_360_000_000, "87600h"),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!((duration, show_duration(duration).as_str()), (Duration::from_millis(ms), shown));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "", "5", "s", "-5s", "5 s", "5S", "0s", "0.0001ms", "3651d", "1e3s", "5us", "1.2.3s", "NaNs",
            "inf", "never", "٥s",
        ] {
            let error = parse_duration(bad).unwrap_err();
            assert_eq!(error.code(), "task", "{bad}: {error}");
        }
        assert!(parse_duration("5").unwrap_err().to_string().contains("\"5s\""));
        assert!(parse_duration(&"9".repeat(10_000)).unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn a_delay_may_be_zero() {
        use NumberUnit::{Milliseconds, Seconds};
        let delay = |argument| delay_from_argument(argument, "delay");
        for zero in ["0s".into(), "0ms".into(), TimeArgument::Number(0.0, Seconds)] {
            assert_eq!(delay(zero).unwrap(), Duration::ZERO);
        }
        assert_eq!(delay(TimeArgument::Number(20.0, Milliseconds)).unwrap(), Duration::from_millis(20));
        assert_eq!(delay("1.5s".into()).unwrap(), Duration::from_millis(1_500));
        for bad in ["0", "never", "-1s", "0.0001ms", ""] {
            assert_eq!(delay(bad.into()).unwrap_err().code(), "task", "{bad}");
        }
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            let error = delay(TimeArgument::Number(bad, Seconds)).unwrap_err();
            assert!(error.to_string().starts_with("delay "), "{error}");
        }
    }

    #[test]
    fn numbers_are_in_the_callers_unit() {
        use NumberUnit::{Milliseconds, Seconds};
        let ttl = |number, unit| Ttl::from_argument(TimeArgument::Number(number, unit), "ttl");
        assert_eq!(ttl(0.1, Seconds).unwrap(), Ttl::For(Duration::from_millis(100)));
        assert_eq!(ttl(250.0, Milliseconds).unwrap(), Ttl::For(Duration::from_millis(250)));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-9, 1e300] {
            let error = ttl(bad, Seconds).unwrap_err();
            assert!(error.code() == "task" && error.to_string().starts_with("ttl "), "{error}");
        }
        assert_eq!(Ttl::parse("never").unwrap(), Ttl::Never);
        assert_eq!(Ttl::Never.to_string(), "never");
    }

    proptest! {
        #[test]
        fn shown_times_read_back(micros in 1_000u64..=315_360_000_000_000) {
            let duration = Duration::from_micros(micros);
            let again = parse_duration(&show_duration(duration)).unwrap();
            prop_assert_eq!(again, duration);
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = Ttl::parse(&text);
        }
    }
}
