//! Dead letters: what the database refused after it had been accepted.

use std::sync::Arc;

use super::{DeadLetter, Zmsg};
use crate::error::{Error, ErrorKind, Result};
use crate::store::BatchHooks;
use crate::store::dead_letters::{self, Tasks};
use crate::{batch, queue};

/// Dead letters given at once.
const MOST: u32 = 10_000;

impl Zmsg {
    /// The dead letters of all processes on this database, oldest first; at most 10,000.
    ///
    /// # Errors
    /// `Store`, `Timeout`, `Closed`.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let _call = self.enter()?;
        let deadline = self.deadline();
        self.state.own_tables(deadline).await?;
        dead_letters::list(&*self.state.store, MOST, deadline).await
    }

    /// Runs a dead letter again and deletes it, in one transaction. If the database refuses again, it stays.
    ///
    /// # Errors
    /// The refusal; `NotFound` if there is no such letter; `CommitUnknown`, `Timeout`, `Closed`.
    pub async fn retry_dead(&self, id: i64) -> Result<()> {
        let (call, zmsg, deadline) = (self.enter()?, self.clone(), self.deadline());
        crate::base::service::detached(async move {
            let (_call, state) = (call, &zmsg.state);
            state.own_tables(deadline).await?;
            let revived = dead_letters::retry(&*state.store, id, read, deadline).await?;
            let keys = revived.keys.into_iter().map(Arc::from).collect();
            BatchHooks::committed(&state.follower, keys, revived.version).await;
            Ok(())
        })
        .await
    }

    /// Deletes a dead letter without running it.
    ///
    /// # Errors
    /// `NotFound` if there is no such letter; `Store`, `Timeout`, `Closed`.
    pub async fn drop_dead(&self, id: i64) -> Result<()> {
        let _call = self.enter()?;
        let deadline = self.deadline();
        self.state.own_tables(deadline).await?;
        dead_letters::drop_letter(&*self.state.store, id, deadline).await
    }
}

/// Each path has a form of its own.
fn read(path: &str, tasks: &[u8]) -> Result<Tasks> {
    match path {
        batch::PATH => batch::read_letter(tasks),
        queue::PATH => queue::read_letter(tasks),
        other => Err(Error::new(
            ErrorKind::Internal,
            format!("the dead letter came by the path {other:?}, which this version does not know"),
        )),
    }
}
