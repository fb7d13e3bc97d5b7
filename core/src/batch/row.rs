//! This journal's row in PostgreSQL: made with the first flush, found at another place than this process left it.
//!
//! ```text
//! watermark < lo, or no row ─┬─ the database was put back, and the kept segments have the rest ─▶ applied again
//!                            ├─ no row, nothing flushed yet ─▶ made again
//!                            ╰─ anything else ─▶ every flush fails and says so
//! ```

use std::sync::atomic::Ordering;

use super::flush::{last_version, register};
use super::flusher::LiveLog;
use super::{Shared, pieces};
use crate::base::{Deadline, random};
use crate::error::{Error, ErrorKind, Result};
use crate::store::identity::identity;

impl Shared {
    /// Makes this journal's watermark, once.
    pub(super) async fn register(&self, deadline: Deadline) -> Result<()> {
        if self.registered.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(database) = self.database.get() else {
            let message = "PostgreSQL was not reached yet, so nobody knows which database it is";
            return Err(Error::new(ErrorKind::Store, message).with_retryable(true));
        };
        register(&*self.store, self.stream, &owner(), deadline).await?;
        if let Some(accumulator) = self.accumulator.lock().as_mut() {
            let noted = accumulator.journal.set_database(*database);
            noted.and_then(|()| accumulator.journal.set_registered()).map_err(|error| {
                Error::new(ErrorKind::Store, "the journal could not be marked").with_source(error)
            })?;
        }
        self.registered.store(true, Ordering::Release);
        Ok(())
    }

    /// The watermark is not where this process left it. Applies again what lies between.
    pub(super) async fn catch_up(&self, at: Option<u64>, lo: u64, deadline: Deadline) -> Result<()> {
        let put_back = self.was_put_back(deadline).await?;
        if at.is_none() && lo == 0 {
            // Its row went away before anything was applied.
            return register(&*self.store, self.stream, &owner(), deadline).await;
        }
        let first = self.accumulator.lock().as_ref().map_or(u64::MAX, |it| it.journal.first());
        let from = at.unwrap_or(0);
        // A row that somebody deleted says nothing of what is applied.
        if from >= lo || first > from + 1 || (at.is_none() && !put_back) {
            return Err(self.astray(at, lo, first));
        }
        log::warn!(
            "the database was put back to an earlier state: its watermark is at {from}, this process had applied up to \
             {lo}; applying the difference again from the journal"
        );
        if at.is_none() {
            register(&*self.store, self.stream, &owner(), deadline).await?;
        }
        let log = LiveLog(self);
        pieces::apply(self, &log, self.stream, from, lo).await
    }

    /// Whether the database is certainly in an earlier state than this process has seen it in: then it draws lower numbers
    /// for its transactions. An error if it is another database by now.
    async fn was_put_back(&self, deadline: Deadline) -> Result<bool> {
        if self.database.get() != Some(&identity(&*self.store, deadline).await?) {
            let message = "the database is not the one that this engine was opened with, but a copy or another one; nothing \
                           of the journal is applied to it";
            return Err(Error::new(ErrorKind::Store, message));
        }
        Ok(last_version(&*self.store, deadline).await? < self.last_version.load(Ordering::Relaxed))
    }

    fn astray(&self, at: Option<u64>, lo: u64, first: u64) -> Error {
        let at = at.map_or("missing".to_owned(), |at| at.to_string());
        Error::new(
            ErrorKind::Store,
            format!(
                "the watermark of this process's journal is {at} in PostgreSQL and {lo} here, and the journal begins at \
                 {first}: what lies between cannot be applied again. Nothing is applied until the row of zmsg_journals is \
                 put right"
            ),
        )
        .with("stream", format!("{:032x}", u128::from_be_bytes(self.stream)))
    }
}

/// Who made a journal, for people who look at `zmsg_journals`.
pub(super) fn owner() -> String {
    format!("pid {} ({:08x})", std::process::id(), random::word() as u32)
}
