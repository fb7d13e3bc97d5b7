//! Listening to a channel, on a connection of its own.

use ::redis::aio::PubSubStream;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::base::{Deadline, random};
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
    /// `Cache` if it cannot be reached, `Config` if the user may not subscribe.
    pub(crate) async fn subscribe(&self, channel: &str, deadline: Deadline) -> Result<Subscription> {
        let mut last = None;
        let clients = self.0.link.clients();
        // Not always the same one first, and none may use up the time of the others.
        let first = random::below(clients.len() as u64) as usize;
        for (tried, client) in clients.iter().cycle().skip(first).take(clients.len()).enumerate() {
            let share = deadline.remaining() / (clients.len() - tried) as u32;
            let subscribing = async {
                let mut listening = client.get_async_pubsub().await?;
                listening.subscribe(channel).await?;
                Ok(listening.into_on_message())
            };
            match Deadline::after(share).run("subscribing to a channel of Redis", subscribing).await {
                Err(late) => last = Some(late),
                Ok(Ok(stream)) => return Ok(Subscription(stream)),
                Ok(Err(error)) => {
                    last = Some(Failure::Reported(error).at_subscribe(self.endpoint(), channel))
                }
            }
        }
        Err(last.unwrap_or_else(|| commands::no_node(self.endpoint())))
    }
}
