//! LISTEN and NOTIFY on a connection of the pool: the one thing of a session that outlives a call.
//!
//! Nothing may lean on being heard. A connection that ends takes its LISTEN along, which [`Listening`] says; behind a pooler
//! in transaction mode it stays with a server connection that others use, who pass over what they did not ask for, and this
//! process hears nothing.

use tokio::sync::watch;

use super::PostgresStore;
use super::connect::Connection;
use crate::base::Deadline;
use crate::error::Result;

/// What one connection hears from LISTEN on.
pub(crate) struct Listening(watch::Receiver<()>);

impl Listening {
    /// Resolves when somebody notified since the last time, however often; `false` once the connection is gone.
    pub(crate) async fn heard(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl PostgresStore {
    /// Listens to a channel on one of the connections, which others may use in between. It may be the one that listens
    /// already. The channel is an identifier of the engine's own, and its own to each database.
    pub(crate) async fn listen(&self, channel: &'static str, deadline: Deadline) -> Result<Listening> {
        self.command(format!("LISTEN {channel}"), deadline, |connection| Listening(connection.heard())).await
    }

    /// Notifies everybody who listens, in a transaction of its own. It is given no text: what is new is in the tables.
    pub(crate) async fn notify(&self, channel: &'static str, deadline: Deadline) -> Result<()> {
        self.command(format!("NOTIFY {channel}"), deadline, |_| ()).await
    }

    async fn command<T>(
        &self,
        text: String,
        deadline: Deadline,
        then: impl FnOnce(&Connection) -> T,
    ) -> Result<T> {
        let mut lease = self.pool.take(deadline).await?;
        deadline
            .run("waiting for PostgreSQL", lease.command(&text))
            .await?
            .map_err(|failure| failure.error)?;
        Ok(then(&lease))
    }
}
