//! Whether the caller of a write still waits. Until its statement is sent, one that went away is taken at its word and
//! nothing happens; after that the database decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::error::Result;
use crate::store::{CommitHooks, Outcome, unwanted};

/// The caller, as the work on its behalf sees it.
#[derive(Clone)]
pub(super) struct Caller(Arc<AtomicBool>);

/// Held in the caller's own future: dropping it means that nobody waits.
pub(super) struct Waiting(Caller);

impl Caller {
    /// A caller that waits for as long as the second part lives.
    pub(super) fn new() -> (Caller, Waiting) {
        let caller = Caller(Arc::new(AtomicBool::new(true)));
        (caller.clone(), Waiting(caller))
    }

    /// Whether it still waits.
    pub(super) fn waits(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// An error unless it still waits.
    pub(super) fn check_waits(&self) -> Result<()> {
        if self.waits() { Ok(()) } else { Err(unwanted()) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// For transactions that concern no cache.
#[async_trait]
impl CommitHooks for Caller {
    async fn before_tasks(&self, _run: u32) -> Result<()> {
        self.check_waits()
    }

    async fn after(&self, _outcome: &Outcome) {}
}
