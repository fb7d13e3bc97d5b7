//! One completion queue per event loop.
//!
//! The runtime's threads push what has ended and write to a descriptor only if the queue was empty; the loop watches
//! the descriptor, and its callback resolves everything that has ended under one hold of the interpreter. So a
//! thousand concurrent reads cost a few wake-ups, and no thread of the runtime ever attaches.
//!
//! ```text
//! runtime thread: push ─▶ queue ─(was empty)─▶ signal ─▶ loop.add_reader ─▶ drain ─▶ future.set_result
//! ```
//!
//! Invariants:
//! - `waiting` is touched only by attached threads.
//! - A future that is done already (cancelled) is left alone, and what it waited for is dropped.
//! - A closed loop is never touched: only its own reader callback drains.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use tokio::task::AbortHandle;

use crate::signal::Signal;
use crate::waiting::{Finish, result_of};

/// The calls that one event loop waits for.
#[pyclass(frozen, module = "zmsg._native")]
pub(crate) struct Completions {
    queue: Arc<Queue>,
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
}

struct Waiting {
    future: Py<PyAny>,
    abort: AbortHandle,
}

struct Queue {
    ended: Mutex<Vec<(u64, Finish)>>,
    signal: Signal,
}

impl Queue {
    fn push(&self, ticket: u64, finish: Finish) {
        let mut ended = self.ended.lock();
        let was_empty = ended.is_empty();
        ended.push((ticket, finish));
        drop(ended);
        if was_empty {
            self.signal.raise();
        }
    }
}

impl Completions {
    /// A new ticket, and what delivers the end of its call.
    pub(crate) fn ticket(&self) -> (u64, impl FnOnce(Finish) + Send + 'static) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let queue = self.queue.clone();
        (ticket, move |finish| queue.push(ticket, finish))
    }

    /// Keeps the future until the call of that ticket ends.
    pub(crate) fn expect(&self, ticket: u64, future: Py<PyAny>, abort: AbortHandle) {
        self.waiting.lock().insert(ticket, Waiting { future, abort });
    }

    fn take(&self, ticket: u64) -> Option<Waiting> {
        self.waiting.lock().remove(&ticket)
    }
}

#[pymethods]
impl Completions {
    #[new]
    fn new() -> PyResult<Completions> {
        let queue = Arc::new(Queue { ended: Mutex::default(), signal: Signal::new()? });
        Ok(Completions { queue, waiting: Mutex::default(), next: AtomicU64::new(1) })
    }

    /// The descriptor that becomes readable when something has ended.
    fn fileno(&self) -> i32 {
        self.queue.signal.fileno()
    }

    /// Resolves the futures of everything that has ended.
    fn drain(&self, py: Python<'_>) {
        self.queue.signal.clear();
        let ended = mem::take(&mut *self.queue.ended.lock());
        for (ticket, finish) in ended {
            if let Some(waiting) = self.take(ticket)
                && let Err(error) = resolve(waiting.future.bind(py), finish)
            {
                error.write_unraisable(py, None);
            }
        }
    }

    /// Drops the call of a ticket; nothing happens if it has ended.
    fn cancel(&self, ticket: u64) {
        if let Some(waiting) = self.take(ticket) {
            waiting.abort.abort();
        }
    }

    /// How many calls have not ended.
    fn __len__(&self) -> usize {
        self.waiting.lock().len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Locked means in use, so reachable; the collector comes again.
        let Some(waiting) = self.waiting.try_lock() else { return Ok(()) };
        waiting.values().try_for_each(|waiting| visit.call(&waiting.future))
    }

    fn __clear__(&self) {
        let waiting = mem::take(&mut *self.waiting.lock());
        drop(waiting);
    }
}

fn resolve(future: &Bound<'_, PyAny>, finish: Finish) -> PyResult<()> {
    let py = future.py();
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match result_of(py, finish) {
        Ok(result) => future.call_method1(intern!(py, "set_result"), (result,))?,
        Err(error) => future.call_method1(intern!(py, "set_exception"), (error,))?,
    };
    Ok(())
}
