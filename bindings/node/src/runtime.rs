//! The one tokio runtime of the process, started by the first call that needs it.
//!
//! Every JavaScript environment (the main thread, each worker) shares it. It is never shut down: at exit the process
//! takes its threads with it, and what they still hold is nothing that an acknowledged write needs.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use zmsg_core::error::{Error, ErrorKind, Result};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

fn runtime() -> Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let started = Builder::new_multi_thread().thread_name("zmsg").enable_all().build().map_err(|error| {
        Error::new(ErrorKind::Internal, "the engine's threads could not be started").with_source(error)
    })?;
    // Two environments may race here; the loser's runtime has run nothing and goes away.
    if let Err(spare) = RUNTIME.set(started) {
        spare.shutdown_background();
    }
    RUNTIME.get().ok_or_else(|| Error::new(ErrorKind::Internal, "the engine's threads are not there"))
}

/// Runs `work` on the runtime.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    runtime()?.spawn(work);
    Ok(())
}
