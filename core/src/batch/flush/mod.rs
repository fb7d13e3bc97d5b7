//! From a frozen batch to rows: one transaction that moves the watermark and changes everything, or nothing.
//!
//! ```text
//!              ╭─ refused ─▶ careful ─╮
//! plan ─▶ apply ─┬─ COMMIT seen ──────┴─────▶ applied
//!                ├─ answer lost ─▶ watermark ─ at hi ─▶ applied
//!                │                          ╰─ at lo ─▶ again, the same batch
//!                ├─ entangled ─▶ the table's operations in order ─▶ apply
//!                ╰─ connection, conflict, time ─▶ again, the same batch
//! ```
//! Invariants:
//! - Applied is exactly what lies at or below the watermark: the statement that moves it raises in the server unless it
//!   is where the batch begins, and everything else is in its transaction.
//! - Two flushes that change the same rows lock them in one order: rows by the bytes of their keys, tables by name. What
//!   still meets in another order is a deadlock that PostgreSQL resolves and that is run again.
//! - An operation is applied or a dead letter, in the transaction that moves past it.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{KeyHooks, Store};

use super::batch::Batch;
use super::dead::refused;
use super::rebuild::rebuild;
use super::records::Log;
use apply::Failure;
use plan::Plan;

mod applied;
mod apply;
mod careful;
mod plan;
mod replay;
mod tables;
mod watermark;

pub(super) use applied::Applied;
pub use applied::FlushReport;
use applied::{Missed, positions};
pub(super) use tables::Tables;
pub(crate) use watermark::Stream;
pub(super) use watermark::{forget, last_version, read as read_watermark, register};

/// One try to apply a batch.
#[derive(Clone, Copy)]
pub(super) struct Flight<'a> {
    pub store: &'a dyn Store,
    pub stream: Stream,
    pub batch: &'a Batch,
    /// What has to know of the batch's keys before its COMMIT.
    pub hooks: &'a dyn KeyHooks,
    /// These, also where the batch is taken apart.
    pub keys: &'a [Arc<str>],
    /// Whether errors that usually pass count as refusals: see [`Stuck`](super::stuck::Stuck).
    pub gives_up: bool,
    pub deadline: Deadline,
}

/// Why a batch was not applied.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// It may pass later; the batch stays as it is.
    Again(Error),
    /// The watermark is neither where the batch begins nor where it ends.
    Astray {
        /// Where it is; `None` if there is no row.
        at: Option<u64>,
    },
}

/// Applies a batch, whatever it takes within the deadline.
pub(super) async fn flush(flight: Flight<'_>, tables: &Tables, log: &dyn Log) -> Result<Applied, Trouble> {
    // Read anew by each flush: an ALTER TABLE of somebody else tells this process nothing.
    tables.forget();
    let mut in_order: Vec<Box<str>> = Vec::new();
    let mut rebuilt: Option<Arc<Batch>> = None;
    let mut conflicts =
        Backoff::new(std::time::Duration::from_millis(5), std::time::Duration::from_millis(500));
    loop {
        let again = rebuilt.clone();
        let flight = Flight { batch: again.as_deref().unwrap_or(flight.batch), ..flight };
        match once(&flight, tables, log).await {
            Ok(applied) => return Ok(applied),
            Err(Failure::Moved) => return moved(&flight).await,
            Err(Failure::Unknown(error, applied)) => return resolve(&flight, error, *applied).await,
            Err(Failure::Entangled(table)) => {
                in_order.push(table);
                let (lo, hi) = (flight.batch.lo, flight.batch.hi);
                let ordered = rebuild(log, lo, hi, &HashSet::new(), &in_order).map_err(Trouble::Again)?;
                rebuilt = Some(Arc::new(ordered));
            }
            Err(Failure::Refused(error)) => return Err(Trouble::Again(error)),
            Err(Failure::Again(error)) if is_conflict(&error) && conflicts.tries() < MOST_CONFLICTS => {
                let pause = tokio::time::sleep(conflicts.next_delay());
                flight.deadline.run("before running a batch again", pause).await.map_err(Trouble::Again)?;
            }
            Err(Failure::Again(error)) => return Err(Trouble::Again(error)),
        }
    }
}

/// Deadlocks and serialization failures in a row; then the flusher backs off for longer.
const MOST_CONFLICTS: u32 = 10;

fn is_conflict(error: &Error) -> bool {
    matches!(error.sqlstate(), Some("40P01" | "40001" | "0A000" | "26000" | "42P05"))
}

async fn once(flight: &Flight<'_>, tables: &Tables, log: &dyn Log) -> Result<Applied, Failure> {
    flight.hooks.prepare(flight.keys, flight.deadline).await.map_err(Failure::Again)?;
    if flight.gives_up {
        return careful::apply(flight, tables, log).await;
    }
    let plan = Plan::of(flight.batch, tables, flight.store, flight.deadline).await.map_err(Failure::Again)?;
    match apply::apply(flight, &plan, log).await {
        Err(Failure::Refused(error)) => {
            log::debug!("a batch was refused and is taken apart: {error}");
            // The schema may have changed since the catalogue was read.
            tables.forget();
            careful::apply(flight, tables, log).await
        }
        other => other,
    }
}

/// The watermark was not where the batch begins: an earlier COMMIT whose answer was lost, or something worse.
async fn moved(flight: &Flight<'_>) -> Result<Applied, Trouble> {
    let at = read_watermark(flight.store, flight.stream, flight.deadline).await.map_err(Trouble::Again)?;
    match at {
        Some(at) if at == flight.batch.hi => {
            let mut applied = Applied::new(flight.batch);
            let range = (flight.batch.lo, flight.batch.hi);
            let refused = refused(flight.store, flight.stream, range, flight.deadline).await;
            applied.dead = refused.map_err(Trouble::Again)?;
            applied.report.dead = applied.dead.len() as u64;
            // What the caches are told must not look older than what that try committed. How many rows it found and
            // how many statements it took nobody remembers: the report counts none.
            let version = last_version(flight.store, flight.deadline).await;
            applied.version = version.map_err(Trouble::Again)?;
            Ok(applied)
        }
        Some(at) if at == flight.batch.lo => {
            let message = "a batch was refused because its watermark was somewhere else, and now it is not";
            Err(Trouble::Again(Error::new(ErrorKind::Store, message).with_retryable(true)))
        }
        at => Err(Trouble::Astray { at }),
    }
}

/// The answer to COMMIT was lost: the watermark says whether it took effect. A transaction that is still at work holds
/// the watermark's row, so that the same batch, sent again, waits for it.
async fn resolve(flight: &Flight<'_>, error: Error, applied: Applied) -> Result<Applied, Trouble> {
    let at = match read_watermark(flight.store, flight.stream, flight.deadline).await {
        Ok(at) => at,
        Err(_) => return Err(Trouble::Again(error)),
    };
    match at {
        Some(at) if at == flight.batch.hi => Ok(applied),
        Some(at) if at == flight.batch.lo => Err(Trouble::Again(error)),
        at => Err(Trouble::Astray { at }),
    }
}
