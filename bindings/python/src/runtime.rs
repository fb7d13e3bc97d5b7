//! The tokio runtime of this process.
//!
//! It belongs to the process that made it: its threads do not survive a fork, and its epoll descriptor is shared with
//! the parent. So a forked child forgets it without running a destructor (a destructor would deregister the parent's
//! sockets) and makes its own at the first call.
//!
//! Invariants:
//! - [`RUNTIME`] is locked only by threads attached to the interpreter, and never while they detach. A fork happens
//!   in an attached thread, so the child never inherits the lock held by a thread that it does not have.
//! - No thread of the runtime ever attaches to the interpreter, so that neither a deadlock nor a crash at the
//!   interpreter's end is possible from there.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};
use zmsg_core::error::{Error, ErrorKind, Result};

/// Threads that drive the engine's I/O; the work on them is small.
const WORKERS: usize = 2;

/// How long the interpreter's exit waits for work on the runtime's threads.
const EXIT_PATIENCE: Duration = Duration::from_millis(500);

static RUNTIME: Mutex<State> = Mutex::new(State::Unmade);

/// How many forks lie between the first process and this one.
static FORKS: AtomicUsize = AtomicUsize::new(0);

enum State {
    Unmade,
    Running(Runtime),
    Ended,
}

/// A word that differs between a process and its forked child.
pub(crate) fn forks() -> usize {
    FORKS.load(Ordering::Relaxed)
}

/// The runtime, made at the first call in this process.
pub(crate) fn handle(_attached: Python<'_>) -> Result<Handle> {
    let mut state = RUNTIME.lock();
    if let State::Unmade = *state {
        *state = State::Running(build()?);
    }
    match &*state {
        State::Running(runtime) => Ok(runtime.handle().clone()),
        _ => Err(Error::new(ErrorKind::Closed, "the interpreter is ending; no call can be made any more")),
    }
}

/// The runtime if it was made and has not ended; for destructors, which run attached and make nothing.
pub(crate) fn running() -> Option<Handle> {
    match &*RUNTIME.lock() {
        State::Running(runtime) => Some(runtime.handle().clone()),
        State::Unmade | State::Ended => None,
    }
}

fn build() -> Result<Runtime> {
    let next = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name_fn(move || format!("zmsg-worker-{}", next.fetch_add(1, Ordering::Relaxed)))
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "the threads of the engine could not be started")
                .with_source(error)
        })
}

/// Called in a forked child, before anything else runs there.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    mem::forget(mem::replace(&mut *RUNTIME.lock(), State::Unmade));
}

/// Called at the interpreter's exit: ends the runtime's threads, waiting a bounded time.
#[pyfunction]
pub(crate) fn at_exit(py: Python<'_>) {
    let ended = mem::replace(&mut *RUNTIME.lock(), State::Ended);
    if let State::Running(runtime) = ended {
        py.detach(|| runtime.shutdown_timeout(EXIT_PATIENCE));
    }
}
