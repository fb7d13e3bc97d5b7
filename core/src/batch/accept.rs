//! Accepting operations: at once where there is room, after a wait where there is none, and in class `journal_fsync`
//! only once they are on the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockReadGuard, watch};

use super::accumulator::{Accepted, Accumulator, NotAccepted};
use super::batch::Digest;
use super::done::Done;
use super::entry::Keys;
use super::flush::Stream;
use super::journal::{Class, Journal, Refused, StreamHeader};
use super::{Batcher, Shared};
use crate::base::{Deadline, service};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Task;

/// What an accepted record got: its number, and its batch to wait for.
#[derive(Clone)]
pub(crate) struct Ticket {
    stream: Stream,
    sequence: u64,
    done: Arc<Done>,
}

impl Ticket {
    /// Names the operation.
    pub(crate) fn op_id(&self) -> String {
        super::dead::op_id(self.stream, self.sequence)
    }

    /// Resolves when the operation is committed, or raises what became of it.
    pub(crate) async fn done(&self) -> Result<()> {
        self.done.wait(self.sequence).await.map_err(|error| error.with_op_id(self.op_id()))
    }
}

/// Held together by all that accept an operation and then cache its value, and by a flush alone while it has Redis look, before
/// its COMMIT and after it, whether the last value is still there: a value whose operation came after that look would be taken for an old one and dropped.
pub(crate) type Gate = RwLock<()>;

/// A value that is to be cached with an operation.
#[derive(Clone, Copy)]
pub(crate) struct ToCache<'g> {
    pub(crate) digest: Digest,
    pub(crate) gate: &'g Gate,
}

/// How far the journal is on the disk, for class `journal_fsync`.
pub(super) struct SyncState {
    durable: watch::Sender<u64>,
    /// Positions whose sync failed: what lies in them may or may not be on the disk.
    failed: Mutex<Option<(u64, Error)>>,
    /// One group at a time.
    syncing: tokio::sync::Mutex<()>,
}

impl Default for SyncState {
    fn default() -> SyncState {
        SyncState {
            durable: watch::Sender::new(0),
            failed: Mutex::new(None),
            syncing: tokio::sync::Mutex::new(()),
        }
    }
}

impl Batcher {
    /// Accepts tasks as one record if that needs no waiting; `None` if it does.
    ///
    /// # Errors
    /// `Overloaded` if the disk refuses, `Task` for a record that no journal takes.
    #[inline]
    pub(crate) fn try_accept(&self, tasks: &[Task], keys: Keys<'_>) -> Result<Option<Ticket>> {
        if self.0.class() == Class::JournalFsync {
            return Ok(None);
        }
        match self.0.accept_now(tasks, keys, None) {
            Ok(ticket) => Ok(Some(ticket)),
            Err(NotAccepted::Memory | NotAccepted::Journal(Refused::Full)) => Ok(None),
            Err(NotAccepted::Journal(refused)) => Err(refusal(refused)),
            Err(NotAccepted::Closed) => Err(Error::closed()),
        }
    }

    /// The same, waiting for room up to `overload_timeout` and, in class `journal_fsync`, for the disk. With a value the
    /// gate is held, until the caller has cached it; never while there is no room, which a flush has to make.
    ///
    /// # Errors
    /// As [`Batcher::try_accept`]; `Overloaded` if there is no room in time. `CommitUnknown` if the disk failed after the
    /// operation was written: it may be applied.
    pub(crate) async fn accept<'g>(
        &self,
        tasks: &[Task],
        keys: Keys<'_>,
        value: Option<ToCache<'g>>,
        deadline: Deadline,
    ) -> Result<(Ticket, Option<RwLockReadGuard<'g, ()>>)> {
        let shared = &self.0;
        let limit = deadline.at_most(shared.settings.overload_timeout);
        let digest = value.map(|value| value.digest);
        let (ticket, held) = loop {
            let room = shared.room.notified();
            tokio::pin!(room);
            // From here on no news of room is missed.
            room.as_mut().enable();
            let held = match value {
                Some(value) => Some(deadline.run("waiting for a flush", value.gate.read()).await?),
                None => None,
            };
            match shared.accept_now(tasks, keys, digest) {
                Ok(ticket) => break (ticket, held),
                Err(NotAccepted::Memory | NotAccepted::Journal(Refused::Full)) => {}
                Err(NotAccepted::Journal(refused)) => return Err(refusal(refused)),
                Err(NotAccepted::Closed) => return Err(Error::closed()),
            }
            drop(held);
            shared.counters.batch_waits.inc();
            shared.want();
            if limit.run("", room).await.is_err() {
                shared.counters.batch_overloads.inc();
                return Err(overloaded(shared));
            }
        };
        if shared.class() == Class::JournalFsync {
            let synced = shared.synced(ticket.sequence, deadline).await;
            synced.map_err(|error| in_doubt(error).with_op_id(ticket.op_id()))?;
        }
        Ok((ticket, held))
    }
}

impl Shared {
    fn accept_now(
        &self,
        tasks: &[Task],
        keys: Keys<'_>,
        digest: Option<Digest>,
    ) -> Result<Ticket, NotAccepted> {
        let mut guard = self.accumulator.lock();
        if self.closed.load(Ordering::Relaxed) {
            return Err(NotAccepted::Closed);
        }
        let accumulator = match &mut *guard {
            Some(accumulator) => accumulator,
            none => none.insert(self.new_accumulator().map_err(NotAccepted::Journal)?),
        };
        let accepted = match accumulator.accept(tasks, keys, digest, &self.clock) {
            // Maybe all that fills it is settled, and no flush will come to let go of it.
            Err(NotAccepted::Journal(Refused::Full)) if self.retire_settled(accumulator) => {
                accumulator.accept(tasks, keys, digest, &self.clock)?
            }
            accepted => accepted?,
        };
        let full = accumulator.bytes() > self.settings.bounds.bytes / 2
            || accumulator.journal.bytes() > self.settings.limits.max_bytes / 2;
        drop(guard);
        let Accepted { sequence, done, rows } = accepted;
        if rows >= self.settings.rows || full {
            self.want();
        }
        Ok(Ticket { stream: self.stream, sequence, done })
    }

    /// Asks for a flush, once until it has begun.
    #[inline]
    pub(super) fn want(&self) {
        if !self.asked.load(Ordering::Relaxed) && !self.asked.swap(true, Ordering::AcqRel) {
            self.wanted.notify_one();
        }
    }

    fn new_accumulator(&self) -> Result<Accumulator, Refused> {
        let header = StreamHeader {
            class: self.class(),
            stream: self.stream,
            database: self.database.get().copied().unwrap_or_default(),
            place: self.settings.fingerprint,
            registered: false,
        };
        let dir = match &*self.lock.lock() {
            Some(lock) => lock.dir().to_owned(),
            None => self.settings.dir.clone(),
        };
        let journal = Journal::create(self.disk.clone(), &dir, header, self.settings.limits);
        Ok(Accumulator::new(journal.map_err(Refused::Io)?, self.settings.bounds))
    }

    /// Waits until a record is on the disk. Whoever comes first syncs for all that came so far; the others wait for it.
    async fn synced(&self, sequence: u64, deadline: Deadline) -> Result<()> {
        let mut durable = self.sync.durable.subscribe();
        let work = async {
            loop {
                if let Some((up_to, error)) = &*self.sync.failed.lock()
                    && sequence <= *up_to
                {
                    return Err(error.clone());
                }
                if *durable.borrow_and_update() >= sequence {
                    return Ok(());
                }
                tokio::select! {
                    _ = durable.changed() => {}
                    group = self.sync.syncing.lock() => {
                        self.sync_group().await;
                        drop(group);
                    }
                }
            }
        };
        deadline.run("waiting for the journal to reach the disk", work).await?
    }

    async fn sync_group(&self) {
        let syncer = self.accumulator.lock().as_ref().map(|it| (it.journal.durable(), it.journal.syncer()));
        let Some((durable, syncer)) = syncer else { return };
        let done = service::blocking(move || syncer.run()).await;
        let mut guard = self.accumulator.lock();
        let Some(accumulator) = guard.as_mut() else { return };
        match done {
            Ok(Ok(done)) => {
                accumulator.journal.synced(done);
                self.sync.durable.send_replace(accumulator.journal.durable());
            }
            Ok(Err(error)) => {
                let up_to = accumulator.journal.sync_failed();
                *self.sync.failed.lock() = Some((up_to, sync_failure(&error)));
                // Wakes the waiters, who look at the failure first.
                self.sync.durable.send_replace(durable);
            }
            Err(error) => log::error!("the journal's sync did not end: {error}"),
        }
    }
}

/// It is in the journal, whatever the disk does: a time that is over does not mean that it will not be applied.
fn in_doubt(error: Error) -> Error {
    if error.kind() != ErrorKind::Timeout {
        return error;
    }
    let message = "the operation is in the journal and did not reach the disk in time; it was not acknowledged, and is applied \
                   unless the machine loses power before it does";
    Error::new(ErrorKind::CommitUnknown, message).with_source(error)
}

fn sync_failure(error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::CommitUnknown,
        format!(
            "the journal could not be brought to the disk ({error}); the operation was not acknowledged, and may be \
             applied all the same"
        ),
    )
}

fn refusal(refused: Refused) -> Error {
    match refused {
        Refused::Io(error) => Error::new(
            ErrorKind::Overloaded,
            format!(
                "the journal of aggregated writes cannot grow, so the operation was not accepted: {error}"
            ),
        ),
        Refused::Forked => Error::new(
            ErrorKind::Closed,
            "this engine belongs to the parent process; a forked child opens its own",
        ),
        Refused::TooLong { bytes, most } => Error::task(format!(
            "the task is too long for the journal: it takes {bytes} bytes, and at most {most} are possible (half of \
             journal_max_bytes, and never more than 1 GiB)"
        )),
        Refused::Full => Error::new(ErrorKind::Overloaded, "the journal is full"),
    }
}

fn overloaded(shared: &Shared) -> Error {
    let journal = shared.accumulator.lock().as_ref().map_or(0, |it| it.journal.bytes());
    Error::new(
        ErrorKind::Overloaded,
        "aggregated writes wait for PostgreSQL, and there is no room for more (batch_max_bytes, journal_max_bytes); the \
         operation was not accepted",
    )
    .with("waited", format!("{:?}", shared.settings.overload_timeout))
    .with("journal_bytes", journal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_over_after_the_append_is_a_doubt_and_a_failed_disk_stays_one() {
        let late = in_doubt(Error::new(ErrorKind::Timeout, "timed out"));
        assert_eq!((late.kind(), late.retryable()), (ErrorKind::CommitUnknown, false));
        let failed = in_doubt(sync_failure(&std::io::Error::other("EIO")));
        assert!(failed.message().contains("EIO"), "{failed}");
    }
}
