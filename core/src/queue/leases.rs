//! The leases that this process has.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use super::answers::{Claimed, How};
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::error::{Error, Result};

/// Of each operation that was leased, the attempt and when that began.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<String, (u64, u64)>>);

impl Held {
    fn take(&self, claimed: &[Claimed], now_ms: u64) {
        self.0.lock().extend(claimed.iter().map(|it| (it.op_id.clone(), (it.attempt, now_ms))));
    }

    fn let_go<'a>(&self, claimed: impl IntoIterator<Item = &'a Claimed>) {
        let mut held = self.0.lock();
        for claimed in claimed {
            // Under another attempt it has come back to this process, and that lease goes on.
            if held.get(&claimed.op_id).is_some_and(|(attempt, _)| *attempt == claimed.attempt) {
                held.remove(&claimed.op_id);
            }
        }
    }

    fn since_ms(&self, op_id: &str) -> Option<u64> {
        self.0.lock().get(op_id).map(|(_, begun_ms)| *begun_ms)
    }

    pub(super) fn contains(&self, op_id: &str) -> bool {
        self.0.lock().contains_key(op_id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub(super) fn now(&self) -> Vec<(String, u64)> {
        self.0.lock().iter().map(|(op_id, (attempt, _))| (op_id.clone(), *attempt)).collect()
    }

    /// All of them: nobody has them any more.
    pub(super) fn drain(&self) -> Vec<Claimed> {
        self.0.lock().drain().map(|(op_id, (attempt, _))| Claimed::only(op_id, attempt)).collect()
    }
}

impl Shared {
    pub(super) fn hold(&self, claimed: &[Claimed]) {
        self.held.take(claimed, self.clock.mono_ms());
    }

    /// How long this process has had an operation.
    pub(super) fn since(&self, claimed: &Claimed) -> Duration {
        let begun_ms = self.held.since_ms(&claimed.op_id);
        begun_ms.map_or(Duration::ZERO, |begun_ms| {
            Duration::from_millis(self.clock.mono_ms().saturating_sub(begun_ms))
        })
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
    fn let_go<'a>(&self, claimed: impl IntoIterator<Item = &'a Claimed>) {
        self.held.let_go(claimed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_attempt_stays_held_when_an_older_one_ends_late() {
        let held = Held::default();
        let attempt = |number| Claimed::only("op".to_owned(), number);
        held.take(&[attempt(1)], 100);
        // Its lease ended while it ran, and this process was given it again.
        held.take(&[attempt(2)], 200);
        held.let_go([&attempt(1)]);
        assert_eq!((held.now(), held.since_ms("op")), (vec![("op".to_owned(), 2)], Some(200)));
        held.let_go([&attempt(2)]);
        assert!(held.is_empty() && !held.contains("op"));
    }
}
