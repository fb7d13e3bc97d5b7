//! Leave to answer further reads of a key from a copy that is kept outside of L1.
//!
//! A warrant says what was so when L1 gave the value. It holds while, in this order, the clock is before its deadline, the
//! clock is before the trust's, and its stripe's turn is what it was. The clock is read anew at each check and before the
//! two words: a process that was stopped finds there that its time has passed, and a turn that is read after the trust is
//! at least as new as what the trust stands for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::cache::epochs::Epochs;
use crate::cache::trust::Trust;

/// What has to be so still for a copy to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warrant {
    /// The key's stripe, an index into [`WarrantWords::turns`].
    pub stripe: u16,
    /// The stripe's turn before L1 was asked.
    pub turn: u64,
    /// Until when, in milliseconds on the engine's monotonic clock; `u64::MAX` is for ever.
    pub deadline_ms: u64,
}

/// The words that warrants are checked against. They stay readable, and never hold again, after the engine is gone.
#[derive(Clone)]
pub struct WarrantWords {
    epochs: Arc<Epochs>,
    trust: Arc<Trust>,
}

impl WarrantWords {
    pub(super) fn new(epochs: Arc<Epochs>, trust: Arc<Trust>) -> WarrantWords {
        WarrantWords { epochs, trust }
    }

    /// The turns, by stripe.
    pub fn turns(&self) -> &[AtomicU64] {
        self.epochs.turns()
    }

    /// Until when this process trusts its memory, in milliseconds on the engine's monotonic clock; `u64::MAX` is for ever.
    pub fn trust(&self) -> &AtomicU64 {
        self.trust.word()
    }
}
