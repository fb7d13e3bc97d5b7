//! The slice's face.

use super::operation::{Op, Role};
use super::{Arg, Slice};

/// Marks [`Slice`].
pub enum SliceKind {}

/// Elements are anything that JSON can hold; [`Value::Json`](crate::value::Value::Json) is taken as it is. Operations
/// apply in order. A column that holds something else than an array is an error of the database.
impl Slice {
    /// Appends one element.
    #[allow(clippy::should_implement_trait, reason = "the name that every language of the builder has")]
    pub fn add(self, element: impl Into<Arg>) -> Slice {
        self.step(|cell| cell.operate(Role::Json, element.into(), Op::Add))
    }

    /// Removes every element equal to this one as JSONB compares (`1` and `1.0` are equal).
    pub fn delete(self, element: impl Into<Arg>) -> Slice {
        self.step(|cell| cell.operate(Role::Json, element.into(), Op::Delete))
    }

    /// Empties; operations before it are dropped, with their arguments.
    pub fn clean(self) -> Slice {
        self.step(|cell| {
            cell.forget_operations();
            cell.push_op(Op::Clean);
        })
    }
}
