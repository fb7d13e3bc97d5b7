//! The map's face.

use super::operation::{Op, Role};
use super::{Arg, Map};

/// Marks [`Map`].
pub enum MapKind {}

/// Keys are text, values anything that JSON can hold. Operations apply in order: per key, the last one wins. A column
/// that holds something else than an object is an error of the database.
impl Map {
    /// Sets one key.
    pub fn set(self, key: impl Into<Arg>, value: impl Into<Arg>) -> Map {
        self.step(|cell| {
            let key = cell.push_arg(Role::Key, key.into());
            let value = cell.push_arg(Role::Json, value.into());
            cell.push_op(Op::Put { key, value });
        })
    }

    /// Removes one key; fine if it is not there.
    pub fn delete(self, key: impl Into<Arg>) -> Map {
        self.step(|cell| cell.operate(Role::Key, key.into(), Op::Remove))
    }
}
