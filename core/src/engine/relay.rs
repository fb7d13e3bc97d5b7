//! What Redis is told of transactions that were committed while it could not be told: by any process that reaches it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::base::Deadline;
use crate::base::service::StopSignal;
use crate::cache::Caches;
use crate::error::Result;
use crate::store::{Store, outbox};
use crate::telemetry::Counters;

/// Who relays.
pub(super) struct Relay {
    pub(super) store: Arc<dyn Store>,
    pub(super) caches: Weak<Caches>,
    pub(super) counters: Arc<Counters>,
    pub(super) redis_timeout: Duration,
}

impl Relay {
    /// Everything that is in the outbox now.
    ///
    /// # Errors
    /// If PostgreSQL or Redis failed; what was not told stays there.
    pub(super) async fn drain(&self, deadline: Deadline) -> Result<()> {
        let Some(caches) = self.caches.upgrade() else { return Ok(()) };
        let tell = async |keys: Vec<Arc<str>>| {
            let deadline = Deadline::after(self.redis_timeout.saturating_mul(2));
            caches.drop_keys(caches.begin(&keys), deadline).await
        };
        let relayed = outbox::relay(&*self.store, tell, deadline).await?;
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
            let Some(caches) = self.caches.upgrade() else { return };
            // Who cannot reach Redis cannot relay.
            if !caches.is_coherent() {
                continue;
            }
            drop(caches);
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
