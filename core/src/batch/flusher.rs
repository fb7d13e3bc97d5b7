//! When a batch is flushed, and what happens around its COMMIT.
//!
//! ```text
//! waiting ── interval, rows, room wanted, flush() ──▶ freeze ──▶ flush ──▶ caches ──▶ settled ──▶ waiting
//!    ▲                                                 │ failed
//!    ╰──────────── backoff; the same batch ────────────╯
//! ```
//! The watermark of a database that was put back to an earlier state lies below what this process had applied. What is
//! missing then is in the kept segments, and is applied again from there; if it is not, nothing is applied any more and
//! every flush says so. So it is if the watermark is gone, unless the database draws lower numbers than it did: a row that
//! somebody deleted does not mean that the data are gone too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::accumulator::Accumulator;
use super::batch::{Batch, Digest};
use super::flush::{self, Applied, Flight, FlushReport, Stream, Trouble};
use super::journal::LoadedSegment;
use super::records::Log;
use super::{Batcher, Shared};
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::base::crash::crash;
use crate::base::service::{Services, StopSignal};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ChangedKey, Cover};

/// How often the time of a try is doubled: from half a minute to an hour.
const MOST_DOUBLINGS: u32 = 7;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Somebody who called `flush`.
pub(super) struct Waiter {
    /// The last record that it waits for.
    target: u64,
    report: FlushReport,
    tell: oneshot::Sender<Result<FlushReport>>,
}

impl Batcher {
    /// Starts the flusher and the adopter.
    pub(crate) fn start(&self, services: &Services) {
        let shared = self.0.clone();
        services.start(move |stop| run(shared, stop));
        if self.0.settings.class != crate::config::JournalClass::Memory {
            let shared = self.0.clone();
            services.start(move |stop| super::adopt::run(shared, stop));
        }
    }

    /// Flushes everything that was accepted so far.
    ///
    /// # Errors
    /// Why the first try failed; the operations stay, and further tries follow in the background. `Timeout`.
    pub(crate) async fn flush(&self, deadline: Deadline) -> Result<FlushReport> {
        let (tell, told) = oneshot::channel();
        {
            let guard = self.0.accumulator.lock();
            let Some(accumulator) = guard.as_ref() else { return Ok(FlushReport::default()) };
            if accumulator.active.is_empty() && accumulator.frozen.is_none() {
                return Ok(FlushReport::default());
            }
            let target = accumulator.active.hi;
            self.0.waiters.lock().push(Waiter { target, report: FlushReport::default(), tell });
        }
        self.0.wanted.notify_one();
        deadline.run("flushing aggregated writes", told).await?.map_err(|_| Error::closed())?
    }
}

async fn run(shared: Arc<Shared>, mut stop: StopSignal) {
    let mut backoff = new_backoff();
    let (mut pause, mut failed) = (shared.settings.interval, false);
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            () = shared.rest(pause, failed) => {}
        }
        shared.asked.store(false, Ordering::Release);
        (pause, failed) = loop {
            // A try runs to its end: a batch that is on its way is not left in the middle.
            match shared.flush_once().await {
                Ok(true) if shared.is_more_wanted() => {}
                Ok(_) => {
                    backoff = new_backoff();
                    break (shared.settings.interval, false);
                }
                Err(_) => break (backoff.next_delay().max(Duration::from_millis(10)), true),
            }
        };
    }
}

fn new_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), LONGEST_PAUSE)
}

/// The segments of this process.
pub(super) struct LiveLog<'a>(pub &'a Shared);

impl Log for LiveLog<'_> {
    /// A copy: whoever accepts operations waits no longer than that takes.
    fn load(&self, after: u64) -> Result<Option<LoadedSegment>> {
        Ok(self.0.accumulator.lock().as_ref().and_then(|it| it.journal.load(after)))
    }
}

impl Shared {
    /// Waits until the next flush. After a failure only somebody who called `flush` cuts that short: rows and callers
    /// without room come by the thousand while PostgreSQL is away.
    async fn rest(&self, pause: Duration, failed: bool) {
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = self.wanted.notified() => {
                    if !failed || !self.waiters.lock().is_empty() {
                        return;
                    }
                }
            }
        }
    }

    /// The time of the next try. A batch that took too long gets twice as much each time: it will not become smaller.
    fn patience(&self) -> Duration {
        let doublings = self.late.load(Ordering::Relaxed).min(MOST_DOUBLINGS);
        self.settings.flush_timeout.saturating_mul(1 << doublings)
    }

    /// Whether another flush follows at once.
    fn is_more_wanted(&self) -> bool {
        let guard = self.accumulator.lock();
        let Some(accumulator) = guard.as_ref() else { return false };
        let rows = accumulator.active.rows >= self.settings.rows;
        let awaited = self.waiters.lock().iter().any(|waiter| waiter.target > accumulator.active.lo);
        !accumulator.active.is_empty() && (rows || awaited)
    }

    /// Flushes the frozen batch, or freezes one. `false` if there is nothing.
    ///
    /// # Errors
    /// Why it failed; whoever waits for it was told.
    pub(super) async fn flush_once(&self) -> Result<bool> {
        let _one = self.flushing.lock().await;
        let batch = {
            let mut guard = self.accumulator.lock();
            let Some(accumulator) = guard.as_mut() else { return Ok(false) };
            accumulator.frozen.clone().or_else(|| accumulator.freeze())
        };
        let Some(batch) = batch else { return Ok(false) };
        let began = self.clock.mono_ns();
        match self.apply(&batch).await {
            Ok(mut applied) => {
                applied.report.duration_ms = (self.clock.mono_ns() - began) as f64 / 1e6;
                self.finish(batch, applied).await;
                Ok(true)
            }
            Err(error) => {
                if error.kind() == ErrorKind::Timeout {
                    self.late.fetch_add(1, Ordering::Relaxed);
                }
                self.counters.flush_failures.inc();
                let level = match self.failed.fetch_add(1, Ordering::Relaxed) {
                    0 => log::Level::Warn,
                    // As often as the try is repeated, which is every few seconds.
                    _ => log::Level::Debug,
                };
                log::log!(level, "aggregated writes could not be flushed and stay in the journal: {error}");
                for waiter in self.waiters.lock().drain(..) {
                    let _ = waiter.tell.send(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied> {
        let deadline = Deadline::after(self.patience());
        self.register(deadline).await?;
        let log = LiveLog(self);
        loop {
            match self.fly(self.stream, batch, &log, deadline).await {
                Ok(applied) => return Ok(applied),
                Err(Trouble::Again(error)) => return Err(error),
                Err(Trouble::Astray { at }) => self.catch_up(at, batch.lo, deadline).await?,
            }
        }
    }

    /// One try to apply a batch of a stream, in the light of the earlier ones.
    pub(super) async fn fly(
        &self,
        stream: Stream,
        batch: &Batch,
        log: &dyn Log,
        deadline: Deadline,
    ) -> Result<Applied, Trouble> {
        let gives_up = self.stuck.gives_up(stream, batch.lo, self.clock.mono_ms());
        let (hooks, keys) = (&*self.hooks, &batch.keys_changed());
        let flight = Flight { store: &*self.store, stream, batch, hooks, keys, gives_up, deadline };
        let flown = flush::flush(flight, &self.tables, log).await;
        match &flown {
            Err(Trouble::Again(error)) => self.stuck.failed(stream, batch.lo, error, self.clock.mono_ms()),
            Err(Trouble::Astray { .. }) => {}
            Ok(_) => self.stuck.passed(stream),
        }
        flown
    }

    /// After the COMMIT: caches, then the journal, then whoever waits.
    async fn finish(&self, batch: Arc<Batch>, applied: Applied) {
        let Applied { report, dead, version, missed, cover } = applied;
        self.late.store(0, Ordering::Relaxed);
        match self.failed.swap(0, Ordering::Relaxed) {
            0 => {}
            tries => log::info!("aggregated writes are flushed again, after {tries} failures"),
        }
        self.last_version.fetch_max(version, Ordering::Relaxed);
        if report.dead > 0
            && let Some(accumulator) = self.accumulator.lock().as_mut()
        {
            accumulator.distrust_frozen();
        }
        *self.committed.lock() = Some((batch.hi, dead));
        self.tell_caches(&batch, cover).await;
        crash!("flush.after_invalidation");
        let hi = batch.hi;
        {
            let mut guard = self.accumulator.lock();
            if let Some(accumulator) = guard.as_mut() {
                accumulator.settle(hi);
                crash!("journal.before_retire");
                self.retire(accumulator, hi);
            }
        }
        self.count(&report);
        self.complain_of(missed);
        if let Some((_, dead)) = self.committed.lock().take() {
            batch.done.end(dead);
        }
        self.tell_waiters(hi, &report);
        self.room.notify_waiters();
    }

    /// Drops what a batch changed from the caches, unless they hold what was accepted last.
    pub(super) async fn tell_caches(&self, batch: &Batch, cover: Option<Box<dyn Cover>>) {
        if let Some(cover) = cover {
            return cover.committed().await;
        }
        self.hooks.committed(batch.keys_changed().into_iter().map(ChangedKey::from).collect()).await;
    }

    /// For each key the digest of the value that came with the last operation that is not settled yet.
    pub(super) fn last_values(&self, keys: &[Arc<str>]) -> Vec<Option<Digest>> {
        match self.accumulator.lock().as_ref() {
            Some(accumulator) => keys.iter().map(|key| accumulator.last_value(key)).collect(),
            None => vec![None; keys.len()],
        }
    }

    /// Says of which tables rows were missing.
    pub(super) fn complain_of(&self, missed: BTreeMap<String, u64>) {
        for (table, rows) in missed {
            self.complain(table, |table| {
                format!(
                    "{rows} aggregated changes of {table} found no row and are lost, as an UPDATE of a missing row is; \
                     or_insert makes the row (told once for each table)"
                )
            });
        }
    }

    /// Lets go of segments that were settled `journal_retain` ago; at once if the journal is half full.
    fn retire(&self, accumulator: &mut Accumulator, hi: u64) {
        let now = self.clock.mono_ms();
        let mut kept = self.kept.lock();
        kept.push_back((hi, now));
        let crowded = accumulator.journal.bytes() > self.settings.limits.max_bytes / 2;
        let mut up_to = 0;
        while let Some((settled, at)) = kept.front().copied()
            && (crowded || now.saturating_sub(at) >= self.settings.retain_ms)
        {
            up_to = settled;
            kept.pop_front();
        }
        if let Err(error) = accumulator.journal.retire(up_to) {
            log::warn!("an applied segment of the journal could not be removed, trying again later: {error}");
        }
    }

    /// Lets go of all that is settled, now; whether that freed anything.
    pub(super) fn retire_settled(&self, accumulator: &mut Accumulator) -> bool {
        let mut kept = self.kept.lock();
        let before = accumulator.journal.bytes();
        if let Some((up_to, _)) = kept.back().copied() {
            match accumulator.journal.retire(up_to) {
                Ok(()) => kept.clear(),
                Err(error) => {
                    log::warn!(
                        "an applied segment of the journal could not be removed, trying again later: {error}"
                    );
                }
            }
        }
        accumulator.journal.bytes() < before
    }

    pub(super) fn count(&self, report: &FlushReport) {
        let counters = &self.counters;
        counters.flushes.inc();
        counters.batch_operations.add(report.operations);
        counters.batch_rows.add(report.rows);
        counters.batch_statements.add(report.statements);
        counters.zero_row_updates.add(report.zero_row_updates);
        counters.batch_dead.add(report.dead);
        counters.flush_ms.add(report.duration_ms as u64);
        self.last_flush_ms.store(report.duration_ms as u64, Ordering::Relaxed);
    }

    fn tell_waiters(&self, hi: u64, report: &FlushReport) {
        let mut waiters = self.waiters.lock();
        waiters.iter_mut().for_each(|waiter| waiter.report.add(report));
        for waiter in waiters.extract_if(.., |waiter| waiter.target <= hi) {
            let _ = waiter.tell.send(Ok(waiter.report));
        }
    }
}
