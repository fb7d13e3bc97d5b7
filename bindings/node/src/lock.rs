//! Locks: taken as a call, held by a handle, given back when JavaScript has no handle any more.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use napi::Result;
use napi::bindgen_prelude::{BigInt, External};
use napi_derive::napi;
use zmsg_core::engine::{Lock, LockOptions};

use crate::engine::{Call, Engine};
use crate::replies::Reply;
use crate::times::{Time, delay, duration};

/// A lock that is or was held.
pub struct Held(AssertUnwindSafe<Arc<Lock>>);

impl Held {
    /// A handle for JavaScript.
    pub fn handle(lock: Lock) -> External<Held> {
        External::new(Held(AssertUnwindSafe(Arc::new(lock))))
    }
}

#[napi(catch_unwind)]
pub fn lock(engine: &External<Engine>, call: Call, name: String, life: Time, wait: Time) -> Result<()> {
    let options = LockOptions { ttl: duration(&life, "ttl")?, wait: delay(&wait, "wait")? };
    engine.start(call, move |zmsg| async move { zmsg.lock(&name, options).await.map(Reply::Lock) })
}

#[napi(catch_unwind)]
pub fn lock_token(held: &External<Held>) -> Result<BigInt> {
    Ok(BigInt::from(held.0.token()))
}

#[napi(catch_unwind)]
pub fn lock_is_held(held: &External<Held>) -> Result<bool> {
    Ok(held.0.is_held())
}

#[napi(catch_unwind)]
pub fn lock_extend(engine: &External<Engine>, call: Call, held: &External<Held>) -> Result<()> {
    let lock = Arc::clone(&held.0);
    engine.watch(call, |_| async move { lock.extend().await.map(Reply::Bool) })
}

#[napi(catch_unwind)]
pub fn lock_release(engine: &External<Engine>, call: Call, held: &External<Held>) -> Result<()> {
    let lock = Arc::clone(&held.0);
    engine.watch(call, |_| async move { lock.release().await.map(Reply::Bool) })
}

/// Ends when it is lost or given back.
#[napi(catch_unwind)]
pub fn lock_lost(engine: &External<Engine>, call: Call, held: &External<Held>) -> Result<()> {
    let lost = held.0.when_lost();
    engine.watch(call, |_| async move {
        lost.await;
        Ok(Reply::Unit)
    })
}
