//! How asynchronous calls end.
//!
//! JavaScript starts a call under a number it picked. The call runs on the runtime; its reply is put into the queue of
//! the environment that started it, and JavaScript is woken once if the queue was empty. It then takes the whole queue
//! in one call of `drain` and settles its promises.
//!
//! ```text
//! started ──▶ running ──▶ reply queued ──▶ drained, promise settled
//!                └─ cancelled ──▶ "cancelled" queued ──▶ drained, nobody waits for it
//! ```
//! Invariants:
//! - Every started call queues exactly one reply, also when its task panics or is cancelled.
//! - The wake-up handle never keeps the process alive; JavaScript does that itself while calls are pending.
//! - An environment that is gone gets nothing: the wake-up is refused and the reply is dropped.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::{AbortHandle, Abortable};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use parking_lot::Mutex;
use zmsg_core::error::{Error, ErrorKind, Result};

use crate::replies::Reply;
use crate::runtime;

/// Replies beyond this many wait in the queue for the next turn of the event loop, so that timers and sockets of the
/// service are not starved.
const MAX_DRAIN: usize = 4_096;

/// Log lines that may wait for JavaScript; more are counted and dropped.
const MAX_LOGS: usize = 1_000;

type Wake = ThreadsafeFunction<(), (), (), napi::Status, false, true>;

/// What waits for JavaScript.
pub enum Completion {
    /// The end of call `id`.
    Done { id: u32, reply: Result<Reply> },
    /// A line of the log.
    Log { level: &'static str, message: String },
}

/// The calls of one JavaScript environment.
pub struct Calls {
    queue: Mutex<Queue>,
    cancellable: Mutex<HashMap<u32, AbortHandle>>,
    wake: Wake,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Completion>,
    logs: usize,
    dropped_logs: usize,
}

impl Calls {
    /// The calls of the environment that `on_ready` belongs to; it is called when there is something to drain.
    pub fn new(on_ready: &Function<'_, (), ()>) -> napi::Result<Arc<Calls>> {
        let wake = on_ready.build_threadsafe_function().weak::<true>().build()?;
        Ok(Arc::new(Calls { queue: Mutex::default(), cancellable: Mutex::default(), wake }))
    }

    /// Runs `work` as call `id`.
    pub fn start(
        self: &Arc<Calls>,
        id: u32,
        cancellable: bool,
        work: impl Future<Output = Result<Reply>> + Send + 'static,
    ) -> Result<()> {
        let ticket = Ticket { id, calls: self.clone(), reply: None };
        if cancellable {
            let (handle, registration) = AbortHandle::new_pair();
            self.cancellable.lock().insert(id, handle);
            let work = Abortable::new(work, registration);
            runtime::spawn(async move {
                if let Ok(reply) = work.await {
                    ticket.settle(reply);
                }
            })
        } else {
            runtime::spawn(async move { ticket.settle(work.await) })
        }
    }

    /// Stops waiting for call `id`: what was not sent is not sent.
    pub fn cancel(&self, id: u32) {
        if let Some(handle) = self.cancellable.lock().remove(&id) {
            handle.abort();
        }
    }

    /// Queues a log line.
    pub fn log(&self, level: &'static str, message: String) {
        let mut queue = self.queue.lock();
        if queue.logs >= MAX_LOGS {
            queue.dropped_logs += 1;
            return;
        }
        queue.logs += 1;
        drop(queue);
        self.push(Completion::Log { level, message });
    }

    /// Everything that waits, up to a bound; the rest wakes JavaScript again.
    pub fn drain(&self) -> Vec<Completion> {
        let mut queue = self.queue.lock();
        if queue.waiting.len() > MAX_DRAIN {
            let rest = queue.waiting.split_off(MAX_DRAIN);
            let batch = std::mem::replace(&mut queue.waiting, rest);
            drop(queue);
            self.wake();
            return batch;
        }
        let mut batch = std::mem::take(&mut queue.waiting);
        queue.logs = 0;
        let dropped = std::mem::take(&mut queue.dropped_logs);
        drop(queue);
        if dropped > 0 {
            let message = format!("{dropped} log lines were dropped: the event loop was busy");
            batch.push(Completion::Log { level: "warn", message });
        }
        batch
    }

    fn push(&self, completion: Completion) {
        let mut queue = self.queue.lock();
        let was_empty = queue.waiting.is_empty();
        queue.waiting.push(completion);
        drop(queue);
        if was_empty {
            self.wake();
        }
    }

    fn wake(&self) {
        // Refused only when the environment is going away, and then nobody waits any more.
        let _ = self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// The duty to end one call; dropped without a reply it says why there is none.
struct Ticket {
    id: u32,
    calls: Arc<Calls>,
    reply: Option<Result<Reply>>,
}

impl Ticket {
    fn settle(mut self, reply: Result<Reply>) {
        self.reply = Some(reply);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.calls.cancellable.lock().remove(&self.id);
        let reply = self.reply.take().unwrap_or_else(|| {
            Err(if std::thread::panicking() {
                Error::new(ErrorKind::Internal, "a call of the engine panicked; please report this")
            } else {
                Error::new(ErrorKind::Internal, "the call was cancelled")
            })
        });
        self.calls.push(Completion::Done { id: self.id, reply });
    }
}
