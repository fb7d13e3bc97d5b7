//! Arguments: a value now, or a place that [`Task::bind`](super::Task::bind) fills later.

use crate::error::{Error, Result};
use crate::value::Value;

/// One argument of a statement or of a builder's operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// Known now.
    Value(Value),
    /// Left open: the task is a template until `bind` fills it.
    Open,
}

/// The open argument, as `bind` in Python and Node.
pub const BIND: Arg = Arg::Open;

impl<T: Into<Value>> From<T> for Arg {
    fn from(it: T) -> Arg {
        Arg::Value(it.into())
    }
}

/// The arguments of one statement or WHERE fragment, in the order of its `?`.
#[derive(Debug, Clone, Default)]
pub struct Args {
    /// Null where open.
    pub(super) values: Vec<Value>,
    /// Indexes that are open, ascending.
    pub(super) open: Vec<u32>,
}

impl Args {
    /// How many there are, open ones too.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn into_args(self) -> impl Iterator<Item = Arg> {
        let open = self.open;
        self.values.into_iter().enumerate().map(move |(index, value)| {
            if open.contains(&(index as u32)) { Arg::Open } else { Arg::Value(value) }
        })
    }
}

impl FromIterator<Arg> for Args {
    fn from_iter<I: IntoIterator<Item = Arg>>(iter: I) -> Args {
        let iter = iter.into_iter();
        let mut args = Args { values: Vec::with_capacity(iter.size_hint().0), open: Vec::new() };
        for arg in iter {
            args.values.push(match arg {
                Arg::Value(value) => value,
                Arg::Open => {
                    args.open.push(args.values.len() as u32);
                    Value::Null
                }
            });
        }
        args
    }
}

impl From<()> for Args {
    fn from((): ()) -> Args {
        Args::default()
    }
}

impl From<Vec<Value>> for Args {
    fn from(values: Vec<Value>) -> Args {
        Args { values, open: Vec::new() }
    }
}

impl From<&[Value]> for Args {
    fn from(values: &[Value]) -> Args {
        values.to_vec().into()
    }
}

impl From<&Vec<Value>> for Args {
    fn from(values: &Vec<Value>) -> Args {
        values.clone().into()
    }
}

impl<const N: usize> From<[Value; N]> for Args {
    fn from(values: [Value; N]) -> Args {
        Vec::from(values).into()
    }
}

impl<const N: usize> From<&[Value; N]> for Args {
    fn from(values: &[Value; N]) -> Args {
        values.to_vec().into()
    }
}

impl From<Vec<Arg>> for Args {
    fn from(args: Vec<Arg>) -> Args {
        args.into_iter().collect()
    }
}

impl<const N: usize> From<[Arg; N]> for Args {
    fn from(args: [Arg; N]) -> Args {
        args.into_iter().collect()
    }
}

/// The arguments of a statement from values of different types: `params![content, id]`; [`BIND`] leaves one open.
#[macro_export]
macro_rules! params {
    ($($arg:expr),* $(,)?) => {
        $crate::sql::Args::from([$($crate::sql::Arg::from($arg)),*] as [$crate::sql::Arg; _])
    };
}
pub use crate::params;

/// Refuses text that PostgreSQL cannot hold, before anything is sent. `index` is the argument's, from 0.
pub(super) fn check(index: usize, value: &Value) -> Result<()> {
    match value {
        Value::Text(text) | Value::Json(text) if text.contains('\0') => Err(Error::task(format!(
            "argument {} holds a NUL character, which PostgreSQL text cannot",
            index + 1
        ))),
        Value::List(items) => items.iter().try_for_each(|item| check(index, item)),
        _ => Ok(()),
    }
}

/// [`check`] for every value.
pub(super) fn check_all(values: &[Value]) -> Result<()> {
    values.iter().enumerate().try_for_each(|(index, value)| check(index, value))
}
