//! The core's log records on their way to `logging.getLogger("zmsg")`.
//!
//! The runtime's threads must not attach to the interpreter, so they push into a bounded queue; one Python thread
//! (`zmsg._logging`) waits on it, detached, and hands the records on.
//!
//! A fork may happen while a thread that the child does not have holds a queue's lock, so every generation of
//! processes has its own queue: [`queue`] walks one link per fork.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use crate::runtime;

/// Records kept while the Python side does not come for them; further ones are counted and dropped.
const CAPACITY: usize = 1_000;

/// How long one wait lasts, so that the thread can look whether it should stop.
const PATIENCE: Duration = Duration::from_secs(3_600);

static FIRST: Queue = Queue::new();
static FORWARD: Forward = Forward;

struct Forward;

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// The queue of a forked child.
    child: OnceLock<Box<Queue>>,
}

struct State {
    records: VecDeque<(i32, String)>,
    dropped: u64,
    stopped: bool,
}

impl Queue {
    const fn new() -> Queue {
        let state = State { records: VecDeque::new(), dropped: 0, stopped: false };
        Queue { state: Mutex::new(state), changed: Condvar::new(), child: OnceLock::new() }
    }

    fn push(&self, level: i32, message: String) {
        let mut state = self.state.lock();
        if state.records.len() < CAPACITY {
            state.records.push_back((level, message));
        } else {
            state.dropped += 1;
        }
        self.changed.notify_one();
    }

    fn take(&self) -> Option<Vec<(i32, String)>> {
        let mut state = self.state.lock();
        if state.records.is_empty() && !state.stopped {
            self.changed.wait_for(&mut state, PATIENCE);
        }
        let mut records: Vec<_> = state.records.drain(..).collect();
        if state.dropped > 0 {
            records.push((30, format!("{} log records were dropped", state.dropped)));
            state.dropped = 0;
        }
        if records.is_empty() && state.stopped { None } else { Some(records) }
    }
}

fn queue() -> &'static Queue {
    (0..runtime::forks()).fold(&FIRST, |queue, _| queue.child.get_or_init(|| Box::new(Queue::new())))
}

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && metadata.target().starts_with("zmsg")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            queue().push(python_level(record.level()), record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn python_level(level: Level) -> i32 {
    match level {
        Level::Error => 40,
        Level::Warn => 30,
        Level::Info => 20,
        Level::Debug => 10,
        Level::Trace => 5,
    }
}

/// Takes over the `log` crate of this library; called once, at import.
pub(crate) fn install() {
    if log::set_logger(&FORWARD).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// Keeps records below a Python level from being made at all.
#[pyfunction]
pub(crate) fn set_log_level(level: i32) {
    log::set_max_level(match level {
        ..=9 => LevelFilter::Trace,
        10..=19 => LevelFilter::Debug,
        20..=29 => LevelFilter::Info,
        30..=39 => LevelFilter::Warn,
        40..=50 => LevelFilter::Error,
        _ => LevelFilter::Off,
    });
}

/// Waits for records as `(level, message)`; `None` after the stop.
#[pyfunction]
pub(crate) fn next_logs(py: Python<'_>) -> Option<Vec<(i32, String)>> {
    py.detach(|| queue().take())
}

/// Lets `next_logs` end once everything was taken.
#[pyfunction]
pub(crate) fn stop_logs() {
    let queue = queue();
    queue.state.lock().stopped = true;
    queue.changed.notify_all();
}
