//! The leases that this process has.

use std::time::Duration;

use super::Shared;
use super::lanes::{Claimed, How};
use crate::base::Deadline;
use crate::base::backoff::Backoff;

impl Shared {
    pub(super) fn hold(&self, claimed: &[Claimed]) {
        let now = self.clock.mono_ms();
        let mut held = self.held.lock();
        held.extend(claimed.iter().map(|it| (it.op_id.clone(), (it.attempt, now))));
    }

    pub(super) fn held_now(&self) -> Vec<(String, u64)> {
        self.held.lock().iter().map(|(op_id, (attempt, _))| (op_id.clone(), *attempt)).collect()
    }

    /// How long this process has had an operation.
    pub(super) fn since(&self, claimed: &Claimed) -> Duration {
        let begun = self.held.lock().get(&claimed.op_id).map(|(_, begun)| *begun);
        begun
            .map_or(Duration::ZERO, |begun| Duration::from_millis(self.clock.mono_ms().saturating_sub(begun)))
    }

    /// Ends leases. What Redis is not told runs again once the lease has ended, without effect.
    pub(super) async fn settle(&self, ended: &[(&Claimed, How)]) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let deadline = Deadline::after(self.settings.lease / 2);
        loop {
            match self.lanes.settle(ended, deadline).await {
                Ok(_) => break,
                Err(error) if backoff.tries() >= 3 || deadline.passed() => {
                    log::warn!(
                        "Redis could not be told of {} delayed writes that have ended: {error}",
                        ended.len()
                    );
                    break;
                }
                Err(_) => tokio::time::sleep(backoff.next_delay()).await,
            }
        }
        let mut held = self.held.lock();
        for (claimed, _) in ended {
            // Under another attempt it has come back to this process, and that lease goes on.
            if held.get(&claimed.op_id).is_some_and(|(attempt, _)| *attempt == claimed.attempt) {
                held.remove(&claimed.op_id);
            }
        }
        drop(held);
        self.released.notify_one();
    }
}
