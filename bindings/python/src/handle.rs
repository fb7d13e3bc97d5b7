//! The engine behind a Python object, across forks.
//!
//! ```text
//! open() ─▶ open ── fork, in the child ─▶ declared ── first call ─▶ open (new runtime, connections, node grant)
//!             └─ close(), drop ─▶ closed             └── close() ─▶ closed (the parent's connections untouched)
//! ```
//!
//! Invariants:
//! - What a parent opened is never dropped in a child: a destructor would reach for sockets and an epoll descriptor
//!   that are the parent's. It is forgotten.
//! - `current` is locked only by attached threads, and never while they detach or run Python code, which may let another
//!   thread on that would wait for the lock attached (see `runtime`).

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::sync::OnceCell;
use zmsg_core::config::Config;
use zmsg_core::engine::{SourceOptions, Zmsg};
use zmsg_core::error::{Error, Result};
use zmsg_core::sql::Task;

use crate::errors::OrRaise;
use crate::runtime;

/// An engine that this process, or its parent, opened.
pub(crate) struct Handle(Mutex<Current>);

struct Current {
    forks: usize,
    engine: Arc<Engine>,
}

/// What was declared, and the engine made from it.
pub(crate) struct Engine {
    config: Config,
    sources: Mutex<Vec<Source>>,
    closed: AtomicBool,
    opened: OnceCell<Zmsg>,
}

#[derive(Clone)]
struct Source {
    pattern: String,
    task: Task,
    options: SourceOptions,
}

impl Engine {
    /// Not opened yet.
    pub(crate) fn new(config: Config) -> Engine {
        Engine { config, sources: Mutex::default(), closed: AtomicBool::new(false), opened: OnceCell::new() }
    }

    /// The engine, opened by the first call that needs it.
    pub(crate) async fn open(&self) -> Result<Zmsg> {
        if self.closed.load(Ordering::Acquire) && !self.opened.initialized() {
            return Err(Error::closed());
        }
        self.opened.get_or_try_init(|| self.make()).await.cloned()
    }

    async fn make(&self) -> Result<Zmsg> {
        let engine = Zmsg::open(self.config.clone()).await?;
        let sources = self.sources.lock().clone();
        for source in sources {
            engine.source(&source.pattern, source.task, source.options)?;
        }
        Ok(engine)
    }

    /// The engine if it is open.
    #[inline]
    pub(crate) fn opened(&self) -> Option<&Zmsg> {
        self.opened.get()
    }

    /// Declares a source here and in every child to come.
    pub(crate) fn declare(&self, pattern: &str, task: Task, options: SourceOptions) -> Result<()> {
        if let Some(engine) = self.opened() {
            engine.source(pattern, task.clone(), options.clone())?;
        }
        self.sources.lock().push(Source { pattern: pattern.to_owned(), task, options });
        Ok(())
    }

    /// Closes what is open; what is not will not be opened any more.
    pub(crate) async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        match self.opened() {
            Some(engine) => engine.close().await,
            None => Ok(()),
        }
    }

    /// Whether `close` was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn in_child(&self) -> Engine {
        Engine {
            config: self.config.clone(),
            sources: Mutex::new(self.sources.lock().clone()),
            closed: AtomicBool::new(self.is_closed()),
            opened: OnceCell::new(),
        }
    }
}

impl Handle {
    /// Around an engine of this process.
    pub(crate) fn new(engine: Arc<Engine>) -> Handle {
        Handle(Mutex::new(Current { forks: runtime::forks(), engine }))
    }

    /// This process's engine.
    pub(crate) fn current(&self, py: Python<'_>) -> PyResult<Arc<Engine>> {
        self.look(py, Arc::clone)
    }

    /// A look at this process's engine, without a reference of its own. `look` runs under the lock: no Python in it.
    #[inline]
    pub(crate) fn look<T>(&self, py: Python<'_>, look: impl FnOnce(&Arc<Engine>) -> T) -> PyResult<T> {
        let mut current = self.0.lock();
        if current.forks != runtime::forks() {
            drop(current);
            self.renew(py)?;
            current = self.0.lock();
        }
        Ok(look(&current.engine))
    }

    #[cold]
    fn renew(&self, py: Python<'_>) -> PyResult<()> {
        py.import("zmsg._logging")?.call_method0("start")?;
        let mut current = self.0.lock();
        // Another thread of the child may have been here meanwhile.
        if current.forks != runtime::forks() {
            let fresh = Arc::new(current.engine.in_child());
            mem::forget(mem::replace(&mut current.engine, fresh));
            current.forks = runtime::forks();
        }
        Ok(())
    }

    /// This process's engine, opened; a child waits here for it, once.
    pub(crate) fn opened(&self, py: Python<'_>) -> PyResult<Zmsg> {
        let engine = self.current(py)?;
        if let Some(opened) = engine.opened() {
            return Ok(opened.clone());
        }
        let runtime = runtime::handle(py).or_raise(py)?;
        py.detach(|| runtime.block_on(engine.open())).or_raise(py)
    }
}

/// An engine that nobody can close any more is closed in the background.
impl Drop for Handle {
    fn drop(&mut self) {
        let current = self.0.get_mut();
        let engine = current.engine.clone();
        if current.forks != runtime::forks() {
            mem::forget(engine);
        } else if let Some(runtime) = runtime::running().filter(|_| !engine.is_closed()) {
            runtime.spawn(async move { engine.close().await });
        }
    }
}
