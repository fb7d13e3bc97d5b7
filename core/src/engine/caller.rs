//! Whether the caller still waits. Until its statement is sent, one that went away is taken at its word and nothing
//! happens; after that a read is cancelled, and of a write the database decides.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::Result;
use crate::store::{CommitHooks, Outcome, unwanted};

/// The caller, as the work on its behalf sees it.
#[derive(Clone)]
pub(super) struct Caller(watch::Receiver<()>);

/// Held in the caller's own future: dropping it means that nobody waits.
pub(super) struct Waiting(#[expect(dead_code, reason = "its end is what counts")] watch::Sender<()>);

impl Caller {
    /// A caller that waits for as long as the second part lives.
    pub(super) fn new() -> (Caller, Waiting) {
        let (waiting, caller) = watch::channel(());
        (Caller(caller), Waiting(waiting))
    }

    /// Whether it still waits.
    pub(super) fn waits(&self) -> bool {
        self.0.has_changed().is_ok()
    }

    /// An error unless it still waits.
    pub(super) fn check_waits(&self) -> Result<()> {
        if self.waits() { Ok(()) } else { Err(unwanted()) }
    }

    /// Resolves when it has gone away.
    pub(super) async fn gone(mut self) {
        // Nothing is ever sent: the end is an error.
        while self.0.changed().await.is_ok() {}
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
