//! What Redis is told of transactions that were committed while it could not be told: by any process that reaches it.

use std::sync::Arc;
use std::time::Duration;

use super::batched::CachesFollow;
use super::signal::{PAUSE, Signal};
use crate::base::Deadline;
use crate::base::service::StopSignal;
use crate::error::Result;
use crate::store::outbox::Outbox;
use crate::telemetry::Counters;

/// Who relays.
pub(super) struct Relay {
    pub(super) outbox: Arc<Outbox>,
    pub(super) follower: CachesFollow,
    pub(super) counters: Arc<Counters>,
    /// Says when something was put there, by this process or another one.
    pub(super) signal: Arc<Signal>,
}

impl Relay {
    /// Everything that is in the outbox now.
    ///
    /// # Errors
    /// If PostgreSQL or Redis failed; what was not told stays there.
    pub(super) async fn drain(&self, deadline: Deadline) -> Result<()> {
        let relayed = self.outbox.relay(|told| self.follower.tell_of(told), deadline).await?;
        self.counters.outbox_relayed.add(relayed);
        Ok(())
    }

    /// Looks again and again, as long as the engine is there, also while Redis is away: the oldest of what others have
    /// changed leaves this process's memory all the same, the rest when trust ends. It does so `every` so often without a signal; and for signals at most once in a pause,
    /// and not while Redis cannot be told: it would be the same rows again.
    pub(super) async fn run(self: Arc<Relay>, every: Duration, within: Duration, mut stop: StopSignal) {
        let (pause, mut heeds) = (PAUSE.min(every / 2), true);
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = self.signal.wake.notified(), if heeds => {}
                () = tokio::time::sleep(every - pause) => {}
            }
            tokio::select! {
                () = stop.stopped() => return,
                drained = self.drain(Deadline::after(within)) => {
                    heeds = drained.is_ok();
                    if let Err(error) = drained {
                        log::debug!("the outbox could not be relayed: {error}");
                    }
                }
            }
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
