//! The duty to load a key with the caller's own function, which runs in JavaScript.

use std::panic::AssertUnwindSafe;

use napi::bindgen_prelude::External;
use napi::{Either, Result};
use napi_derive::napi;
use parking_lot::Mutex;
use zmsg_core::engine::{LoadGuard, LoadOptions};
use zmsg_core::error::{Error, ErrorKind, Result as CoreResult};

use crate::engine::{Call, Data, Engine, bytes};
use crate::errors::to_js;
use crate::replies::Reply;
use crate::times::{delay, duration, ttl};

/// A guard of the core. What JavaScript forgets without a result goes to somebody who waits.
pub struct Load(AssertUnwindSafe<Mutex<Option<LoadGuard>>>);

impl Load {
    /// A handle for JavaScript.
    pub fn handle(guard: LoadGuard) -> External<Load> {
        External::new(Load(AssertUnwindSafe(Mutex::new(Some(guard)))))
    }

    fn take(&self) -> CoreResult<LoadGuard> {
        let over = || Error::new(ErrorKind::Internal, "this load has its result already");
        self.0.lock().take().ok_or_else(over)
    }
}

/// How long what is loaded lives.
#[napi(object)]
pub struct Life {
    pub ttl: Option<Either<f64, String>>,
    pub absent_ttl: Option<Either<f64, String>>,
    pub stale_ttl: Option<Either<f64, String>>,
    pub soft_timeout: Option<Either<f64, String>>,
}

impl Life {
    /// As the core wants it.
    pub fn options(&self) -> Result<LoadOptions> {
        Ok(LoadOptions {
            ttl: ttl(&self.ttl, "ttl")?,
            absent_ttl: duration(&self.absent_ttl, "absentTtl")?,
            stale_ttl: delay(&self.stale_ttl, "staleTtl")?,
            soft_timeout: delay(&self.soft_timeout, "softTimeout")?,
        })
    }
}

/// Gives the value, or the duty to load it.
#[napi(catch_unwind)]
pub fn get_or_begin(engine: &External<Engine>, call: Call, key: String, life: Life) -> Result<()> {
    let options = life.options()?;
    engine.start(call, |zmsg| async move {
        zmsg.get_or_begin(&key, &options).await.map(|begun| Reply::Begun(Box::new(begun)))
    })
}

/// The loader gave this, or an absence.
#[napi(catch_unwind)]
pub fn load_complete(
    engine: &External<Engine>,
    call: Call,
    load: &External<Load>,
    data: Option<Data>,
) -> Result<()> {
    let (guard, data) = (load.take().map_err(to_js)?, data.map(bytes));
    engine.watch(call, |_| async move { Ok(Reply::Data(guard.complete(data).await)) })
}

/// The loader failed: gives the last good value, if there is one.
#[napi(catch_unwind)]
pub fn load_fail(engine: &External<Engine>, call: Call, load: &External<Load>, cause: String) -> Result<()> {
    let guard = load.take().map_err(to_js)?;
    engine.watch(call, |_| async move {
        let error = guard.failure(&cause);
        Ok(Reply::LastGood(guard.fail(error).await.ok()))
    })
}

/// The last good value, if there is one; the load goes on.
#[napi(catch_unwind)]
pub fn load_last_good(engine: &External<Engine>, call: Call, load: &External<Load>) -> Result<()> {
    let found = load.0.lock().as_ref().map(LoadGuard::last_good);
    engine.watch(call, |_| async move {
        Ok(Reply::LastGood(match found {
            Some(found) => found.await,
            // It ended just now.
            None => None,
        }))
    })
}

/// Leaves the load to somebody else.
#[napi(catch_unwind)]
pub fn load_give_up(load: &External<Load>) -> Result<()> {
    drop(load.0.lock().take());
    Ok(())
}
