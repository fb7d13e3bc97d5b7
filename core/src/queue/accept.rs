//! How an operation comes in, and how it is taken back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::answers::{Cancelled, Enqueued, New};
use super::body::Body;
use super::wait::{Ticket, Where};
use super::{Queue, Shared, effect};
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::base::crash::crash;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Task;
use crate::store::ChangedKey;

/// The longest body: well below what Redis takes, and short enough to be sent within the time of a command.
const MOST_BYTES: usize = 32 << 20;

/// What is to be accepted.
pub(crate) struct Delayed<'a> {
    pub(crate) op_id: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) invalidates: &'a [String],
    pub(crate) tasks: &'a [Task],
    pub(crate) delay: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) coalesce: bool,
    /// Whether the caller has chosen the `op_id`.
    pub(crate) named: bool,
}

/// What was accepted.
pub(crate) struct Accepted {
    pub(crate) ticket: Ticket,
    /// Of two operations of one key the later one has the higher number; none if it was done before.
    pub(crate) sequence: Option<u64>,
    /// What it survives.
    pub(crate) durability: &'static str,
}

impl Queue {
    /// Accepts an operation. A lost answer is asked for again: the operation is accepted once.
    ///
    /// # Errors
    /// `Queue` if Redis could not be reached in time. It may have accepted the operation all the same; a call with the same
    /// op_id finds out.
    pub(crate) async fn accept(&self, delayed: &Delayed<'_>, deadline: Deadline) -> Result<Accepted> {
        let shared = &self.0;
        let payload = body_of(delayed).encode();
        if payload.len() > MOST_BYTES {
            return Err(Error::task(format!(
                "the delayed write has {} bytes with its parameters; at most {MOST_BYTES} are taken",
                payload.len()
            )));
        }
        let new = New {
            op_id: delayed.op_id,
            lane: delayed.key.unwrap_or_default(),
            payload: &payload,
            delay: delayed.delay,
            coalesce: delayed.coalesce,
        };
        let of_this = |error: Error| error.with_op_id(delayed.op_id);
        if delayed.coalesce
            && delayed.named
            && shared.was_done(delayed.op_id, deadline).await.map_err(of_this)?
        {
            // It would take the place of another one and then find that nothing is left to do.
            let (ticket, durability) = (shared.ticket(delayed), "postgres");
            return Ok(Accepted { ticket, sequence: None, durability });
        }
        crash!("queue.before_enqueue");
        let (durability, enqueued) = shared.enqueue(&new, deadline).await.map_err(of_this)?;
        crash!("queue.after_enqueue");
        shared.used.store(true, Ordering::Relaxed);
        if enqueued.new {
            shared.waiting.begun(delayed.op_id);
        }
        if let Some(replaced) = enqueued.replaced {
            shared.waiting.ended(&replaced, Err(replaced_by(delayed.op_id)), Where::Elsewhere);
        }
        shared.wake_in(delayed.delay);
        let sequence = Some(enqueued.standing.sequence);
        Ok(Accepted { ticket: shared.ticket(delayed), sequence, durability })
    }

    /// Runs an operation that Redis did not take; says whether it had its effect now, and not before. What Redis may have
    /// taken all the same has no second effect.
    pub(crate) async fn run_now(&self, delayed: &Delayed<'_>, deadline: Deadline) -> Result<bool> {
        effect::run_now(&self.0, delayed.op_id, &body_of(delayed), deadline).await
    }

    /// Whether an operation that was accepted is not at its end yet.
    pub(crate) async fn has(&self, op_id: &str, deadline: Deadline) -> Result<bool> {
        let (_, there) = self.0.lanes.look(&[op_id.to_owned()], deadline).await?;
        Ok(there.first().copied().unwrap_or(false))
    }

    /// Takes back an operation that no worker has begun.
    pub(crate) async fn cancel(&self, op_id: &str, deadline: Deadline) -> Result<Cancelled> {
        let (cancelled, entry) = self.0.lanes.cancel(op_id, deadline).await?;
        if let Some((key, sequence)) = entry {
            // A value that was cached with it never comes true.
            let key = ChangedKey { key: Arc::from(key), since: Some(sequence + 1) };
            self.0.hooks.committed(vec![key]).await;
        }
        if cancelled == Cancelled::Yes {
            self.0.waiting.look_soon();
        }
        Ok(cancelled)
    }
}

impl Shared {
    /// Sends it, a few times if there is no answer.
    async fn enqueue(&self, new: &New<'_>, deadline: Deadline) -> Result<(&'static str, Enqueued)> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let mut maybe_sent = false;
        loop {
            let error = match self.enqueue_once(new, deadline).await {
                Ok(enqueued) => return Ok(enqueued),
                Err(error) => error,
            };
            maybe_sent |= !error.unsent();
            let doubt = |error| if maybe_sent { in_doubt(error) } else { error };
            if error.kind() != ErrorKind::Queue || backoff.tries() >= 3 || deadline.passed() {
                return Err(doubt(error));
            }
            let pause = tokio::time::sleep(backoff.next_delay());
            // Its time is up: the error that was there says more.
            deadline.run("accepting a delayed write", pause).await.map_err(|_| doubt(error))?;
        }
    }

    async fn enqueue_once(&self, new: &New<'_>, deadline: Deadline) -> Result<(&'static str, Enqueued)> {
        let check = self.server.check();
        let durability =
            deadline.run("asking the queue's Redis", check).await.map_err(Error::with_unsent)??;
        let asked = self.asks();
        let enqueued = self.lanes.enqueue(new, asked.sequence, deadline).await?;
        self.note_standing(&enqueued.standing, asked);
        Ok((durability, enqueued))
    }

    fn ticket(self: &Arc<Shared>, delayed: &Delayed<'_>) -> Ticket {
        let keys = delayed.key.into_iter().chain(delayed.invalidates.iter().map(String::as_str));
        let keys = keys.map(Arc::from).collect();
        Ticket { shared: self.clone(), op_id: delayed.op_id.into(), keys }
    }
}

fn body_of(delayed: &Delayed<'_>) -> Body {
    Body {
        timeout: delayed.timeout,
        key: delayed.key.map(str::to_owned),
        invalidates: delayed.invalidates.to_vec(),
        statements: delayed.tasks.iter().map(Task::render).collect(),
    }
}

fn in_doubt(error: Error) -> Error {
    if error.kind() != ErrorKind::Queue && error.kind() != ErrorKind::Timeout {
        return error;
    }
    let message = format!(
        "{}; the delayed write may have been accepted all the same: a call with the same op_id finds out, and has one effect",
        error.message()
    );
    Error::new(ErrorKind::Queue, message).with_source(error)
}

fn replaced_by(op_id: &str) -> Error {
    Error::new(ErrorKind::Queue, format!("the delayed write was replaced by a later one of its key: {op_id}"))
        .with_retryable(false)
}
