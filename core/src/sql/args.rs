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

/// The arguments of one statement or WHERE fragment, in the order of its `?`: an array, vector or slice of values (or of
/// [`Arg`]s), [`params!`] for values of different types, `()` for none.
pub trait IntoArgs {
    /// One by one; they are moved once, from the caller to where the task keeps them.
    fn into_args(self) -> impl ExactSizeIterator<Item = Arg>;
}

impl IntoArgs for () {
    fn into_args(self) -> impl ExactSizeIterator<Item = Arg> {
        std::iter::empty()
    }
}

impl<A: Into<Arg>> IntoArgs for Vec<A> {
    fn into_args(self) -> impl ExactSizeIterator<Item = Arg> {
        self.into_iter().map(Into::into)
    }
}

impl<A: Into<Arg>, const N: usize> IntoArgs for [A; N] {
    #[inline]
    fn into_args(self) -> impl ExactSizeIterator<Item = Arg> {
        self.into_iter().map(Into::into)
    }
}

impl IntoArgs for &[Value] {
    fn into_args(self) -> impl ExactSizeIterator<Item = Arg> {
        self.iter().cloned().map(Arg::Value)
    }
}

impl IntoArgs for &Vec<Value> {
    fn into_args(self) -> impl ExactSizeIterator<Item = Arg> {
        self.as_slice().into_args()
    }
}

impl<const N: usize> IntoArgs for &[Value; N] {
    fn into_args(self) -> impl ExactSizeIterator<Item = Arg> {
        self.as_slice().into_args()
    }
}

/// The arguments of a statement from values of different types: `params![content, id]`; [`BIND`] leaves one open.
#[macro_export]
macro_rules! params {
    ($($arg:expr),* $(,)?) => {
        [$($crate::sql::Arg::from($arg)),*] as [$crate::sql::Arg; _]
    };
}
pub use crate::params;

/// Refuses text that PostgreSQL cannot hold, before anything is sent. `index` is the argument's, from 0.
#[inline]
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
