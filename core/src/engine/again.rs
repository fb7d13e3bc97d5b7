//! Drops of keys that are repeated in the background, because a transaction may become visible late.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::base::Deadline;
use crate::base::service::{Services, StopSignal};
use crate::cache::Caches;

/// When a drop is repeated, in seconds after the one before it.
const AGAIN_AFTER: [u64; 3] = [1, 4, 25];

/// Drops keys again a few times, each within twice the time of a Redis command.
pub(super) fn drop_later(
    caches: &Arc<Caches>,
    services: &Services,
    keys: Vec<Arc<str>>,
    redis_timeout: Duration,
) {
    if !keys.is_empty() {
        let (caches, time) = (Arc::downgrade(caches), redis_timeout.saturating_mul(2));
        services.start(move |stop| repeat(caches, keys, time, stop));
    }
}

async fn repeat(caches: Weak<Caches>, keys: Vec<Arc<str>>, time: Duration, mut stop: StopSignal) {
    for seconds in AGAIN_AFTER {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
        let Some(caches) = caches.upgrade() else { return };
        let dropped = caches.drop_keys(caches.begin(&keys), Deadline::after(time)).await;
        if let Err(error) = dropped {
            log::debug!("keys could not be dropped again: {error}");
        }
    }
}
