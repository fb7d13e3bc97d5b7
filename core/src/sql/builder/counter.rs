//! The counter's face.

use super::operation::{Op, Role};
use super::{Arg, Counter};

/// Marks [`Counter`].
pub enum CounterKind {}

/// Numbers are int, float or decimal, finite. Operations apply in order.
impl Counter {
    /// Adds.
    pub fn inc(self, n: impl Into<Arg>) -> Counter {
        self.step(|cell| cell.operate(Role::Number, n.into(), Op::Inc))
    }

    /// Subtracts.
    pub fn dec(self, n: impl Into<Arg>) -> Counter {
        self.step(|cell| cell.operate(Role::Number, n.into(), Op::Dec))
    }

    /// Multiplies.
    #[allow(clippy::should_implement_trait, reason = "the name that every language of the builder has")]
    pub fn mul(self, n: impl Into<Arg>) -> Counter {
        self.step(|cell| cell.operate(Role::Number, n.into(), Op::Mul))
    }

    /// Replaces; operations before it are dropped, with their arguments.
    pub fn set(self, n: impl Into<Arg>) -> Counter {
        self.step(|cell| {
            cell.forget_operations();
            cell.operate(Role::Number, n.into(), Op::Set);
        })
    }

    /// Sets to 0; operations before it are dropped, with their arguments.
    pub fn clean(self) -> Counter {
        self.step(|cell| {
            cell.forget_operations();
            cell.push_op(Op::Clean);
        })
    }
}
