//! Reads around a fence: whose source was asked although the reader had no right to fill.
//!
//! ```text
//! a writer:      fence ───── COMMIT 1 ────────────────────────────────────── leaves 1
//! one cut off:                         COMMIT 2, with a row in the outbox
//! a reader:                                                          reads 2 ········ would find 1 in Redis
//! ```
//! What a writer left who can reach Redis is fenced, or was. What one left who cannot is in the outbox from the moment on at
//! which it can be read. So a reader that looks there afterwards, and tells of what it finds, finds nothing older later.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::base::Deadline;
use crate::cache::bus::BeforeListening;
use crate::error::Result;

/// The looks of one process. Those that are wanted while one is under way are one.
#[derive(Default)]
pub(super) struct Around {
    wanted: AtomicU64,
    /// Up to which of them a look has begun later, and ended well.
    served: Mutex<u64>,
}

impl Around {
    /// Tells of what is in the outbox by a look that begins now or later.
    pub(super) async fn look(&self, relay: &BeforeListening, deadline: Deadline) -> Result<()> {
        let own = self.wanted.fetch_add(1, Ordering::SeqCst) + 1;
        let looking = async {
            let mut served = self.served.lock().await;
            if *served < own {
                let all = self.wanted.load(Ordering::SeqCst);
                relay(deadline).await?;
                *served = all;
            }
            Ok(())
        };
        deadline.run("looking into the outbox", looking).await?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::future::{join, join_all};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn looks_that_are_wanted_meanwhile_are_one_that_begins_later() {
        let (around, begun, gate) =
            (Around::default(), Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let relay: BeforeListening = Arc::new({
            let (begun, gate) = (begun.clone(), gate.clone());
            move |_| {
                let (begun, gate) = (begun.clone(), gate.clone());
                Box::pin(async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.expect("the gate stays").forget();
                    Ok(())
                })
            }
        });
        let soon = Deadline::after(Duration::from_secs(10));
        let look = || around.look(&relay, soon);
        let others = async {
            // The first one is under way by now.
            assert_eq!(begun.load(Ordering::SeqCst), 1);
            let opening = async { gate.add_permits(2) };
            join(join_all((0..100).map(|_| look())), opening).await.0
        };
        let (first, others) = join(look(), others).await;
        assert!(first.is_ok() && others.into_iter().all(|done| done.is_ok()));
        assert_eq!(begun.load(Ordering::SeqCst), 2, "what they want had to begin after they asked");
    }

    #[tokio::test]
    async fn a_look_that_failed_serves_nobody() {
        let around = Around::default();
        let failing: BeforeListening = Arc::new(|_| Box::pin(async { Err(Error::closed()) }));
        let soon = Deadline::after(Duration::from_secs(10));
        let both = join(around.look(&failing, soon), around.look(&failing, soon)).await;
        assert!(both.0.is_err() && both.1.is_err());
    }
}
