//! Applies records that are read from a journal, a piece at a time: how many there are is bounded by the journal alone.

use std::collections::HashSet;

use super::Shared;
use super::flush::{Stream, Trouble};
use super::rebuild::{rebuild, rebuild_piece};
use super::records::Log;
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// Records of one piece.
const RECORDS: u64 = 200_000;
/// How much of `batch_max_bytes` a piece may have.
const SHARE: usize = 4;
/// How many times the usual time of a flush a piece has.
const PATIENCE: u32 = 20;

/// Applies the records in (at, last] of a stream whose watermark is at `at`, and tells the caches.
pub(super) async fn apply(
    shared: &Shared,
    log: &dyn Log,
    stream: Stream,
    mut at: u64,
    last: u64,
) -> Result<()> {
    while at < last {
        let most_bytes = shared.settings.bounds.bytes / SHARE;
        let piece = rebuild_piece(log, at, last.min(at + RECORDS), most_bytes)?;
        // Nobody waits for it, and a piece does not become smaller when it is tried again.
        let deadline = Deadline::after(shared.settings.flush_timeout.saturating_mul(PATIENCE));
        at = match shared.fly(stream, &piece, log, deadline).await {
            Ok(applied) => {
                shared.tell_caches(&piece, applied.cover).await;
                shared.count(&applied.report);
                shared.complain_of(applied.missed);
                piece.hi
            }
            Err(Trouble::Again(error)) => return Err(error),
            // A batch of the owner's was still on its way and has arrived.
            Err(Trouble::Astray { at: Some(now) }) if now > at && now <= last => {
                let arrived = rebuild(log, at, now, &HashSet::new(), &[])?;
                shared.tell_caches(&arrived, None).await;
                now
            }
            Err(Trouble::Astray { .. }) => {
                let message = "the watermark of a journal moved while it was applied by somebody else";
                return Err(Error::new(ErrorKind::Store, message).with_retryable(true));
            }
        };
    }
    Ok(())
}
