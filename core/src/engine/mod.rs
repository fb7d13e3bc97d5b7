//! The verbs of the engine. This room decides the order of cache and store, and owns nothing else: the tiers, the
//! database, the ids and the figures live in their own rooms.
//!
//! ```text
//! get     L1 ─miss─▶ one flight per key ─▶ L2 ─miss─▶ Bloom filter ─maybe─▶ source (PostgreSQL) ─▶ fill L2 and L1
//!                                            ╰ or the caller's own loader      ╰ failed, slow: the last good value
//! write   PostgreSQL ─COMMIT─▶ caches            (`order.rs`, the only place that says so)
//! batch   accepted ─▶ value cached … COMMIT ─▶ keys dropped from the caches   (`periodic.rs`, `batched.rs`)
//! queue   accepted ─▶ value cached … COMMIT ─▶ keys dropped from the caches   (`delayed.rs`, `batched.rs`)
//! ```
//!
//! Invariants:
//! - A write that was not committed leaves no trace in any cache.
//! - A `get` that starts after a write was acknowledged never joins a load that began before it.
//! - A call that has begun ends the same way whether or not its caller still listens.
//! - After `close` has begun every new call is answered with `Closed`; calls in flight end first.

mod again;
mod batched;
mod caller;
mod calls;
mod dead;
mod delayed;
mod failsafe;
mod families;
mod fenced;
mod filters;
mod get_or_load;
mod ids;
mod limits;
mod lock;
mod many;
mod order;
mod periodic;
mod read;
mod relay;
mod schema;
mod signal;
mod source_breaker;
mod sql;
mod state;
mod status;
mod toolbox;
mod types;
mod warrants;
mod write;

use std::sync::Arc;
use std::time::Duration;

use crate::base::Deadline;
use crate::config::Config;
use crate::error::{Error, Result};
use calls::Call;
use state::State;

pub use crate::batch::FlushReport;
pub use crate::cache::{BloomFigures, Left, Warrant, WarrantWords};
pub use crate::queue::Cancelled;
pub use crate::store::dead_letters::DeadLetter;
pub use crate::store::migrations::MigrationReport;
pub use dead::RetryReport;
pub use delayed::DelayOptions;
pub use get_or_load::{Begun, LoadGuard};
pub use lock::{Lock, LockOptions};
pub use schema::Migrations;
pub use status::{Health, Stats, TierHealth};
pub use types::{LoadOptions, ReadOptions, Receipt, SourceOptions, Tasks, WriteOptions};

/// An open engine. Clones are cheap and share everything; [`Zmsg::with_timeout`] gives one whose calls have another
/// time limit.
#[derive(Clone)]
pub struct Zmsg {
    state: Arc<State>,
    timeout: Option<Duration>,
    admission: Option<Arc<Call>>,
}

impl Zmsg {
    /// Connects to the servers, migrates the engine's own tables and takes a node id.
    ///
    /// # Errors
    /// `Store` or `Cache` naming host and port within `connect_timeout` if a server cannot be reached and
    /// `start_degraded` is off.
    pub async fn open(config: Config) -> Result<Zmsg> {
        // Boxed: opening is a large future, and callers nest it in their own.
        Ok(Zmsg { state: Box::pin(State::open(config)).await?, timeout: None, admission: None })
    }

    /// Refuses new calls, lets those in flight end, stops the background services and gives the node id back.
    /// Closing twice is fine; the second call waits for the same end.
    pub async fn close(&self) -> Result<()> {
        self.state.close(self.deadline()).await;
        Ok(())
    }

    /// The same engine with another time limit for the calls made through it; `None` keeps the present one.
    pub fn with_timeout(&self, timeout: Option<Duration>) -> Zmsg {
        Zmsg { timeout: timeout.or(self.timeout), ..self.clone() }
    }

    /// The same engine for one call that counts as in flight from now on, so that a close which begins before the call's
    /// future first runs lets it end. For callers that hand futures to another thread, as the bindings do.
    ///
    /// Close the engine through another handle: a close waits for this one to be dropped.
    pub fn admitted(&self) -> Zmsg {
        Zmsg { admission: self.state.calls.enter().ok().map(Arc::new), ..self.clone() }
    }

    /// Whether `close` was called.
    pub fn is_closed(&self) -> bool {
        self.state.calls.is_closed()
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// Lets a call in, or says that the engine is closed.
    fn enter(&self) -> Result<Call> {
        match &self.admission {
            Some(admission) => Ok(self.state.calls.join(admission)),
            None => self.state.calls.enter(),
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.admission.is_none() && self.is_closed() { Err(Error::closed()) } else { Ok(()) }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout.unwrap_or(self.state.config.timeout))
    }
}
