//! Listening to a channel, on a connection of its own for each server; and telling each of them.

use ::redis::Client;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{StreamExt, future};

use crate::base::Deadline;
use crate::error::Result;
use crate::redis::failure::Failure;
use crate::redis::masters::Node;
use crate::redis::{Redis, commands};

/// What is published from the moment of subscribing on, at one server or at every master of a cluster: what a master tells
/// the others may be lost between them, and what it tells who is connected to it is not. It ends with the first of its
/// connections and does not come back by itself: whoever listens has to know that something may have been missed.
pub(crate) struct Subscription {
    messages: SelectAll<BoxStream<'static, Option<(usize, Bytes)>>>,
    places: Places,
}

/// Where a subscription listens.
#[derive(Debug, Clone)]
pub(crate) enum Places {
    /// At the server.
    Single,
    /// At these masters of a cluster.
    Masters(Vec<Node>),
}

impl Places {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Places::Single => 1,
            Places::Masters(masters) => masters.len(),
        }
    }

    /// Whether they can become others while each of them stays.
    pub(crate) fn may_change(&self) -> bool {
        matches!(self, Places::Masters(_))
    }
}

impl Subscription {
    /// The next message, and the number of the place where it was heard; `None` once a connection is gone.
    pub(crate) async fn next(&mut self) -> Option<(usize, Bytes)> {
        self.messages.next().await.flatten()
    }

    /// Where it listens.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }
}

impl Redis {
    /// Subscribes to a channel; in a cluster at every master.
    ///
    /// # Errors
    /// `Cache` if it cannot be reached, `Config` if the user may not subscribe.
    pub(crate) async fn subscribe(&self, channel: &str, deadline: Deadline) -> Result<Subscription> {
        let refused = |error| Failure::Reported(error).at_subscribe(self.endpoint(), channel);
        let (places, clients) = match self.0.link.masters() {
            None => (Places::Single, self.0.link.client().cloned().into_iter().collect()),
            Some(masters) => {
                self.look(deadline).await?;
                let known = masters.known();
                let clients = known.iter().map(|node| masters.client(node)).collect::<Result<Vec<_>, _>>();
                (Places::Masters(known), clients.map_err(refused)?)
            }
        };
        let subscribing = clients.iter().enumerate().map(|(place, client)| listen(client, channel, place));
        let subscribing = future::try_join_all(subscribing);
        let streams =
            deadline.run("subscribing to a channel of Redis", subscribing).await?.map_err(refused)?;
        if streams.is_empty() {
            return Err(commands::no_node(self.endpoint()));
        }
        Ok(Subscription { messages: stream::select_all(streams), places })
    }

    /// Whether these are all places where something is published.
    pub(crate) fn are_all(&self, places: &Places) -> bool {
        match (self.0.link.masters(), places) {
            (Some(masters), Places::Masters(places)) => masters.known() == *places,
            _ => true,
        }
    }

    /// Publishes at each place what is meant for it.
    pub(crate) async fn publish_at(
        &self,
        places: &Places,
        channel: &str,
        message_for: impl Fn(usize) -> Vec<u8>,
        deadline: Deadline,
    ) -> Result<()> {
        let (Some(masters), Places::Masters(places)) = (self.0.link.masters(), places) else {
            return self.publish(channel, &message_for(0), deadline).await;
        };
        let messages: Vec<_> =
            places.iter().enumerate().map(|(place, node)| (node.clone(), message_for(place))).collect();
        let told = masters.publish(channel, &messages, deadline).await;
        told.map_err(|failure| failure.of_command(self.endpoint()))
    }
}

/// What one server says, and then that there will be no more.
async fn listen(
    client: &Client,
    channel: &str,
    place: usize,
) -> ::redis::RedisResult<BoxStream<'static, Option<(usize, Bytes)>>> {
    let mut listening = client.get_async_pubsub().await?;
    listening.subscribe(channel).await?;
    let messages = listening.into_on_message();
    let messages =
        messages.map(move |message| Some((place, Bytes::copy_from_slice(message.get_payload_bytes()))));
    Ok(messages.chain(stream::once(future::ready(None))).boxed())
}
