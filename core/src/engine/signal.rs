//! The signal that something lies in the outbox: every process looks there at once, this one and, by NOTIFY, the others.
//!
//! ```text
//! COMMIT of a row ─ raise ─┬─▶ wake: this process relays
//!                          ╰─▶ NOTIFY, about one per pause ─▶ LISTEN of every process ─▶ wake: it relays
//! ```
//! The NOTIFY follows the COMMIT and is not part of it: commits that notify wait for one another, and while Redis is away every
//! write is one ([ADR 17](../../../docs/adr/0017-a-signal-after-the-commit.md)).
//!
//! A signal may be lost: its sender was killed, PostgreSQL was away, a pooler in transaction mode is in between. Then the row
//! is found by the relay's next look, as it is without signals; the promises lean on that alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;

use crate::base::backoff::Backoff;
use crate::base::service::{Services, StopSignal};
use crate::base::{Deadline, random};
use crate::store::Store;
use crate::store::outbox::CHANNEL;
use crate::store::postgres::{Listening, PostgresStore};

/// What lies between two signals that this process sends, and between two looks that it is woken to.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// How long a signal may be under way.
const ON_ITS_WAY: Duration = Duration::from_millis(10);
/// How often the connection is asked whether it is still there: one that the network has forgotten says nothing.
const CHECK: Duration = Duration::from_secs(30);
/// Bounds of the pause before it listens again. What listens in vain may be refused each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// See the head of this file.
pub(super) struct Signal {
    /// Its connection is not of the pool, which may be used up when this is needed.
    aside: Arc<PostgresStore>,
    /// Time of one command.
    within: Duration,
    /// Something is there, says this process or another one.
    pub(super) wake: Notify,
    /// The others are to be told.
    raised: Notify,
    /// Counts the signals that came.
    heard: AtomicU64,
}

impl Signal {
    pub(super) fn new(aside: Arc<PostgresStore>, within: Duration) -> Signal {
        Signal { aside, within, wake: Notify::new(), raised: Notify::new(), heard: AtomicU64::new(0) }
    }

    /// A row was committed.
    pub(super) fn raise(&self) {
        self.wake.notify_one();
        self.raised.notify_one();
    }

    /// Begins to send and to hear.
    pub(super) fn start(self: &Arc<Signal>, services: &Services) {
        let (one, other) = (self.clone(), self.clone());
        services.start(move |stop| one.send(stop));
        services.start(move |stop| other.listen(stop));
    }

    async fn send(self: Arc<Signal>, mut stop: StopSignal) {
        let sending = async {
            loop {
                self.raised.notified().await;
                self.notify().await;
                tokio::time::sleep(PAUSE).await;
                // While one follows another, as they do of every process when Redis is away for all: who hears one that was
                // sent after its own row was committed need not send another.
                while self.raised.notified().now_or_never().is_some() {
                    // One that is still on its way may have been sent before.
                    tokio::time::sleep(ON_ITS_WAY).await;
                    let heard = self.heard.load(Ordering::Relaxed);
                    tokio::time::sleep(random::jitter(PAUSE, 1.0)).await;
                    if self.heard.load(Ordering::Relaxed) == heard {
                        self.notify().await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.stopped() => {}
            () = sending => {}
        }
    }

    async fn notify(&self) {
        if let Err(error) = self.aside.notify(CHANNEL, self.deadline()).await {
            log::debug!("others could not be told of the outbox, and will find it: {error}");
        }
    }

    async fn listen(self: Arc<Signal>, mut stop: StopSignal) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let listening = async {
            loop {
                match self.aside.listen(CHANNEL, self.deadline()).await {
                    Ok(listening) => {
                        // What was said before it listened.
                        self.wake.notify_one();
                        self.hear(listening, &mut backoff).await;
                    }
                    Err(error) => log::debug!("the outbox is not listened to: {error}"),
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        };
        tokio::select! {
            () = stop.stopped() => {}
            () = listening => {}
        }
    }

    /// Until the connection is gone.
    async fn hear(&self, mut listening: Listening, backoff: &mut Backoff) {
        loop {
            tokio::select! {
                heard = listening.heard() => {
                    if !heard {
                        return;
                    }
                    self.heard.fetch_add(1, Ordering::Relaxed);
                    self.wake.notify_one();
                }
                // If it does not answer it is let go, which is heard.
                () = tokio::time::sleep(CHECK) => drop(self.aside.ping(self.deadline()).await),
            }
            // One that lives is no reason to wait for long after it.
            *backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.within)
    }
}
