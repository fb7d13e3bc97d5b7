//! Which calls are in flight, so that closing can wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::{Error, Result};

/// The gate that every call passes.
#[derive(Default)]
pub(super) struct Calls {
    closed: AtomicBool,
    in_flight: AtomicUsize,
    ended: Notify,
}

/// One call in flight; it has ended when this is dropped.
pub(super) struct Call(Arc<Calls>);

impl Calls {
    /// Lets a call in, or says that the engine is closed.
    pub(super) fn enter(self: &Arc<Calls>) -> Result<Call> {
        // Counted before looking, so that a close that sees no call cannot miss this one.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let call = Call(self.clone());
        if self.is_closed() { Err(Error::closed()) } else { Ok(call) }
    }

    /// Another one, under the cover of one that was let in: also when new calls are refused meanwhile.
    pub(super) fn join(self: &Arc<Calls>, _cover: &Call) -> Call {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Call(self.clone())
    }

    /// Whether new calls are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Refuses new calls; false if they were refused before.
    pub(super) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::SeqCst)
    }

    /// Resolves when no call is in flight.
    pub(super) async fn drained(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn draining_waits_for_the_last_call_and_lets_none_in() {
        let calls = Arc::new(Calls::default());
        let first = calls.enter().unwrap();
        let second = calls.enter().unwrap();
        assert!(calls.close());
        assert!(!calls.close());
        assert!(calls.enter().is_err());
        let covered = calls.join(&second);
        let draining = tokio_test_spawn(calls.clone());
        drop(first);
        assert!(!draining.is_finished());
        drop(second);
        assert!(!draining.is_finished());
        drop(covered);
        draining.await.unwrap();
    }

    #[allow(clippy::disallowed_methods)]
    fn tokio_test_spawn(calls: Arc<Calls>) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { calls.drained().await })
    }
}
