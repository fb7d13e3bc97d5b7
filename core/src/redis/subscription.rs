//! Listening to a channel, on a connection of its own.

use ::redis::aio::PubSubStream;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::base::Deadline;
use crate::error::Result;
use crate::redis::failure::Failure;
use crate::redis::{Redis, commands};

/// What is published from the moment of subscribing on. It ends with its connection and does not come back by itself:
/// whoever listens has to know that something may have been missed.
pub(crate) struct Subscription(PubSubStream);

impl Subscription {
    /// The next message; `None` once the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.0.next().await.map(|message| Bytes::copy_from_slice(message.get_payload_bytes()))
    }
}

impl Redis {
    /// Subscribes to a channel; in a cluster at one of its nodes, which hears what any of them is told.
    ///
    /// # Errors
    /// `Cache` if it cannot be reached or the user may not subscribe.
    pub(crate) async fn subscribe(&self, channel: &str, deadline: Deadline) -> Result<Subscription> {
        let mut last = None;
        for client in self.0.link.clients() {
            let subscribing = async {
                let mut listening = client.get_async_pubsub().await?;
                listening.subscribe(channel).await?;
                Ok(listening.into_on_message())
            };
            match deadline.run("subscribing to a channel of Redis", subscribing).await? {
                Ok(stream) => return Ok(Subscription(stream)),
                Err(error) => last = Some(Failure::Reported(error).at_connect(self.endpoint())),
            }
        }
        Err(last.unwrap_or_else(|| commands::no_node(self.endpoint())))
    }
}
