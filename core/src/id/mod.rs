//! Ids: 63-bit numbers that no two processes ever make twice, made without I/O.
//!
//! PostgreSQL grants a node together with an interval of time ([`grants`]); the generator makes ids of that node with
//! times inside the interval ([`generator`], [`layout`]); the keeper extends the interval in the background
//! ([`keeper`]). The engine owns one [`Ids`].
//!
//! May use `store`, `sql`, `value`, `base`, `sys`, `error`.
//!
//! Invariants:
//! - The intervals of one node are disjoint, so uniqueness depends on no clock, pause or restart.
//! - An interval is used further only once the COMMIT that extended it is known.
//! - A forked child makes no ids with its parent's grant.
//! - Making an id does no I/O. The ids of one process grow.

use std::sync::Arc;
use std::time::Duration;

use crate::base::service::Services;
use crate::base::{Clock, Deadline};
use crate::error::Result;
use crate::store::Store;

mod generator;
mod grants;
mod keeper;
mod layout;

use generator::Generator;
use grants::{Grant, Grants};

#[cfg(test)]
mod history;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// The ids of one engine.
pub(crate) struct Ids {
    generator: Generator,
    grants: Grants,
    length: Duration,
    call_timeout: Duration,
    /// The grant in use; held while PostgreSQL is asked, so that one asks at a time.
    grant: tokio::sync::Mutex<Option<Grant>>,
}

impl Ids {
    /// Ids without a grant yet; no I/O. `length` is that of a grant, `call_timeout` the time of one statement of the
    /// keeper.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        length: Duration,
        call_timeout: Duration,
    ) -> Arc<Ids> {
        Arc::new(Ids {
            generator: Generator::new(clock),
            grants: Grants::new(store, length),
            length,
            call_timeout,
            grant: tokio::sync::Mutex::new(None),
        })
    }

    /// Takes a grant, or extends the one in use; a node that was lost to another owner is replaced by a new one.
    ///
    /// # Errors
    /// `Id` if all nodes are in use, `Store` or `Timeout` if PostgreSQL cannot be asked; the grant in use stays good
    /// until its ceiling.
    pub(crate) async fn renew(&self, deadline: Deadline) -> Result<()> {
        self.generator.check_usable()?;
        let mut held = self.grant.lock().await;
        let position_ms = self.generator.position_ms();
        let extended = match &*held {
            Some(grant) => self.grants.extend(grant, position_ms, deadline).await?,
            None => None,
        };
        let grant = match extended {
            Some(grant) => grant,
            None => self.grants.take(self.generator.position_ms(), deadline).await?,
        };
        self.generator.install(&grant);
        *held = Some(grant);
        Ok(())
    }

    /// Starts the keeper.
    pub(crate) fn start(self: &Arc<Self>, services: &Services) {
        let ids = self.clone();
        services.start(move |stop| keeper::keep(ids, stop));
    }

    /// Whether there is a grant, used up or not.
    pub(crate) fn is_granted(&self) -> bool {
        self.generator.position_ms() > 0
    }

    /// The next id as a number. No I/O; a burst above 4,096 per millisecond waits for the clock.
    ///
    /// # Errors
    /// `Id` without a grant, at its end, and in a forked child; `Closed` after [`Ids::close`].
    pub(crate) fn next_number(&self) -> Result<i64> {
        self.generator.next_number()
    }

    /// The next id as `prefix_number`.
    ///
    /// # Errors
    /// `Task` for a prefix that is empty, longer than 64 bytes or holds NUL; else as [`Ids::next_number`].
    pub(crate) fn next_id(&self, prefix: &str) -> Result<String> {
        self.generator.next_id(prefix)
    }

    /// Makes no more ids and gives the node back. Stop the keeper first. Twice is fine. In a forked child the node is
    /// left alone: the parent goes on using it.
    ///
    /// # Errors
    /// `Store` or `Timeout` if PostgreSQL cannot be told; the node is free again once its ceiling has passed.
    pub(crate) async fn close(&self, deadline: Deadline) -> Result<()> {
        if self.generator.is_forked() {
            return Ok(());
        }
        let unused_ms = self.generator.close();
        let grant = self.grant.lock().await.take();
        match (grant, unused_ms) {
            // A node taken while the generator was closing was not used at all: nothing below its floor is given back,
            // since that belongs to an earlier owner.
            (Some(grant), Some(unused_ms)) => {
                self.grants.release(&grant, unused_ms.max(grant.floor_ms), deadline).await
            }
            _ => Ok(()),
        }
    }
}
