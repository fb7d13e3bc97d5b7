//! The life of background work: start, drain, stop.
//!
//! ```text
//! running ── stop() ──▶ draining ── all ended, or the deadline ──▶ stopped
//! ```
//! A service is told to stop through its [`StopSignal`] and ends by itself; what has not ended at the deadline is
//! aborted. Starting after the stop is refused, stopping twice waits for the same end.

// The one place that may spawn.
#![allow(clippy::disallowed_methods)]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::base::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// The background services of one engine.
pub(crate) struct Services {
    stop: watch::Sender<bool>,
    running: Mutex<JoinSet<()>>,
}

/// Tells a service that it should end.
#[derive(Clone)]
pub(crate) struct StopSignal(watch::Receiver<bool>);

impl StopSignal {
    /// Resolves when the service should end.
    pub(crate) async fn stopped(&mut self) {
        // An error means that the engine is gone without a close, which is a stop too.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

impl Services {
    /// No service yet.
    pub(crate) fn new() -> Services {
        Services { stop: watch::Sender::new(false), running: Mutex::new(JoinSet::new()) }
    }

    /// Starts a service; it is not started when the stop has begun.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        &self,
        service: impl FnOnce(StopSignal) -> F,
    ) {
        let mut running = self.running.lock();
        // Those that ended by themselves leave no trace.
        while running.try_join_next().is_some() {}
        if !*self.stop.borrow() {
            running.spawn(service(StopSignal(self.stop.subscribe())));
        }
    }

    /// Tells every service to stop and waits until all have ended or `deadline` passes.
    pub(crate) async fn stop(&self, deadline: Deadline) {
        self.stop.send_replace(true);
        let mut running = std::mem::take(&mut *self.running.lock());
        let ended =
            deadline.run("stopping services", async { while running.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            log::warn!("{} background services did not stop in time and were aborted", running.len());
        }
    }
}

/// Runs `work` to its end even if the caller stops waiting, and gives its result to the caller.
///
/// A write that has begun must end the same way whether or not someone still listens.
///
/// The work begins at once, whether or not the result is awaited; what is returned is small, however large the work is.
pub(crate) fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send {
    let running = tokio::spawn(work);
    async move {
        match running.await {
            Ok(result) => result,
            Err(stopped) if stopped.is_cancelled() => Err(Error::closed()),
            Err(panic) => Err(panicked().with_source(panic)),
        }
    }
}

/// Runs what blocks its thread, as reading a file or waiting for a disk, where that holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| panicked().with_source(error))
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "a task of the engine panicked; please report this")
}

/// Work that its caller does itself, and that a task takes over when the caller stops; see [`to_the_end`].
pub(crate) struct ToTheEnd<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = Result<T>> + Send>>>,
    runtime: Handle,
}

/// As [`detached`], without a task of its own as long as the caller listens: nobody has to be woken, which takes longer
/// than a round trip to Redis on a busy machine.
///
/// The work rests while the caller keeps it without polling it. So it is for what nobody else waits for: not for a load
/// that others join, not for a transaction, whose locks others want and whose COMMIT the caches must hear of.
pub(crate) fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> ToTheEnd<T> {
    ToTheEnd { work: Some(Box::pin(work)), runtime: Handle::current() }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(work) = &mut self.work else { return Poll::Ready(Err(Error::closed())) };
        // A panic is an error of this call here as it is in a task.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        let done = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(done)) => done,
            Err(_) => Err(panicked()),
        };
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.runtime.spawn(work);
        }
    }
}

/// The task that moves the bytes of one connection; it ends with the connection or when this is dropped.
#[derive(Debug)]
pub(crate) struct Driver(tokio::task::JoinHandle<()>);

impl Driver {
    /// Starts moving bytes.
    pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) -> Driver {
        Driver(tokio::spawn(work))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn services_end_once_and_none_starts_after_the_stop() {
        let services = Services::new();
        let ended = Arc::new(AtomicU32::new(0));
        for _ in 0..3 {
            let ended = ended.clone();
            services.start(|mut stop| async move {
                stop.stopped().await;
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        services.stop(Deadline::after(Duration::from_secs(5))).await;
        services.stop(Deadline::after(Duration::from_secs(5))).await;
        assert_eq!(ended.load(Ordering::SeqCst), 3);
        services.start(|_| async { panic!("started after the stop") });
        assert!(services.running.lock().is_empty());
    }

    #[tokio::test]
    async fn detached_work_survives_its_caller_and_panics_become_errors() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (started_sender, started) = tokio::sync::oneshot::channel();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let caller = tokio::spawn(detached(async move {
            started_sender.send(()).expect("the test listens");
            gate.await.expect("the test opens the gate");
            sender.send(7).expect("the test listens");
            Ok(())
        }));
        started.await.expect("the work starts");
        caller.abort();
        go.send(()).expect("the work waits");
        assert_eq!(receiver.await, Ok(7));
        let error = detached::<()>(async { panic!("boom") }).await.expect_err("a panic");
        assert_eq!(error.kind(), ErrorKind::Internal);
    }

    #[tokio::test]
    async fn work_goes_on_without_its_caller_from_where_it_was() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let mut work = Box::pin(to_the_end(async move {
            gate.await.expect("the test opens the gate");
            sender.send(7).expect("the test listens");
            Ok(())
        }));
        assert!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(work);
        go.send(()).expect("the work waits");
        assert_eq!(receiver.await, Ok(7));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        drop(to_the_end(async move {
            sender.send(8).expect("the test listens");
            Ok(())
        }));
        assert_eq!(receiver.await, Ok(8), "also if it was never polled");
        assert_eq!(to_the_end(async { Ok(9) }).await.expect("done"), 9);
        let error = to_the_end::<()>(async { panic!("boom") }).await.expect_err("a panic");
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
}
