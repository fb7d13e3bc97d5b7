//! What goes on beside the work: leases are extended, figures read, old rows removed.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::base::service::StopSignal;
use crate::base::{Deadline, random};
use crate::error::Result;
use crate::sql::sql;
use crate::value::Value;

/// Leases extended at once.
const AT_ONCE: usize = 1_000;
/// Between two readings of the figures.
const FIGURES: Duration = Duration::from_secs(1);
/// Between two removals of old rows, and how many go at once.
const REMOVAL: Duration = Duration::from_secs(3_600);
const ROWS: i64 = 5_000;

const REMOVE: &str = "DELETE FROM zmsg_done WHERE op_id IN \
     (SELECT op_id FROM zmsg_done WHERE done_on < current_date - ?::int LIMIT ?) RETURNING 1";

/// Says three times in a lease that this process is still there.
pub(super) async fn extend(shared: Arc<Shared>, mut stop: StopSignal) {
    let every = shared.settings.lease / 3;
    let mut stopping = false;
    loop {
        // The leases of what is still running are extended for as long as it takes.
        if stopping && !shared.works() && shared.held.is_empty() {
            return;
        }
        tokio::select! {
            () = stop.stopped(), if !stopping => {
                stopping = true;
                continue;
            }
            () = shared.released.notified(), if stopping => continue,
            () = tokio::time::sleep(every) => {}
        }
        let held: Vec<(String, u64)> = shared.held.now();
        for held in held.chunks(AT_ONCE) {
            match shared.lanes.extend(held, shared.settings.lease, Deadline::after(every)).await {
                Ok(lost) if lost.is_empty() => {}
                Ok(lost) => log::debug!("{} delayed writes are no longer this process's", lost.len()),
                Err(error) => log::debug!("leases could not be extended: {error}"),
            }
        }
    }
}

/// Reads the figures, once the queue is used.
pub(super) async fn figures(shared: Arc<Shared>, mut stop: StopSignal) {
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(FIGURES) => {}
        }
        if shared.is_used() {
            shared.read_figures(Deadline::after(FIGURES)).await;
        }
    }
}

/// Removes rows that nobody asks for any more. Every worker does, at times of its own; two at once remove other rows.
pub(super) async fn prune(shared: Arc<Shared>, mut stop: StopSignal) {
    // Soon after the start too: a process may live for less than the time between two removals.
    let mut pause = random::jitter(Duration::from_secs(1), 0.9);
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(pause) => {}
        }
        match remove(&shared).await {
            // There may be more; the database gets a rest in between.
            Ok(rows) if rows == ROWS as usize => pause = Duration::from_millis(200),
            Ok(_) => pause = random::jitter(REMOVAL, 0.3),
            Err(error) => {
                log::debug!("old rows of zmsg_done could not be removed: {error}");
                pause = random::jitter(REMOVAL, 0.3);
            }
        }
    }
}

async fn remove(shared: &Shared) -> Result<usize> {
    // A day more than is promised: the clocks of the two servers may differ.
    let days = shared.settings.retention.as_secs().div_ceil(86_400) as i64 + 1;
    let deadline = Deadline::after(shared.settings.task_timeout);
    let removal = sql(REMOVE, &[Value::Int(days), Value::Int(ROWS)])?;
    Ok(shared.store.execute(&removal, deadline).await?.rows.len())
}
