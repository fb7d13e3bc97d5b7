//! When the proxy does something, what, and the test's hold on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::message::{Kind, Message, Side};

/// What is done at the message that a trigger names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Both sides see the connection end.
    Close,
    /// The client sees a reset, the server an end.
    Reset,
    /// This direction of the connection waits, and goes on.
    Delay(Duration),
    /// This direction waits until [`Rule::release`]. What a client said stays held when its connection is gone, and
    /// reaches the server at the release all the same.
    Hold,
    /// Nothing passes any more in either direction; both connections stay open.
    Blackhole,
    /// The connection ends and no other one is accepted until [`super::Proxy::accept_again`].
    Refuse,
}

/// Names a message.
pub struct Trigger {
    side: Side,
    matches: Box<dyn Fn(&Message) -> bool + Send + Sync>,
    nth: u32,
    each: bool,
    after: bool,
    whole_read: bool,
}

/// A message of a client.
pub fn from_client(kind: Kind) -> Trigger {
    Trigger::new(Side::Client, move |message| message.kind == kind)
}

/// A message of the server.
pub fn from_server(kind: Kind) -> Trigger {
    Trigger::new(Side::Server, move |message| message.kind == kind)
}

/// Whatever message asks PostgreSQL to COMMIT: a simple query, among other statements or alone, or a prepared one.
pub fn commit() -> Trigger {
    Trigger::new(Side::Client, |message| {
        matches!(message.kind, Kind::Query | Kind::Execute) && says_commit(&message.text)
    })
}

/// The server's word that it has committed.
pub fn commit_answer() -> Trigger {
    Trigger::new(Side::Server, |message| message.kind == Kind::CommandComplete && message.text == "COMMIT")
}

fn says_commit(text: &str) -> bool {
    let first_word =
        |statement: &str| statement.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    text.split(';').any(|statement| matches!(first_word(statement).as_str(), "COMMIT" | "END"))
}

impl Trigger {
    fn new(side: Side, matches: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Trigger {
        Trigger { side, matches: Box::new(matches), nth: 1, each: false, after: false, whole_read: false }
    }

    /// Only those whose text has this in it.
    pub fn containing(self, needle: &str) -> Trigger {
        let (needle, matches) = (needle.to_owned(), self.matches);
        Trigger {
            matches: Box::new(move |message| matches(message) && message.text.contains(&needle)),
            ..self
        }
    }

    /// The n-th that matches, over all connections, counted from when the rule is given; the first is 1.
    pub fn nth(self, nth: u32) -> Trigger {
        assert!(nth > 0, "the first is 1");
        Trigger { nth, ..self }
    }

    /// That one and every later one.
    pub fn each(self) -> Trigger {
        Trigger { each: true, ..self }
    }

    /// The message still passes; what follows it does not. Without this the message itself does not pass.
    pub fn after(self) -> Trigger {
        Trigger { after: true, ..self }
    }

    /// Also stops what came before the message in the same read and was not passed on yet: the flight it is part of.
    /// A flight that is larger than a read is named by its first message instead.
    pub fn with_its_flight(self) -> Trigger {
        Trigger { whole_read: true, ..self }
    }
}

/// A trigger with its action, shared by the proxy and the test.
#[derive(Clone)]
pub struct Rule(Arc<Shared>);

struct Shared {
    trigger: Trigger,
    action: Action,
    seen: AtomicU32,
    cancelled: AtomicBool,
    fired: watch::Sender<u32>,
    released: watch::Sender<bool>,
    delivered: watch::Sender<bool>,
}

impl Rule {
    pub(super) fn new(trigger: Trigger, action: Action) -> Rule {
        Rule(Arc::new(Shared {
            trigger,
            action,
            seen: AtomicU32::new(0),
            cancelled: AtomicBool::new(false),
            fired: watch::Sender::new(0),
            released: watch::Sender::new(false),
            delivered: watch::Sender::new(false),
        }))
    }

    /// How often it was applied.
    pub fn times(&self) -> u32 {
        *self.0.fired.borrow()
    }

    /// Waits until it was applied.
    pub async fn fired(&self) {
        reached("the message that the rule names", &self.0.fired, |times| *times > 0).await;
    }

    /// Lets go what is held. Before the rule fires: it will hold nothing.
    pub fn release(&self) {
        self.0.released.send_replace(true);
    }

    /// Waits until what was held and released has reached its destination. If the client is gone by then: until the
    /// server has taken it all, done what it says and ended the connection.
    pub async fn delivered(&self) {
        reached("the delivery of what was held", &self.0.delivered, |delivered| *delivered).await;
    }

    /// It is not applied any more. What it holds stays held.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
    }

    /// Whether it is applied to this message.
    pub(super) fn takes(&self, side: Side, message: &Message) -> bool {
        let trigger = &self.0.trigger;
        if self.0.cancelled.load(Ordering::SeqCst) || trigger.side != side || !(trigger.matches)(message) {
            return false;
        }
        let seen = self.0.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if trigger.each { seen >= trigger.nth } else { seen == trigger.nth }
    }

    pub(super) fn fire(&self) {
        self.0.fired.send_modify(|times| *times += 1);
    }

    pub(super) fn action(&self) -> Action {
        self.0.action
    }

    pub(super) fn lets_the_message_pass(&self) -> bool {
        self.0.trigger.after
    }

    pub(super) fn takes_the_flight(&self) -> bool {
        self.0.trigger.whole_read
    }

    pub(super) async fn released(&self) {
        // The sender lives in here, so that waiting cannot fail.
        let _ = self.0.released.subscribe().wait_for(|released| *released).await;
    }

    pub(super) fn settle(&self) {
        self.0.delivered.send_replace(true);
    }
}

async fn reached<T>(what: &str, place: &watch::Sender<T>, is_there: impl FnMut(&T) -> bool) {
    let mut receiver = place.subscribe();
    let waited = tokio::time::timeout(Duration::from_secs(20), receiver.wait_for(is_there)).await;
    assert!(waited.is_ok(), "waited in vain: {what}");
}
