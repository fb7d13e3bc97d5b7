//! One value that somebody gave for a setting, read as what the setting is.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::address::RedisAddr;
use super::catalogue::{Form, Setting};
use super::duration::{NumberUnit, TimeArgument, Ttl, show_duration};
use super::secret::{Secret, redact};
use crate::error::{Error, Result};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The catalogue.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// An argument of the call, by the name it was given.
    Argument(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Argument(name) => write!(f, "argument {name}"),
        }
    }
}

/// A value, the setting it is for and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) setting: &'static Setting,
    pub(super) value: Json,
    pub(super) origin: Origin,
    pub(super) numbers: NumberUnit,
}

impl Given {
    /// The setting's own default, if it has one.
    pub(super) fn default_of(setting: &'static Setting) -> Option<Given> {
        let value = Json::String(setting.default.to_owned());
        let numbers = NumberUnit::default();
        (!setting.default.is_empty()).then_some(Given { setting, value, origin: Origin::Default, numbers })
    }

    /// The error of a refused value: key, problem, accepted form, source.
    pub(super) fn refuse(&self, problem: impl fmt::Display) -> Error {
        let Setting { name, .. } = self.setting;
        Error::config(format!("{name} {problem}; it takes {}", self.setting.accepted()))
            .with("source", &self.origin)
    }

    /// Whether the value is a text because its source knows nothing else.
    fn is_plain_text(&self) -> bool {
        matches!(self.origin, Origin::Environment(_) | Origin::Default)
    }

    /// The value in messages; only for settings that hold no secret. An address may have got into the wrong one.
    fn shown(&self) -> String {
        let text = match &self.value {
            Json::String(text) if text.contains("://") || text.contains("password=") => redact(text),
            other => other.to_string(),
        };
        let short: String = text.chars().take(60).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    }

    fn wrong(&self) -> Error {
        self.refuse(format!("is {}", self.shown()))
    }

    fn time(&self) -> Result<TimeArgument<'_>> {
        match (&self.value, &self.origin) {
            (Json::String(text), _) => Ok(TimeArgument::Text(text)),
            (Json::Number(number), Origin::Argument(_)) => {
                Ok(TimeArgument::Number(number.as_f64().unwrap_or(f64::NAN), self.numbers))
            }
            (Json::Number(number), _) => {
                Err(self.refuse(format!("is {number} without a unit, write {number}s")))
            }
            _ => Err(self.wrong()),
        }
    }

    pub(super) fn duration(&self) -> Result<Duration> {
        let time = self.time()?;
        let zero_is_one = matches!(self.setting.form, Form::Duration(0, _));
        let duration = if zero_is_one { time.delay() } else { time.duration() };
        let duration = duration.map_err(|bad| self.refuse(bad))?;
        match self.setting.form {
            Form::Duration(least, most) if !(least..=most).contains(&(duration.as_millis() as u64)) => {
                Err(self.refuse(format!("is {}", show_duration(duration))))
            }
            _ => Ok(duration),
        }
    }

    pub(super) fn ttl(&self) -> Result<Ttl> {
        self.time()?.ttl().map_err(|bad| self.refuse(bad))
    }

    /// A whole number within the setting's bounds.
    pub(super) fn integer(&self) -> Result<u64> {
        let number = match &self.value {
            Json::String(text) if self.is_plain_text() => text.trim().parse::<i64>().ok(),
            // JavaScript has one kind of number; 1000.0 is a thousand.
            Json::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
            _ => None,
        };
        let within = |number: &i64| match self.setting.form {
            Form::Integer(least, most) => (least..=most).contains(number),
            _ => true,
        };
        let number = number.filter(within).and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| self.wrong())
    }

    /// [`Given::integer`] where memory is counted.
    pub(super) fn size(&self) -> Result<usize> {
        usize::try_from(self.integer()?).map_err(|_| self.wrong())
    }

    pub(super) fn fraction(&self) -> Result<f64> {
        let number = match &self.value {
            Json::String(text) if self.is_plain_text() => text.trim().parse().ok(),
            Json::Number(number) => number.as_f64(),
            _ => None,
        };
        let most = if let Form::Fraction(most) = self.setting.form { most } else { f64::MAX };
        number.filter(|number| (0.0..=most).contains(number)).ok_or_else(|| self.wrong())
    }

    pub(super) fn switch(&self) -> Result<bool> {
        match &self.value {
            Json::Bool(switch) => Ok(*switch),
            Json::String(text) if self.is_plain_text() && text.eq_ignore_ascii_case("true") => Ok(true),
            Json::String(text) if self.is_plain_text() && text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(self.wrong()),
        }
    }

    pub(super) fn choice(&self) -> Result<&'static str> {
        let words: &'static [&'static str] =
            if let Form::Choice(words) = self.setting.form { words } else { &[] };
        let given = self.value.as_str();
        words.iter().find(|word| Some(**word) == given).copied().ok_or_else(|| self.wrong())
    }

    pub(super) fn name(&self) -> Result<String> {
        let fits = |name: &&str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte))
        };
        self.value.as_str().filter(fits).map(str::to_owned).ok_or_else(|| self.wrong())
    }

    pub(super) fn path(&self) -> Result<PathBuf> {
        let fits = |path: &&str| !path.is_empty() && !path.contains('\0');
        self.value.as_str().filter(fits).map(PathBuf::from).ok_or_else(|| self.wrong())
    }

    /// A connection string. Only its outline is checked here; the store reads it.
    pub(super) fn dsn(&self) -> Result<Secret> {
        let Some(text) = self.value.as_str().map(str::trim) else {
            return Err(self.refuse("is not a text"));
        };
        let url = text.starts_with("postgresql://") || text.starts_with("postgres://");
        match text {
            "" => Err(self.refuse("is empty")),
            _ if text.contains('\0') => Err(self.refuse("holds a NUL character")),
            _ if !url && text.contains("://") => Err(self.refuse("has a scheme other than postgresql://")),
            _ if !url && !text.contains('=') => {
                Err(self.refuse("is neither a URL nor made of key=value words"))
            }
            _ => Ok(Secret::new(text)),
        }
    }

    /// An address; null or an empty text is none.
    pub(super) fn address(&self) -> Result<Option<RedisAddr>> {
        match &self.value {
            Json::Null => Ok(None),
            Json::String(text) if text.trim().is_empty() => Ok(None),
            value => RedisAddr::from_json(value)
                .map(Some)
                .map_err(|why| self.refuse(format!("cannot be read: {why}"))),
        }
    }
}

/// A float as a whole number, if it is one and exact.
fn whole(number: f64) -> Option<i64> {
    let exact = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    exact.then_some(number as i64)
}
