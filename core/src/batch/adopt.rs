//! Journals whose owner is gone: at start and every few seconds, any process that shares their folder applies what lies
//! above their watermark.
//!
//! ```text
//! nobody holds it ─▶ locked ─▶ read ─▶ what is above the watermark, in pieces ─▶ .done ─▶ watermark deleted ─▶ gone
//!                                ├─ of another database ─▶ left alone
//!                                ╰─ damaged ─▶ left alone, said once, counted
//! ```
//! Two adopters are safe: the lock lets one in, and a batch moves the watermark only from where it begins. The folder is
//! renamed before the watermark's row is deleted: a journal without a row begins at zero, and must not be found again. It is
//! removed after that, so that a row whose process dies in between is still known of.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::flush::{self, Stream, read_watermark, register};
use super::journal::{self, End, LoadedSegment, Recovered, StreamHeader, StreamLock};
use super::rebuild::{rebuild, settled};
use super::records::{Log, is_unreadable};
use super::row::owner;
use super::{Shared, pieces};
use crate::base::Deadline;
use crate::base::crash::crash;
use crate::base::service::{self, StopSignal};
use crate::error::{Error, ErrorKind, Result};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(3);

/// Looks now and then.
pub(super) async fn run(shared: Arc<Shared>, mut stop: StopSignal) {
    loop {
        let looking = look(&shared);
        tokio::select! {
            () = stop.stopped() => return,
            () = looking => {}
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(shared: &Arc<Shared>) {
    // Until PostgreSQL was reached nobody knows whose journals these are.
    if shared.database.get().is_none() {
        return;
    }
    let dir = shared.settings.dir.clone();
    let disk = shared.disk.clone();
    if let Err(error) = remove_done(shared, None, Deadline::after(shared.settings.flush_timeout)).await {
        log::debug!("what is left of applied journals could not be removed, trying again: {error}");
    }
    let found = service::blocking(move || journal::orphans(&*disk, &dir));
    let found: Vec<PathBuf> = match found.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return log::debug!("the folder of journals could not be read: {error}"),
        Err(error) => return log::debug!("the folder of journals could not be read: {error}"),
    };
    for dir in found {
        match adopt(shared, &dir).await {
            Ok(Outcome::Applied(records)) => {
                shared.counters.journals_adopted.inc();
                log::info!("applied {records} records of a journal whose process is gone: {}", dir.display());
            }
            Ok(Outcome::Held) => {}
            Ok(Outcome::Refused(why)) => {
                shared.complain(dir.display().to_string(), |dir| {
                    shared.counters.journals_refused.inc();
                    format!("the journal {dir} is left as it is: {why}")
                });
            }
            Err(error) => {
                // Each journal would say so every few seconds while PostgreSQL is away.
                shared.complain("an adoption failed".to_owned(), |_| {
                    format!("the journal {} could not be applied, trying again: {error}", dir.display())
                });
                log::debug!("the journal {} could not be applied, trying again: {error}", dir.display());
            }
        }
    }
}

/// What became of a journal.
enum Outcome {
    /// It is gone; so many records were read.
    Applied(u64),
    /// Somebody else has it.
    Held,
    Refused(String),
}

/// A stream that was read from the disk.
struct Adopted(Recovered);

impl Log for Adopted {
    fn load(&self, after: u64) -> Result<Option<LoadedSegment>> {
        self.0.load(after).map_err(|error| unreadable(&error))
    }
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Store, format!("a journal cannot be read: {error}")).with_retryable(true)
}

async fn adopt(shared: &Arc<Shared>, dir: &Path) -> Result<Outcome> {
    let (disk, path) = (shared.disk.clone(), dir.to_owned());
    let read = service::blocking(move || -> std::io::Result<Option<(StreamLock, Recovered)>> {
        let Some(lock) = StreamLock::try_take(&path)? else { return Ok(None) };
        Ok(Some((lock, journal::recover(disk, &path)?)))
    });
    let Some((lock, recovered)) = read.await?.map_err(|error| unreadable(&error))? else {
        return Ok(Outcome::Held);
    };
    let Some(header) = recovered.header else {
        if recovered.end != End::Clean {
            return Ok(Outcome::Refused("no header of it can be read".to_owned()));
        }
        // Its process ended before it accepted anything.
        put_away(shared, dir).await?;
        drop(lock);
        return Ok(Outcome::Applied(0));
    };
    if let Some(why) = refusal(shared, &header, &recovered) {
        return Ok(Outcome::Refused(why));
    }
    let deadline = || Deadline::after(shared.settings.flush_timeout);
    let at = match read_watermark(&*shared.store, header.stream, deadline()).await? {
        Some(at) => at,
        None if recovered.first == 1 && !header.registered => {
            // Never flushed: all of it is here, and nothing of it in the database.
            register(&*shared.store, header.stream, &owner(), deadline()).await?;
            0
        }
        None => {
            // Deleted, or the database was put back to a time before. Nobody here knows what is applied.
            return Ok(Outcome::Refused(format!(
                "PostgreSQL had a watermark for it in zmsg_journals, and has none now; it holds the records from {} to {}. \
                 Insert the row with the number of the last record that is applied (0 for none), or remove the journal",
                recovered.first, recovered.last
            )));
        }
    };
    if at + 1 < recovered.first {
        let why =
            format!("the watermark is {at}, and it begins at {}: what lies between is gone", recovered.first);
        return Ok(Outcome::Refused(why));
    }
    let (last, records) = (recovered.last, recovered.last.saturating_sub(at));
    let log = Adopted(recovered);
    crash!("adopt.before_apply");
    match replay(shared, &log, header.stream, at, last).await {
        // Reading it again would change nothing.
        Err(error) if is_unreadable(&error) => return Ok(Outcome::Refused(error.message().to_owned())),
        replayed => replayed?,
    }
    crash!("adopt.after_apply");
    put_away(shared, dir).await?;
    drop(lock);
    Ok(Outcome::Applied(records))
}

fn refusal(shared: &Shared, header: &StreamHeader, recovered: &Recovered) -> Option<String> {
    if !is_ours(shared, header, shared.database.get().copied()) {
        return Some("it is of another database".to_owned());
    }
    match recovered.end {
        End::Clean => None,
        End::Torn { after } => {
            log::info!(
                "the last record of a journal was cut: its process ended while writing what follows {after}"
            );
            None
        }
        End::Damaged { first, last } => {
            let last = last.map_or("the end".to_owned(), |last| last.to_string());
            Some(format!("it is damaged: records {first} to {last} cannot be read"))
        }
    }
}

/// Where one of the two does not know its database yet, they are compared by where it is to be found.
fn is_ours(shared: &Shared, header: &StreamHeader, database: Option<[u8; 16]>) -> bool {
    match database.filter(|_| header.database != [0; 16]) {
        Some(database) => header.database == database,
        None => header.place == shared.settings.fingerprint,
    }
}

async fn replay(shared: &Shared, log: &Adopted, stream: Stream, at: u64, last: u64) -> Result<()> {
    drop_unsettled(shared, log, at).await?;
    pieces::apply(shared, log, stream, at, last).await
}

/// The owner may have ended between its last COMMIT and telling the caches.
async fn drop_unsettled(shared: &Shared, log: &Adopted, at: u64) -> Result<()> {
    let begin = log.0.first.saturating_sub(1);
    if at <= begin {
        return Ok(());
    }
    let settled = settled(log, begin)?;
    if settled < at {
        let rebuilt = rebuild(log, settled, at, &HashSet::new(), &[])?;
        shared.tell_caches(&rebuilt, None).await;
    }
    Ok(())
}

/// Removes a journal that is wholly applied.
async fn put_away(shared: &Shared, dir: &Path) -> Result<()> {
    let (disk, path) = (shared.disk.clone(), dir.to_owned());
    service::blocking(move || journal::finish(&*disk, &path)).await?.map_err(|error| unreadable(&error))?;
    remove_done(shared, None, Deadline::after(shared.settings.flush_timeout)).await
}

/// Deletes the watermarks of finished journals, or of this one alone, and then what is left of them.
pub(super) async fn remove_done(
    shared: &Shared,
    only: Option<flush::Stream>,
    deadline: Deadline,
) -> Result<()> {
    let (disk, dir) = (shared.disk.clone(), shared.settings.dir.clone());
    let found = service::blocking(move || journal::done(&*disk, &dir));
    for stream in found.await?.map_err(|error| unreadable(&error))? {
        if only.is_some_and(|only| only != stream) {
            continue;
        }
        if shared.has_watermark(stream) {
            flush::forget(&*shared.store, stream, deadline).await?;
        }
        let (disk, dir) = (shared.disk.clone(), shared.settings.dir.clone());
        let removed = service::blocking(move || journal::remove_done(&*disk, &dir, stream));
        removed.await?.map_err(|error| unreadable(&error))?;
    }
    Ok(())
}

/// An error if the folder holds journals of another database.
pub(super) fn refuse_foreign(shared: &Shared, database: Option<[u8; 16]>) -> Result<()> {
    if shared.settings.class == crate::config::JournalClass::Memory {
        return Ok(());
    }
    let dir = &shared.settings.dir;
    let headers = journal::headers(&*shared.disk, dir).map_err(|error| super::cannot_write(dir, &error))?;
    let foreign = headers.into_iter().find(|(_, header)| !is_ours(shared, header, database));
    match foreign {
        None => Ok(()),
        Some((stream, _)) => Err(Error::config(format!(
            "the folder of journals, {}, holds one that was accepted for another database: {}. A database that was made \
             anew, restored from a dump or copied is another one. Give each database a journal_dir of its own, or remove \
             that journal if what it holds may be lost",
            dir.display(),
            stream.display()
        ))),
    }
}
