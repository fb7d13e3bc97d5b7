//! Who runs what is due.
//!
//! ```text
//! looking ── something is due ──▶ leased ──▶ up to `concurrency` transactions at a time ──▶ looking
//!    ╰── nothing ──▶ waits for the next due time, a write of this process, a quarter of a second
//! ```
//! An operation whose worker had begun it and did not come back may have been what killed it. It runs in a transaction of
//! its own, one such at a time, and after three times it is dead. What runs beside it goes on; if it dies with the worker, it
//! is a suspect too from then on and never meets the killer again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::answers::{Claimed, Claims, Wanted};
use super::{Shared, effect};
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::base::service::StopSignal;
use crate::error::{ErrorKind, Result};

/// Operations of one transaction at the most.
const GROUP: usize = 100;
/// Operations leased at once: a script cannot hand on many more.
const MOST: usize = 2_000;
/// The longest time between two looks: other processes' writes are found by looking.
const LOOK: Duration = Duration::from_millis(250);

/// Runs operations until it is told to stop; then ends what it has begun and gives the rest back.
pub(super) async fn run(shared: Arc<Shared>, mut stop: StopSignal) {
    let mut running = FuturesUnordered::new();
    // One at a time: of two that kill their worker neither is to be counted for the other.
    let mut suspect = FuturesUnordered::new();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let free = shared.settings.runners.saturating_sub(running.len());
        let mut pause = LOOK;
        if let Some(away) = shared.takes_a_break() {
            pause = away;
        } else if !shared.is_stopping() && free > 0 {
            match look(&shared, Wanted::Due, (free * GROUP).min(MOST)).await {
                Ok(found) => {
                    backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
                    let any = !found.claimed.is_empty();
                    for group in split(found.claimed, free) {
                        running.push(effect::run(&shared, group, found.now_ms));
                    }
                    if found.suspects > 0
                        && suspect.is_empty()
                        && let Ok(one) = look(&shared, Wanted::Suspect, 1).await
                        && !one.claimed.is_empty()
                    {
                        suspect.push(effect::run(&shared, one.claimed, one.now_ms));
                    }
                    if any && found.due > 0 && running.len() < shared.settings.runners {
                        continue;
                    }
                    pause = found.wait.map_or(LOOK, |wait| wait.min(LOOK)).max(Duration::from_millis(1));
                    shared.looks_again_in(pause);
                }
                Err(error) => {
                    // A cache's Redis was not named for a queue, and may never have one.
                    if error.kind() == ErrorKind::Config && shared.server.is_named() {
                        shared.complain(&error);
                    }
                    log::debug!("the queue could not be looked into: {error}");
                    pause = backoff.next_delay().max(Duration::from_millis(10));
                }
            }
        }
        let stopping = shared.is_stopping();
        tokio::select! {
            () = stop.stopped(), if !stopping => shared.stops(),
            Some(()) = running.next(), if !running.is_empty() => {}
            Some(()) = suspect.next(), if !suspect.is_empty() => {}
            () = shared.wake.notified(), if !stopping => {}
            () = tokio::time::sleep(pause), if !stopping => {}
            else => return shared.ends_work(),
        }
    }
}

async fn look(shared: &Shared, wanted: Wanted, most: usize) -> Result<Claims> {
    shared.server.check().await?;
    let deadline = Deadline::after(shared.settings.lease / 2);
    let asked = shared.asks();
    let claims = shared.lanes.claim(wanted, most, shared.settings.lease, asked.sequence, deadline).await?;
    shared.note_standing(&claims.standing, asked);
    shared.hold(&claims.claimed);
    Ok(claims)
}

/// Even parts for so many transactions; a few operations each get one of their own.
fn split(claimed: Vec<Claimed>, free: usize) -> impl Iterator<Item = Vec<Claimed>> {
    let size = claimed.len().div_ceil(free.max(1)).clamp(1, GROUP);
    let mut rest = claimed;
    std::iter::from_fn(move || {
        let behind = rest.split_off(rest.len().min(size));
        let group = std::mem::replace(&mut rest, behind);
        (!group.is_empty()).then_some(group)
    })
}
