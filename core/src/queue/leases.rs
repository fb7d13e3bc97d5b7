//! The leases that this process has.

use std::collections::HashSet;
use std::time::Duration;

use super::Shared;
use super::lanes::{Claimed, How};
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::error::{Error, Result};

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

    /// Says that these are begun; gives those that may be. The others are somebody else's by now, or were taken back.
    pub(super) async fn begin(&self, leased: Vec<Claimed>) -> Result<Vec<Claimed>, (Vec<Claimed>, Error)> {
        let mut tries = Tries::new(self.settings.lease);
        let lost: HashSet<String> = loop {
            match self.lanes.begin(&leased, tries.deadline).await {
                Ok(lost) => break lost.into_iter().collect(),
                Err(error) if !tries.again(&error).await => return Err((leased, error)),
                Err(_) => {}
            }
        };
        let (lost, held): (Vec<_>, Vec<_>) = leased.into_iter().partition(|it| lost.contains(&it.op_id));
        if !lost.is_empty() {
            log::debug!("{} delayed writes are no longer this process's and not begun", lost.len());
            self.let_go(&lost);
        }
        Ok(held)
    }

    /// Ends leases. What Redis is not told runs again once the lease has ended, without effect.
    pub(super) async fn settle(&self, ended: &[(&Claimed, How)]) {
        let mut tries = Tries::new(self.settings.lease);
        while let Err(error) = self.lanes.settle(ended, tries.deadline).await {
            if !tries.again(&error).await {
                log::warn!(
                    "Redis could not be told of {} delayed writes that have ended: {error}",
                    ended.len()
                );
                break;
            }
        }
        self.let_go(ended.iter().map(|(claimed, _)| *claimed));
    }

    /// This process no longer has these.
    fn let_go<'a>(&self, leased: impl IntoIterator<Item = &'a Claimed>) {
        let mut held = self.held.lock();
        for claimed in leased {
            // Under another attempt it has come back to this process, and that lease goes on.
            if held.get(&claimed.op_id).is_some_and(|(attempt, _)| *attempt == claimed.attempt) {
                held.remove(&claimed.op_id);
            }
        }
        drop(held);
        self.released.notify_one();
    }
}

/// How often Redis is told something that it may be told twice.
struct Tries {
    backoff: Backoff,
    deadline: Deadline,
}

impl Tries {
    fn new(lease: Duration) -> Tries {
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        Tries { backoff, deadline: Deadline::after(lease / 2) }
    }

    /// Whether it is told once more, after a pause.
    async fn again(&mut self, error: &Error) -> bool {
        let again = error.retryable() && self.backoff.tries() < 3 && !self.deadline.passed();
        if again {
            tokio::time::sleep(self.backoff.next_delay()).await;
        }
        again
    }
}
