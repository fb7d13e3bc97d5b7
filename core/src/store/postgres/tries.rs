//! How often a call is tried again after which failure.

use std::time::Duration;

use super::error::{Cause, Failure};
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::error::{Error, ErrorKind};

const MAX_CONFLICTS: u32 = 10;
const MAX_LOST: u32 = 5;
const MAX_STALE: u32 = 5;

/// The tries of one call.
pub(super) struct Tries {
    conflicts: Backoff,
    lost: Backoff,
    stale: u32,
}

impl Tries {
    pub(super) fn new() -> Tries {
        Tries {
            conflicts: Backoff::new(Duration::from_millis(5), Duration::from_millis(500)),
            lost: Backoff::new(Duration::from_millis(20), Duration::from_secs(1)),
            stale: 0,
        }
    }

    /// Waits as long as it takes to try again; `false` if the call should give up.
    pub(super) async fn again(&mut self, cause: Cause, deadline: Deadline) -> bool {
        let delay = match cause {
            Cause::Final | Cause::Dependent | Cause::Abandoned => return false,
            Cause::Stale => {
                self.stale += 1;
                return self.stale <= MAX_STALE && !deadline.passed();
            }
            Cause::Conflict if self.conflicts.tries() < MAX_CONFLICTS => self.conflicts.next_delay(),
            Cause::Lost if self.lost.tries() < MAX_LOST => self.lost.next_delay(),
            Cause::Conflict | Cause::Lost => return false,
        };
        if delay >= deadline.remaining() {
            return false;
        }
        tokio::time::sleep(delay).await;
        true
    }

    /// A connection could not be had: final for a first try, so that a database that is down is told at once; part of
    /// the same loss if one was lost before, because a restart takes a moment.
    pub(super) fn connecting(&self, error: Error) -> Failure {
        let same_loss = self.lost.tries() > 0 && error.kind() == ErrorKind::Store && error.retryable();
        Failure { cause: if same_loss { Cause::Lost } else { Cause::Final }, error }
    }
}
