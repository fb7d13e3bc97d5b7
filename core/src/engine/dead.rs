//! Dead letters: what the database refused after it had been accepted.

use std::sync::Arc;

use super::{DeadLetter, Zmsg};
use crate::batch::{drop_letter, list_dead, retry_dead};
use crate::error::Result;
use crate::store::BatchHooks;

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
        list_dead(&*self.state.store, MOST, deadline).await
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
            let revived = retry_dead(&*state.store, id, deadline).await?;
            let keys = revived.keys.into_iter().map(Arc::from).collect();
            let last = |keys: &[Arc<str>]| state.batcher.last_values(keys);
            state.follower().committed(keys, revived.version, &last).await;
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
        drop_letter(&*self.state.store, id, deadline).await
    }
}
