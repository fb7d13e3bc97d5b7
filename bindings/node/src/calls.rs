//! The environment's side of calls: making the queue, draining it, cancelling, the log, the error catalogue.

use std::panic::resume_unwind;
use std::sync::Arc;

use log::LevelFilter;
use napi::bindgen_prelude::{Array, External, Function};
use napi::{Env, Result};
use napi_derive::napi;

use crate::completions::{Calls, Completion};
use crate::engine::Engine;
use crate::errors;
use crate::logs;

/// The calls of this environment; `on_ready` is called when there is something to drain.
#[napi(catch_unwind)]
pub fn calls_open(on_ready: Function<'_, (), ()>) -> Result<External<Arc<Calls>>> {
    Ok(External::new(Calls::new(&on_ready)?))
}

/// What has ended since: a flat array of triples. `[id, null, reply]` is a success, `[id, error, undefined]` a failure,
/// `[0, level, message]` a line of the log.
#[napi(catch_unwind)]
pub fn calls_drain<'env>(env: &'env Env, calls: &External<Arc<Calls>>) -> Result<Array<'env>> {
    let completions = calls.drain();
    let mut array = env.create_array(completions.len() as u32 * 3)?;
    for (index, completion) in completions.into_iter().enumerate() {
        let at = index as u32 * 3;
        match completion {
            Completion::Done { id, reply: Ok(reply) } => {
                array.set(at, id)?;
                array.set(at + 1, napi::bindgen_prelude::Null)?;
                reply.put(env, &mut array, at + 2, |zmsg| Engine::new(zmsg, (*calls).clone()))?;
            }
            Completion::Done { id, reply: Err(error) } => {
                array.set(at, id)?;
                array.set(at + 1, errors::to_text(&error))?;
            }
            Completion::Log { level, message } => {
                array.set(at, 0)?;
                array.set(at + 1, level)?;
                array.set(at + 2, message)?;
            }
        }
    }
    Ok(array)
}

/// Gives up call `id`.
#[napi(catch_unwind)]
pub fn calls_cancel(calls: &External<Arc<Calls>>, id: u32) -> Result<()> {
    calls.cancel(id);
    Ok(())
}

/// Forwards the engine's log from `level` up; without a level no more.
#[napi(catch_unwind)]
pub fn calls_log(calls: &External<Arc<Calls>>, level: Option<String>) -> Result<()> {
    logs::forward(calls, level.and_then(|level| level.parse::<LevelFilter>().ok()));
    Ok(())
}

/// The kinds of errors as JSON text.
#[napi(catch_unwind)]
pub fn error_catalogue() -> Result<String> {
    Ok(errors::catalogue())
}

/// Panics, so that tests see what becomes of it: here, or in a task when `id` is given.
#[napi(catch_unwind)]
pub fn panic_for_test(calls: &External<Arc<Calls>>, id: Option<u32>) -> Result<()> {
    // `resume_unwind` is a panic without the report on stderr.
    let Some(id) = id else { resume_unwind(Box::new("asked to panic")) };
    calls.start(id, false, async { resume_unwind(Box::new("asked to panic")) }).map_err(errors::to_js)
}
