//! What Redis is told of transactions that were committed while it could not be told: by any process that reaches it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::batched::CachesFollow;
use crate::base::Deadline;
use crate::base::service::StopSignal;
use crate::error::Result;
use crate::store::{Store, outbox};
use crate::telemetry::Counters;

/// Who relays.
pub(super) struct Relay {
    pub(super) store: Arc<dyn Store>,
    pub(super) follower: CachesFollow,
    pub(super) counters: Arc<Counters>,
    /// Something was put there just now.
    pub(super) wake: Notify,
}

impl Relay {
    /// Everything that is in the outbox now.
    ///
    /// # Errors
    /// If PostgreSQL or Redis failed; what was not told stays there.
    pub(super) async fn drain(&self, deadline: Deadline) -> Result<()> {
        let relayed = outbox::relay(&*self.store, |told| self.follower.tell_of(told), deadline).await?;
        self.counters.outbox_relayed.add(relayed);
        Ok(())
    }

    /// Looks again and again, as long as the engine is there, also while Redis is away: what others have changed leaves this
    /// process's memory all the same.
    pub(super) async fn run(self: Arc<Relay>, every: Duration, within: Duration, mut stop: StopSignal) {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(every) => {}
            }
            tokio::select! {
                () = stop.stopped() => return,
                drained = self.drain(Deadline::after(within)) => {
                    if let Err(error) = drained {
                        log::debug!("the outbox could not be relayed: {error}");
                    }
                }
            }
        }
    }
}
