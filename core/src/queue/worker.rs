//! Who runs what is due.
//!
//! ```text
//! looking ── something is due ──▶ leased ──▶ up to `concurrency` transactions at a time ──▶ looking
//!    ╰── nothing ──▶ waits for the next due time, a write of this process, a quarter of a second
//! ```
//! An operation whose worker did not come back may have been what killed it. It runs alone: nothing else is leased until it
//! has ended, so that nobody shares its fate, and after three times it is dead.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::lanes::{Claimed, Wanted};
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
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let mut suspects = 0;
    loop {
        let mut pause = LOOK;
        let mut exclusive = suspects > 0;
        if !shared.is_stopping()
            && if exclusive { running.is_empty() } else { running.len() < shared.settings.runners }
        {
            match look(&shared, exclusive, shared.settings.runners - running.len()).await {
                Ok(found) => {
                    backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
                    suspects = found.suspects;
                    let claimed = found.claimed;
                    let free = if exclusive { 1 } else { shared.settings.runners - running.len() };
                    let (any, now_ms) = (!claimed.is_empty(), found.now_ms);
                    for group in split(claimed, free) {
                        running.push(effect::run(&shared, group, now_ms));
                    }
                    if any {
                        exclusive = suspects > 0;
                        if !exclusive && found.due > 0 && running.len() < shared.settings.runners {
                            continue;
                        }
                    }
                    pause = found.wait.map_or(LOOK, |wait| wait.min(LOOK)).max(Duration::from_millis(1));
                    shared.looks_again_in(pause);
                }
                Err(error) => {
                    if error.kind() == ErrorKind::Config {
                        shared.complain(&error);
                    }
                    log::debug!("the queue could not be looked into: {error}");
                    pause = backoff.next_delay().max(Duration::from_millis(10));
                }
            }
            if let Some(away) = shared.takes_a_break() {
                pause = pause.max(away);
            }
        }
        let stopping = shared.is_stopping();
        tokio::select! {
            () = stop.stopped(), if !stopping => shared.stops(),
            Some(()) = running.next(), if !running.is_empty() => {}
            () = shared.wake.notified(), if !stopping => {}
            () = tokio::time::sleep(pause), if !stopping => {}
            else => return,
        }
    }
}

async fn look(shared: &Shared, exclusive: bool, free: usize) -> Result<super::lanes::Claims> {
    let (wanted, most) =
        if exclusive { (Wanted::Suspect, 1) } else { (Wanted::Due, (free * GROUP).min(MOST)) };
    let deadline = Deadline::after(shared.settings.lease / 2);
    let known = shared.known_sequence();
    let claims = shared.lanes.claim(wanted, most, shared.settings.lease, known, deadline).await?;
    shared.note_standing(&claims.standing);
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
