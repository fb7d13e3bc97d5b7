//! The end: everything is flushed and the journal removed, or it stays for the next process.

use std::sync::atomic::Ordering;

use super::accumulator::Accumulator;
use super::journal;
use super::{Batcher, Shared, adopt, flush};
use crate::base::crash::crash;
use crate::base::{Deadline, service};
use crate::config::JournalClass;
use crate::error::Result;

impl Batcher {
    /// Flushes what was accepted, within the deadline; no operation is accepted meanwhile. What cannot be flushed stays
    /// in the journal.
    pub(crate) async fn close(&self, deadline: Deadline) {
        let shared = &self.0;
        let flushed = deadline.run("flushing aggregated writes", flush_all(shared)).await;
        match flushed {
            Ok(Ok(())) => match shared.put_away(deadline).await {
                Ok(()) => {}
                Err(error) => {
                    log::warn!("the journal could not be removed; the next process will do it: {error}")
                }
            },
            Ok(Err(error)) | Err(error) => shared.leave(&error),
        }
        drop(shared.lock.lock().take());
    }
}

/// Calls that were let in before the close may accept until the last flush has ended, and not after it.
async fn flush_all(shared: &Shared) -> Result<()> {
    loop {
        while shared.flush_once().await? {}
        if shared.stop_accepting_if(|accumulator| accumulator.active.is_empty()) {
            return Ok(());
        }
    }
}

impl Shared {
    /// Removes the journal, which is wholly applied.
    async fn put_away(&self, deadline: Deadline) -> Result<()> {
        let accumulator = self.accumulator.lock().take();
        let Some(dir) = self.lock.lock().as_ref().map(|lock| lock.dir().to_owned()) else {
            if self.registered.load(Ordering::Acquire) {
                flush::forget(&*self.store, self.stream, deadline).await?;
            }
            return Ok(());
        };
        crash!("close.before_finish");
        let (disk, path) = (self.disk.clone(), dir);
        let renamed = service::blocking(move || match accumulator {
            Some(accumulator) => accumulator.journal.finish(),
            None => journal::finish(&*disk, &path),
        });
        renamed.await?.map_err(|error| super::cannot_write(&self.settings.dir, &error))?;
        crash!("close.after_rename");
        adopt::remove_done(self, Some(self.stream), deadline).await?;
        // A folder that others use is not empty.
        let _ = std::fs::remove_dir(&self.settings.dir);
        Ok(())
    }

    /// Whether PostgreSQL may have a watermark of this journal. Of its own this process knows.
    pub(super) fn has_watermark(&self, stream: flush::Stream) -> bool {
        stream != self.stream || self.registered.load(Ordering::Acquire)
    }

    /// Says that nothing is accepted any more, if that is so; in one moment with looking.
    fn stop_accepting_if(&self, now: impl FnOnce(&Accumulator) -> bool) -> bool {
        let guard = self.accumulator.lock();
        let now = guard.as_ref().is_none_or(now);
        if now {
            self.closed.store(true, Ordering::Relaxed);
        }
        now
    }

    /// Says what was not flushed. Others may take the journal from here on.
    pub(super) fn leave(&self, error: &crate::error::Error) {
        self.stop_accepting_if(|_| true);
        let guard = self.accumulator.lock();
        let Some(accumulator) = guard.as_ref() else { return };
        accumulator.active.done.leave();
        let mut left = accumulator.active.operations;
        if let Some(frozen) = &accumulator.frozen {
            match self.committed.lock().take() {
                // Only the caches could not be told in time; whoever adopts the journal tells them.
                Some((hi, dead)) if hi == frozen.hi => frozen.done.end(dead),
                _ => {
                    left += frozen.operations;
                    frozen.done.leave();
                }
            }
        }
        if left == 0 {
            return;
        }
        match self.settings.class {
            JournalClass::Memory => {
                log::error!(
                    "{left} aggregated writes are lost (journal: memory): they could not be flushed: {error}"
                );
            }
            _ => log::warn!(
                "{left} aggregated writes were not flushed; they are in {} and the next process applies them: {error}",
                self.settings.dir.display()
            ),
        }
    }
}
