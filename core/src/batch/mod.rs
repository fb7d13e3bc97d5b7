//! Aggregation: operations on cells are acknowledged once they are in this process's journal, composed in memory, and
//! applied in batches. Five hundred likes become one row of one statement.
//!
//! ```text
//! accept ─▶ journal ─▶ composed (active batch) ─ freeze ─▶ frozen batch ─ flush ─▶ PostgreSQL ─▶ caches ─▶ settled
//!   │  by interval, distinct rows, flush(), close()         ╰ fails: the same batch again     │
//!   ╰ no room: wait, then OverloadedError                    killed anywhere: adopted by another process
//! ```
//! May use `store`, `sql`, `ops`, `config`, `value`, `base`, `sys`, `telemetry`, `error`. It knows no cache: what a
//! commit does to the caches is a [`KeyHooks`](crate::store::KeyHooks) that the engine plugs in.
//!
//! | file | what it knows |
//! |---|---|
//! | `accept` | how an operation comes in, and what waits for room |
//! | `journal/`, `place` | opaque records on disk, and in which folder |
//! | `entry`, `records`, `rebuild` | what a record says, and a batch from records |
//! | `accumulator`, `batch`, `route`, `domain` | what composes with what |
//! | `flush/` | from a batch to rows, exactly once |
//! | `flusher`, `adopt`, `close`, `pieces` | when: the services |
//! | `stuck` | when a statement that fails each time counts as refused |
//! | `done` | who waits for an operation's end |
//! | `row` | this journal's row in PostgreSQL |
//! | `pending` | a cell as it will be |
//! | `refusals`, `dead` | what the database refused: while it matters here, and as letters |
//!
//! Invariants:
//! - What is acknowledged is in the journal; what is applied is exactly what lies at or below the watermark.
//! - A batch is exactly what lies between two positions of the journal: append and compose are under one lock.
//! - One batch at a time is on its way; it is sent again until its fate is known.
//! - Per cell the row ends as if its operations had run alone, in order, for operations none of which fails by itself.
//! - The journal and what is composed have bounds; at a bound callers wait and are then told. Nothing is dropped. What is
//!   replayed from the journal is read a piece at a time.

mod accept;
mod accumulator;
mod adopt;
#[allow(clippy::module_inception, reason = "the batch of the room called batch")]
mod batch;
mod close;
mod dead;
mod domain;
mod done;
mod entry;
mod flush;
mod flusher;
mod journal;
mod pending;
mod pieces;
mod place;
mod rebuild;
mod records;
mod refusals;
mod route;
mod row;
mod stuck;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::base::{Clock, random};
use crate::config::{Config, JournalClass};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{KeyHooks, Store};
use crate::telemetry::Counters;
use accumulator::{Accumulator, Bounds};
use flush::{Stream, Tables};
use flusher::Waiter;
use journal::{Class, Disk, Limits, MemoryDisk, RealDisk, StreamLock};
use refusals::Refusals;

pub(crate) use accept::{Gate, Ticket, ToCache};
pub(crate) use batch::Digest;
pub(crate) use dead::{PATH, read_letter};
pub(crate) use entry::Keys;
pub use flush::FlushReport;

/// How much of `batch_max_bytes` the dictionary may have.
const DICTIONARY_SHARE: usize = 4;
/// The usual length of a journal's segment.
const SEGMENT_BYTES: usize = 4 << 20;

/// What a batcher goes by.
#[derive(Debug, Clone)]
struct Settings {
    class: JournalClass,
    /// Of the journals; nothing is there in class memory.
    dir: PathBuf,
    fingerprint: place::Fingerprint,
    interval: Duration,
    rows: usize,
    bounds: Bounds,
    limits: Limits,
    retain_ms: u64,
    overload_timeout: Duration,
    /// Of one try to flush.
    flush_timeout: Duration,
}

/// The aggregation of one engine.
#[derive(Clone)]
pub(crate) struct Batcher(Arc<Shared>);

/// The same, held weakly.
pub(crate) struct WeakBatcher(Weak<Shared>);

impl WeakBatcher {
    /// It, unless the engine is gone.
    pub(crate) fn upgrade(&self) -> Option<Batcher> {
        self.0.upgrade().map(Batcher)
    }
}

struct Shared {
    settings: Settings,
    store: Arc<dyn Store>,
    hooks: Arc<dyn KeyHooks>,
    counters: Arc<Counters>,
    clock: Clock,
    stream: Stream,
    disk: Arc<dyn Disk>,
    /// Held from open to close; none in class memory.
    lock: Mutex<Option<StreamLock>>,
    /// Made with the first operation: most processes that open an engine aggregate nothing.
    accumulator: Mutex<Option<Accumulator>>,
    /// Changed under the lock of the accumulator: from then on nothing is accepted.
    closed: AtomicBool,
    tables: Tables,
    /// The database's identity, once it was asked.
    database: OnceLock<[u8; 16]>,
    /// Whether PostgreSQL has this journal's watermark.
    registered: AtomicBool,
    /// A flush is wanted now.
    wanted: Notify,
    asked: AtomicBool,
    /// There may be room again.
    room: Notify,
    /// One flush at a time.
    flushing: AsyncMutex<()>,
    waiters: Mutex<Vec<Waiter>>,
    /// The end of the batch that is committed while the caches are told, and what of it is dead.
    committed: Mutex<Option<(u64, Refusals)>>,
    /// Positions that were settled, and when, for as long as their segments are kept.
    kept: Mutex<VecDeque<(u64, u64)>>,
    sync: accept::SyncState,
    stuck: stuck::Stuck,
    /// Tables and journals that were complained of.
    complained: Mutex<BTreeSet<String>>,
    last_flush_ms: AtomicU64,
    /// Tries in a row that failed, and those that ran out of time.
    failed: AtomicU32,
    late: AtomicU32,
    /// The highest number that the database has drawn for a flush.
    last_version: AtomicU64,
}

/// Figures of the aggregation; see the engine's `Stats`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BatchStats {
    pub(crate) cells: u64,
    pub(crate) bytes: u64,
    pub(crate) journal_bytes: u64,
    pub(crate) oldest_ms: u64,
    pub(crate) last_flush_ms: u64,
}

impl Batcher {
    /// Checks that the journal can be written. No operation is accepted yet, and PostgreSQL is not asked.
    ///
    /// # Errors
    /// `Config` if the folder of the journals cannot be written, or there is none.
    pub(crate) fn open(
        config: &Config,
        store: Arc<dyn Store>,
        hooks: Arc<dyn KeyHooks>,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Result<Batcher> {
        let settings = Settings::of(config)?;
        let stream = (u128::from(random::word()) << 64 | u128::from(random::word())).to_be_bytes();
        let (disk, lock): (Arc<dyn Disk>, _) = match settings.class {
            JournalClass::Memory => (Arc::new(MemoryDisk), None),
            _ => {
                let lock = begin_stream(&settings.dir, stream);
                let lock = lock.map_err(|error| cannot_write(&settings.dir, &error))?;
                (Arc::new(RealDisk), Some(lock))
            }
        };
        Ok(Batcher(Arc::new(Shared {
            settings,
            store,
            hooks,
            counters,
            clock,
            stream,
            disk,
            lock: Mutex::new(lock),
            accumulator: Mutex::new(None),
            closed: AtomicBool::new(false),
            tables: Tables::default(),
            database: OnceLock::new(),
            registered: AtomicBool::new(false),
            wanted: Notify::new(),
            asked: AtomicBool::new(false),
            room: Notify::new(),
            flushing: AsyncMutex::new(()),
            waiters: Mutex::default(),
            committed: Mutex::default(),
            kept: Mutex::default(),
            sync: accept::SyncState::default(),
            stuck: stuck::Stuck::new(config.batch_give_up_after),
            complained: Mutex::default(),
            last_flush_ms: AtomicU64::new(0),
            failed: AtomicU32::new(0),
            late: AtomicU32::new(0),
            last_version: AtomicU64::new(0),
        })))
    }

    /// Says which database this is. A folder with journals of another one is refused: they must never be applied here,
    /// and it would be a mistake to mix them.
    ///
    /// # Errors
    /// `Config` naming the folder.
    pub(crate) fn belong_to(&self, database: [u8; 16]) -> Result<()> {
        adopt::refuse_foreign(&self.0, Some(database))?;
        let _ = self.0.database.set(database);
        Ok(())
    }

    /// For what it holds itself.
    pub(crate) fn downgrade(&self) -> WeakBatcher {
        WeakBatcher(Arc::downgrade(&self.0))
    }

    /// What an acknowledged operation survives.
    pub(crate) fn durability(&self) -> &'static str {
        self.0.settings.class.word()
    }

    /// The same before the database can be asked: a folder with journals that were made for another address is refused.
    ///
    /// # Errors
    /// `Config` naming the folder.
    pub(crate) fn refuse_other_places(&self) -> Result<()> {
        adopt::refuse_foreign(&self.0, None)
    }

    /// For each key the digest of the value that came with the last operation that is not settled yet.
    pub(crate) fn last_values(&self, keys: &[Arc<str>]) -> Vec<Option<Digest>> {
        self.0.last_values(keys)
    }

    /// Figures of this moment.
    pub(crate) fn stats(&self) -> BatchStats {
        let shared = &self.0;
        let accumulator = shared.accumulator.lock();
        let Some(accumulator) = accumulator.as_ref() else { return BatchStats::default() };
        let frozen = accumulator.frozen.as_ref();
        let batches = || frozen.map(|it| &**it).into_iter().chain([&accumulator.active]);
        let since = batches().filter(|batch| !batch.is_empty()).map(|batch| batch.since_ms).min();
        BatchStats {
            cells: batches().map(|batch| batch.rows as u64).sum(),
            bytes: accumulator.bytes() as u64,
            journal_bytes: accumulator.journal.bytes(),
            oldest_ms: since.map_or(0, |since| shared.clock.mono_ms().saturating_sub(since)),
            last_flush_ms: shared.last_flush_ms.load(std::sync::atomic::Ordering::Relaxed),
        }
    }
}

impl Settings {
    fn of(config: &Config) -> Result<Settings> {
        let (dir, fingerprint) = match config.journal {
            JournalClass::Memory => (PathBuf::from("/memory"), [0; 32]),
            _ => place::of(config)?,
        };
        let max_bytes = match config.journal {
            // All of it is memory; the other half is for what is composed.
            JournalClass::Memory => config.journal_max_bytes.min(config.batch_max_bytes as u64 / 2),
            _ => config.journal_max_bytes,
        };
        let retain_ms = match config.journal {
            // What is applied need not be in memory.
            JournalClass::Memory => 0,
            _ => config.journal_retain.as_millis() as u64,
        };
        Ok(Settings {
            class: config.journal,
            dir,
            fingerprint,
            interval: config.batch_interval,
            rows: config.batch_size,
            bounds: Bounds {
                bytes: config.batch_max_bytes,
                dictionary: config.batch_max_bytes / DICTIONARY_SHARE,
            },
            limits: Limits { segment_bytes: SEGMENT_BYTES.min(max_bytes as usize / 8), max_bytes },
            retain_ms,
            overload_timeout: config.overload_timeout,
            flush_timeout: config.timeout.max(Duration::from_secs(30)),
        })
    }
}

/// An engine that is dropped without a close flushes nothing more: whoever waits is told.
impl Drop for Shared {
    fn drop(&mut self) {
        if !*self.closed.get_mut() {
            self.leave(&Error::new(ErrorKind::Closed, "the engine was dropped without a close"));
        }
    }
}

impl Shared {
    fn class(&self) -> Class {
        match self.settings.class {
            JournalClass::Journal => Class::Journal,
            JournalClass::JournalFsync => Class::JournalFsync,
            JournalClass::Memory => Class::Memory,
        }
    }

    /// Says something once.
    fn complain(&self, about: String, message: impl FnOnce(&str) -> String) {
        let mut complained = self.complained.lock();
        if !complained.contains(&about) {
            log::warn!("{}", message(&about));
            complained.insert(about);
        }
    }
}

/// Another process that closes removes the folder of journals if it is empty, maybe just when this one is to be made.
fn begin_stream(dir: &std::path::Path, stream: Stream) -> std::io::Result<StreamLock> {
    for _ in 0..10 {
        match StreamLock::create(dir, stream) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            made => return made,
        }
    }
    StreamLock::create(dir, stream)
}

fn cannot_write(dir: &std::path::Path, error: &std::io::Error) -> Error {
    Error::config(format!(
        "the journal of aggregated writes cannot be written in {}: {error}; set journal_dir or journal: memory",
        dir.display()
    ))
}
