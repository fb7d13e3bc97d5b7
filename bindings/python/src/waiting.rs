//! One way to run a call of the core, two ways to wait for it.
//!
//! [`run`] spawns the call on the runtime. With a port (the asyncio door) it gives back a ticket at once, and the
//! future that came with the port is resolved by the loop's thread. Without one (the blocking door) it waits here,
//! detached from the interpreter, and lets Ctrl-C through.
//!
//! A call always ends in exactly one delivery: its result, its panic, or "closed" if the runtime ended before it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use tokio::task::AbortHandle;
use zmsg_core::error::{Error, ErrorKind, Result};

use crate::completions::Completions;
use crate::errors::{OrRaise, panicked, to_py};
use crate::runtime;

/// The end of a call: run with the interpreter attached, it gives the Python result or the exception.
pub(crate) type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Runs the end of a call. A panic there is this call's error: other calls that ended with it are delivered all the same.
pub(crate) fn result_of(py: Python<'_>, finish: Finish) -> PyResult<Py<PyAny>> {
    catch_unwind(AssertUnwindSafe(|| finish(py))).unwrap_or_else(|panic| Err(to_py(py, &panicked(&*panic))))
}

/// How often a blocked main thread looks for Ctrl-C.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// Where an asyncio caller waits: the loop's completions and the future to resolve; nothing for a blocking caller.
pub(crate) type Port<'py> = Option<(Bound<'py, Completions>, Bound<'py, PyAny>)>;

/// Runs `call` and converts its result with `convert`. Gives the ticket of the call to an asyncio caller and the
/// result itself to a blocking one.
pub(crate) fn run<'py, T, C>(
    py: Python<'py>,
    port: Port<'py>,
    call: impl Future<Output = Result<T>> + Send + 'static,
    convert: C,
) -> PyResult<Py<PyAny>>
where
    T: Send + 'static,
    C: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
{
    match port {
        Some((completions, future)) => {
            let completions = completions.get();
            let (ticket, deliver) = completions.ticket();
            let abort = spawn(py, call, convert, deliver)?;
            completions.expect(ticket, future.unbind(), abort);
            Ok(ticket.into_pyobject(py)?.into_any().unbind())
        }
        None => {
            let slot = Arc::new(Slot::default());
            let filled = slot.clone();
            let abort = spawn(py, call, convert, move |finish| filled.fill(finish))?;
            slot.wait(py, &abort)
        }
    }
}

fn spawn<T, C>(
    py: Python<'_>,
    call: impl Future<Output = Result<T>> + Send + 'static,
    convert: C,
    deliver: impl FnOnce(Finish) + Send + 'static,
) -> PyResult<AbortHandle>
where
    T: Send + 'static,
    C: FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
{
    let delivery = Delivery(Some(deliver));
    let task = runtime::handle(py).or_raise(py)?.spawn(async move {
        let result = call.await;
        delivery.send(Box::new(move |py| convert(py, result.or_raise(py)?)));
    });
    Ok(task.abort_handle())
}

/// Delivers exactly once, even if the call panics or the runtime drops it.
struct Delivery<D: FnOnce(Finish)>(Option<D>);

impl<D: FnOnce(Finish)> Delivery<D> {
    fn send(mut self, finish: Finish) {
        if let Some(deliver) = self.0.take() {
            deliver(finish);
        }
    }
}

impl<D: FnOnce(Finish)> Drop for Delivery<D> {
    fn drop(&mut self) {
        if let Some(deliver) = self.0.take() {
            let error = if std::thread::panicking() {
                Error::new(ErrorKind::Internal, "the engine panicked in this call; please report this")
            } else {
                Error::new(ErrorKind::Closed, "the call was dropped before it ended")
            };
            deliver(Box::new(move |py| Err(to_py(py, &error))));
        }
    }
}

/// Where a blocked thread waits.
#[derive(Default)]
struct Slot {
    finish: Mutex<Option<Finish>>,
    filled: Condvar,
}

impl Slot {
    fn fill(&self, finish: Finish) {
        *self.finish.lock() = Some(finish);
        self.filled.notify_one();
    }

    fn wait(&self, py: Python<'_>, abort: &AbortHandle) -> PyResult<Py<PyAny>> {
        loop {
            if let Some(finish) = py.detach(|| self.wait_for(SIGNAL_CHECK)) {
                return result_of(py, finish);
            }
            py.check_signals().inspect_err(|_| abort.abort())?;
        }
    }

    fn wait_for(&self, patience: Duration) -> Option<Finish> {
        let mut finish = self.finish.lock();
        if finish.is_none() {
            self.filled.wait_for(&mut finish, patience);
        }
        finish.take()
    }
}
