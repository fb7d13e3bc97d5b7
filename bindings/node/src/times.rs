//! Times as JavaScript gives them: a number of milliseconds, or a text such as `"5s"`.

use std::time::Duration;

use napi::{Either, Result};
use zmsg_core::config::{NumberUnit, TimeArgument, Ttl, delay_from_argument, duration_from_argument};

use crate::errors::to_js;

/// Milliseconds or text; `None` where nothing was given.
pub type Time = Option<Either<f64, String>>;

fn argument(time: &Either<f64, String>) -> TimeArgument<'_> {
    match time {
        Either::A(number) => TimeArgument::Number(*number, NumberUnit::Milliseconds),
        Either::B(text) => TimeArgument::Text(text),
    }
}

/// A duration; `name` is the option's name in the error.
pub fn duration(time: &Time, name: &str) -> Result<Option<Duration>> {
    time.as_ref().map(|time| duration_from_argument(argument(time), name)).transpose().map_err(to_js)
}

/// A delay, which may be zero.
pub fn delay(time: &Time, name: &str) -> Result<Option<Duration>> {
    time.as_ref().map(|time| delay_from_argument(argument(time), name)).transpose().map_err(to_js)
}

/// A TTL, which may be `"never"`.
pub fn ttl(time: &Time, name: &str) -> Result<Option<Ttl>> {
    time.as_ref().map(|time| Ttl::from_argument(argument(time), name)).transpose().map_err(to_js)
}
