//! Bloom filters: which keys of a family no committed row has.
//!
//! Invariant: **"no" for a key means that no committed write of zmsg has made a row of that key**; everything that is
//! missing, foreign or in doubt is "maybe".
//!
//! The bits are in Redis (`shared`), which may lose them, fail over, or be out of reach of one process and not of another.
//! So what they may be used for is decided in PostgreSQL (`standing`), where the rows are committed: which generation
//! answers, which one is being built, and whether the family is *open*, which means that nobody says "no".
//!
//! ```text
//! writer   prepare ─▶ statements ─▶ admit: known ≤ 4 s ago; added to serving and building ─▶ COMMIT
//!                                     ╰ not reached: rolled back, opened in PostgreSQL, 2.1 s, again
//! reader   known ≤ 2 s ago, not open ─▶ bits of the serving generation ─▶ "no" only if one is missing
//! builder  strings in Redis ─▶ published as building ─▶ 4.2 s ─▶ every older transaction has ended ─▶ scan ─▶ flip
//! ```
//! Why a "no" is right. Take a row whose transaction is committed, its key, and a reader that begins after that and finds
//! generation G serving and not open.
//! 1. *The writer added to G.* Bits are only ever set, and a script believes a generation only on the server, in the very
//!    life, that it was made in (`scripts/common.lua`). So they are there, or G is in doubt.
//! 2. *The writer did not know of G* when it admitted, after its transaction had its id. What it knew was at most
//!    [`MAY_COMMIT`] old; so it admitted before G had been published for [`KNOWN_TO_ALL`], and its id is older than the
//!    one that the builder draws then. The builder waits for the end of all older ones, and its scan finds the row. However
//!    long the writer's process is stopped between admission and COMMIT: the builder waits for the transaction, not a time.
//! 3. *The writer knew of G and could not add.* If G answered already, the family was open, known to this writer for
//!    [`OPEN_TO_ALL`], so that whoever reads after the COMMIT knows it too. Only the flip of a build ends an opening, and that
//!    build was published after what the writer knew: case 2 for that build. If G was being built, the writer had found an
//!    opening from after the build began, which its flip leaves open.
//!
//! 4. *The writer knew of a generation after G*, and the reader does not yet. Before the flip the builder has ended the answers
//!    of G in Redis (`scripts/retire.lua`), so that G says nothing any more; if G was lost, which it cannot end, the family
//!    is open since the build was published, and the reader knows.
//!
//! A build for bits that are lost opens the family as it begins: writers that meet the loss then find it open, and have no
//! reason for an opening that outlasts the flip.
//!
//! A writer is any process on the database, also one that declares no source: which families there are it reads from
//! `zmsg_bloom`. Redis' clock, and the machines', play no part; that a stopped process goes on is safe for readers too,
//! since the age of what they know is looked at after Redis has answered.
//!
//! What the filter does not know: rows that something else than zmsg has written, until the next build; and a key spelled
//! otherwise than the `keys` query gives it.
//!
//! | file | what lives there |
//! |---|---|
//! | `shape` | size, bits of a key, marker |
//! | `local` | bits in memory |
//! | `shared`, `scripts/` | bits in Redis |
//! | `standing` | the row of `zmsg_bloom` and its statements |
//! | `known` | what this process knows of the rows, and how old that is |
//! | `announce` | the writers' side |
//! | `ask` | the readers' side |
//! | `build` | one build |
//! | `watch` | when to build, and figures |

mod announce;
mod ask;
mod build;
mod known;
mod local;
mod shape;
mod shared;
mod standing;
mod watch;

pub(crate) use shape::Wanted;
pub use watch::BloomFigures;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::base::service::Services;
use crate::base::{Clock, random};
use crate::error::{Error, Result};
use crate::redis::Redis;
use crate::sql::Task;
use crate::store::Store;
use announce::Unreached;
use ask::Local;
use known::Known;
use shared::Shared;
use standing::Name;
use watch::Watched;

/// What is out of reach is logged once in this time.
const LOG_EVERY_MS: u64 = 10_000;

/// The filters of one engine: those that it declares, and those that others have.
pub(crate) struct Filters {
    store: Arc<dyn Store>,
    /// With a connection of its own: whoever waits to be admitted holds one of the pool, and all of them may.
    aside: Arc<dyn Store>,
    shared: Option<Shared>,
    known: Known,
    namespace: String,
    /// What the settings say; a filter is for no fewer keys and no more errors.
    wanted: Wanted,
    /// Who this is, as a builder.
    builder: String,
    declared: Mutex<BTreeMap<Name, Arc<Declared>>>,
    unreached: Unreached,
    opening: tokio::sync::Mutex<()>,
    used_ms: AtomicU64,
    logged_ms: AtomicU64,
    /// Wakes the watch.
    wanted_now: tokio::sync::Notify,
}

/// A family that this engine declares.
struct Declared {
    /// The query of its keys.
    keys: Task,
    local: Mutex<Option<Local>>,
    watched: Mutex<Watched>,
    /// Answers "no".
    noes: AtomicU64,
}

impl Filters {
    /// Nothing declared. Without a Redis there are no bits: every answer is "maybe", and families of others are opened.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        aside: Arc<dyn Store>,
        redis: Option<Redis>,
        namespace: &str,
        wanted: Wanted,
        clock: Clock,
    ) -> Filters {
        Filters {
            shared: redis.map(Shared::new),
            known: Known::new(aside.clone(), clock),
            store,
            aside,
            namespace: namespace.to_owned(),
            wanted,
            builder: random::operation_id(),
            declared: Mutex::default(),
            unreached: Unreached::default(),
            opening: tokio::sync::Mutex::new(()),
            used_ms: AtomicU64::new(0),
            logged_ms: AtomicU64::new(0),
            wanted_now: tokio::sync::Notify::new(),
        }
    }

    /// Whether a query can be that of a family's keys.
    ///
    /// # Errors
    /// `Task` if it has open placeholders or does not only read.
    pub(crate) fn check_keys(pattern: &str, keys: &Task) -> Result<()> {
        keys.check_runnable("keys")?;
        if !keys.is_read() {
            return Err(Error::task(format!(
                "source {pattern:?}: keys has to be a query that gives every key of the family, as sql(\"SELECT id FROM feeds\")"
            )));
        }
        Ok(())
    }

    /// Gives a family a filter. It is built in the background; until then every answer is "maybe".
    pub(crate) fn declare(&self, pattern: &str, keys: Task) {
        if self.shared.is_none() {
            log::warn!("source {pattern:?}: a Bloom filter needs a Redis (redis_addr); every key may exist");
        }
        let declared =
            Declared { keys, local: Mutex::default(), watched: Mutex::default(), noes: AtomicU64::new(0) };
        self.declared.lock().insert(self.name_of(pattern), Arc::new(declared));
        self.wanted_now.notify_one();
    }

    /// Lets go of the connection of its own.
    pub(crate) async fn close(&self) {
        self.aside.close().await;
    }

    /// Keeps what is known fresh, and builds.
    pub(crate) fn start(self: &Arc<Filters>, services: &Services) {
        let (one, other) = (Arc::downgrade(self), Arc::downgrade(self));
        services.start(move |stop| watch::keep_fresh(one, stop));
        services.start(move |stop| watch::watch(other, stop));
    }

    fn name_of(&self, pattern: &str) -> Name {
        (self.namespace.clone(), pattern.to_owned())
    }

    fn declared(&self, name: &Name) -> Option<Arc<Declared>> {
        self.declared.lock().get(name).cloned()
    }

    fn note_use(&self) {
        self.used_ms.store(self.known.now_ms(), Ordering::Relaxed);
    }

    /// Whether it is time to log again.
    fn may_log(&self, every_ms: u64) -> bool {
        let (now, last) = (self.known.now_ms(), self.logged_ms.load(Ordering::Relaxed));
        let due = last == 0 || now.saturating_sub(last) >= every_ms;
        due && self.logged_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
