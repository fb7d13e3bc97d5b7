//! A number's form. Nothing here allocates: this is what a like runs through.

use super::{Exact, NotComposable, Operation};

/// What becomes of the number `x`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CounterForm {
    /// `times·x + plus`.
    Affine { times: Exact, plus: Exact },
    /// This number, whatever `x` is.
    Constant(Exact),
}

impl CounterForm {
    /// `x` itself.
    pub(crate) const IDENTITY: CounterForm = CounterForm::Affine { times: Exact::ONE, plus: Exact::ZERO };

    #[inline]
    pub(super) fn then(&mut self, operation: &Operation) -> Result<(), NotComposable> {
        match operation {
            Operation::Add(n) => self.add(*n),
            Operation::Multiply(n) => self.multiply(*n),
            Operation::Assign(n) => {
                *self = CounterForm::Constant(*n);
                Some(())
            }
            _ => None,
        }
        .ok_or(NotComposable)
    }

    pub(super) fn followed_by(&mut self, later: &CounterForm) -> Result<(), NotComposable> {
        let mut whole = *self;
        match *later {
            CounterForm::Affine { times, plus } => {
                whole.multiply(times).and_then(|()| whole.add(plus)).ok_or(NotComposable)?
            }
            CounterForm::Constant(_) => whole = *later,
        }
        *self = whole;
        Ok(())
    }

    #[inline]
    fn add(&mut self, n: Exact) -> Option<()> {
        let (CounterForm::Affine { plus, .. } | CounterForm::Constant(plus)) = self;
        *plus = plus.plus(n)?;
        Some(())
    }

    #[inline]
    fn multiply(&mut self, n: Exact) -> Option<()> {
        match self {
            // Both are made before one is kept.
            CounterForm::Affine { times, plus } => (*times, *plus) = (times.times(n)?, plus.times(n)?),
            CounterForm::Constant(it) => *it = it.times(n)?,
        }
        Some(())
    }
}
