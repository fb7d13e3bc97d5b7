//! Operations on one cell, a column of a row, and what a list of them comes to: its normal form.
//!
//! For `sql`, which says what a task does to its cell; for the rooms that keep one form per cell instead of every
//! operation, and write the form into one statement. Pure: no I/O, no clock, and on a counter no allocation.
//!
//! | cell | normal form | what operations do to it |
//! |---|---|---|
//! | counter | `x ↦ times·x + plus`, or a constant | `Add` adds to `plus`, `Multiply` multiplies both, `Assign` is a constant |
//! | slice | base kept or dropped; per text, the position of its last removal and those of its appends | `Append` takes the next position; `Remove` too, and drops the appends of its text; `Clear` drops everything |
//! | map | per key, a value or removed | the last one wins |
//!
//! NULL reads as `0`, `[]`, `{}`; a row that is missing stays missing. The form of an empty list is the identity. It is
//! not written: it would turn NULL into `0`.
//!
//! The law: a form, applied, leaves what its operations leave when each runs alone, in order, if none of them fails
//! alone. So composing forms is associative, and a batch in flight and the next one compose like two operations.
//!
//! Numbers are exact. [`Exact`] has PostgreSQL's display scale, so that `1.50` and `1.5` stay apart: digits come out as
//! the server would have left them. Whoever applies a form computes `times·x + plus` in `numeric`: of two results that
//! fit 64 bits the steps between need not.
//!
//! Two JSON texts that differ may be one value for PostgreSQL: `1` and `1.0`, or objects with other spaces or another
//! order of keys. This room compares texts, the server compares values. That is why a slice's form keeps positions: what
//! is appended goes if an equal value is removed at a *later* position, and the server says what is equal.
//!
//! Not composed, so that the caller keeps a list instead:
//! - what overflows ([`NotComposable`]): a whole number of more than 64 bits, since one of the operations may have to
//!   fail alone, which a sum would hide; a fraction that this room cannot hold exactly;
//! - an operation on another kind of cell.
//!
//! Not seen here, because only a column's type tells: a column that rounds (integers that meet fractions,
//! `numeric(10, 2)`, floats) rounds once per form, not once per operation.

mod counter;
mod exact;
mod map;
#[cfg(test)]
mod model;
mod slice;
mod spelled;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub(crate) use counter::CounterForm;
pub(crate) use exact::Exact;
pub(crate) use map::MapForm;
pub(crate) use slice::SliceForm;

/// What kind of cell it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    /// A number.
    Counter,
    /// A JSONB array.
    Slice,
    /// A JSONB object.
    Map,
}

/// One operation with its arguments. Texts of values are JSON, checked by whoever made them.
#[derive(Clone, PartialEq)]
pub(crate) enum Operation {
    /// Counter: `x + n`. Subtracting is adding the negated number.
    Add(Exact),
    /// Counter: `x · n`.
    Multiply(Exact),
    /// Counter: `n`.
    Assign(Exact),
    /// Slice: a value at the end.
    Append(Arc<str>),
    /// Slice: every equal value goes.
    Remove(Arc<str>),
    /// Slice: empty.
    Clear,
    /// Map: the value of a key.
    Put(Arc<str>, Arc<str>),
    /// Map: the key goes.
    Delete(Arc<str>),
}

/// Operations that may swap places on one cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Commutes with its like.
    Add,
    /// Commutes with its like.
    Multiply,
    /// Commutes with nothing, not even its like.
    Other,
}

/// It would overflow, or belongs to another kind of cell: keep the operations as a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotComposable;

/// What a list of operations on one cell comes to.
#[derive(Clone, PartialEq)]
pub(crate) enum Form {
    /// Of a number.
    Counter(CounterForm),
    /// Of an array.
    Slice(SliceForm),
    /// Of an object.
    Map(MapForm),
}

// Cells are kept by the million.
const _: () = assert!(size_of::<Form>() <= 80);

/// What an `Arc<str>` costs beside its text: two counts, and what the allocator rounds up.
const TEXT_OVERHEAD: usize = 24;

impl Operation {
    /// What it commutes with.
    pub(crate) fn class(&self) -> Class {
        match self {
            Operation::Add(_) => Class::Add,
            Operation::Multiply(_) => Class::Multiply,
            _ => Class::Other,
        }
    }
}

impl Form {
    /// The identity.
    pub(crate) fn new(kind: Kind) -> Form {
        match kind {
            Kind::Counter => Form::Counter(CounterForm::IDENTITY),
            Kind::Slice => Form::Slice(SliceForm::default()),
            Kind::Map => Form::Map(MapForm::default()),
        }
    }

    /// Of which kind of cell.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Form::Counter(_) => Kind::Counter,
            Form::Slice(_) => Kind::Slice,
            Form::Map(_) => Kind::Map,
        }
    }

    /// Composes the operation behind what is there; an error changes nothing.
    #[inline]
    pub(crate) fn then(&mut self, operation: &Operation) -> Result<(), NotComposable> {
        match self {
            Form::Counter(form) => form.then(operation),
            Form::Slice(form) => form.then(operation),
            Form::Map(form) => form.then(operation),
        }
    }

    /// Composes all that `later` stands for behind what is there; an error changes nothing.
    pub(crate) fn followed_by(&mut self, later: &Form) -> Result<(), NotComposable> {
        match (self, later) {
            (Form::Counter(form), Form::Counter(later)) => form.followed_by(later),
            (Form::Slice(form), Form::Slice(later)) => form.followed_by(later),
            (Form::Map(form), Form::Map(later)) => {
                form.followed_by(later);
                Ok(())
            }
            _ => Err(NotComposable),
        }
    }

    /// Bytes on the heap, estimated without a walk.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Form::Counter(_) => 0,
            Form::Slice(form) => form.bytes(),
            Form::Map(form) => form.bytes(),
        }
    }
}

/// The name only: arguments may be secrets and never reach a log.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Add(_) => "add",
            Operation::Multiply(_) => "multiply",
            Operation::Assign(_) => "assign",
            Operation::Append(_) => "append",
            Operation::Remove(_) => "remove",
            Operation::Clear => "clear",
            Operation::Put(..) => "put",
            Operation::Delete(_) => "delete",
        })
    }
}

/// Kind and size only, as for [`Operation`].
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} form of {} bytes", self.kind(), self.bytes())
    }
}

/// What a text costs.
fn text_bytes(text: &str) -> usize {
    text.len() + TEXT_OVERHEAD
}
