//! Keeps the grant ahead of time: extends it at a third, and tries again when that fails.
//!
//! ```text
//!          granted ── a third of the grant ──▶ extend ── moved ──▶ granted
//!                                               │  └─ lost to another owner ─▶ take a node ──▶ granted
//!                                               └─ failed ─▶ back off ─▶ extend
//! ```
//! Two thirds of the grant remain for PostgreSQL to come back in.

use std::sync::Arc;
use std::time::Duration;

use super::Ids;
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::base::service::StopSignal;

/// The first delay between tries.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Runs until told to stop.
pub(super) async fn keep(ids: Arc<Ids>, mut stop: StopSignal) {
    let third = ids.length / 3;
    let mut delay = if ids.is_granted() { third } else { Duration::ZERO };
    let mut backoff = new_backoff(third);
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(delay) => {}
        }
        let renewed = tokio::select! {
            () = stop.stopped() => return,
            renewed = ids.renew(Deadline::after(ids.call_timeout)) => renewed,
        };
        delay = match renewed {
            Ok(()) => {
                backoff = new_backoff(third);
                third
            }
            Err(error) => {
                let delay = backoff.next_delay();
                log::warn!("the grant of ids could not be extended, trying again in {delay:?}: {error}");
                delay
            }
        };
    }
}

fn new_backoff(third: Duration) -> Backoff {
    Backoff::new(FIRST_DELAY, LONGEST_DELAY.min(third / 4).max(FIRST_DELAY))
}
