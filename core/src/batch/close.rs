//! The end: everything is flushed and the journal removed, or it stays for the next process.

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

async fn flush_all(shared: &Shared) -> Result<()> {
    while shared.flush_once().await? {}
    Ok(())
}

impl Shared {
    /// Removes the journal, which is wholly applied.
    async fn put_away(&self, deadline: Deadline) -> Result<()> {
        let accumulator = self.accumulator.lock().take();
        let Some(dir) = self.lock.lock().as_ref().map(|lock| lock.dir().to_owned()) else { return Ok(()) };
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
        stream != self.stream || self.registered.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Says what was not flushed.
    fn leave(&self, error: &crate::error::Error) {
        let guard = self.accumulator.lock();
        let Some(accumulator) = guard.as_ref() else { return };
        let frozen = accumulator.frozen.as_ref();
        let left = accumulator.active.operations + frozen.map_or(0, |batch| batch.operations);
        accumulator.active.done.leave();
        frozen.iter().for_each(|batch| batch.done.leave());
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
