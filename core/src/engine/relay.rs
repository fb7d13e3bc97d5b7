//! What Redis is told of transactions that were committed while it could not be told: by any process that reaches it.

use std::sync::Arc;
use std::time::Duration;

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
}

impl Relay {
    /// Everything that is in the outbox now.
    ///
    /// # Errors
    /// If PostgreSQL or Redis failed; what was not told stays there.
    pub(super) async fn drain(&self, deadline: Deadline) -> Result<()> {
        let relayed = outbox::relay(&*self.store, |keys| self.follower.drop_keys(keys), deadline).await?;
        self.counters.outbox_relayed.add(relayed);
        Ok(())
    }

    /// Looks again and again, as long as the engine is there.
    pub(super) async fn run(self: Arc<Relay>, every: Duration, within: Duration, mut stop: StopSignal) {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(every) => {}
            }
            // Who cannot reach Redis cannot relay.
            if !self.follower.is_heard() {
                continue;
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
