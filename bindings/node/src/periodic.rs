//! Aggregated writes: the verb, the flush, cells as they will be, receipts of what is still to be flushed, dead letters.

use std::panic::AssertUnwindSafe;

use napi::Result;
use napi::bindgen_prelude::{BigInt, External};
use napi_derive::napi;
use zmsg_core::engine::{Receipt, WriteOptions};
use zmsg_core::error::Error;

use crate::engine::{Call, Data, Engine, Lists, bytes, report, texts};
use crate::errors::to_js;
use crate::replies::Reply;
use crate::tasks::TaskList;
use crate::times::{Time, duration};

/// A write that was accepted and is applied later.
pub struct Accepted(AssertUnwindSafe<Receipt>);

impl Accepted {
    /// A handle for JavaScript.
    pub fn handle(receipt: Receipt) -> External<Accepted> {
        External::new(Accepted(AssertUnwindSafe(receipt)))
    }
}

/// Accepts tasks without data if that needs no waiting; `null` if it does. Nothing is awaited and no promise is made: this
/// is what a view or a like costs.
#[napi(catch_unwind)]
pub fn periodic_now(
    engine: &External<Engine>,
    key: Option<String>,
    tasks: &External<TaskList>,
) -> Result<Option<External<Accepted>>> {
    let options = WriteOptions::default();
    let accepted = tasks.with(|tasks| engine.zmsg().periodic_now(key.as_deref(), tasks, &options));
    accepted.map(|receipt| receipt.map(Accepted::handle)).map_err(to_js)
}

#[napi(catch_unwind)]
#[allow(clippy::too_many_arguments, reason = "they are the verb's; napi makes a second function of it")]
pub fn cache_and_periodic_store(
    engine: &External<Engine>,
    call: Call,
    key: Option<String>,
    data: Option<Data>,
    tasks: &External<TaskList>,
    life: Time,
    lists: Lists,
) -> Result<()> {
    let options = lists.options(&life)?;
    let (data, tasks) = (data.map(bytes), tasks.all());
    engine.start(call, |zmsg| async move {
        zmsg.cache_and_periodic_store(key.as_deref(), data, tasks, options).await.map(Reply::Accepted)
    })
}

/// Names the operation: made when it is asked for, since hardly anybody does.
#[napi(catch_unwind)]
pub fn receipt_op_id(accepted: &External<Accepted>) -> Result<String> {
    Ok(accepted.0.op_id())
}

/// Ends when the operation is committed, however long that takes unless the call has a timeout.
#[napi(catch_unwind)]
pub fn receipt_done(engine: &External<Engine>, call: Call, accepted: &External<Accepted>) -> Result<()> {
    let receipt = Receipt::clone(&accepted.0);
    let timeout = duration(&call.timeout, "timeout")?;
    engine.watch(call, |zmsg| async move {
        // An engine that JavaScript forgot lives until the write is applied: else nobody would end this.
        let _zmsg = zmsg;
        let done = match timeout {
            Some(timeout) => receipt.done_within(timeout).await,
            None => receipt.done().await,
        };
        done.map(|()| Reply::Unit)
    })
}

#[napi(catch_unwind)]
pub fn flush(engine: &External<Engine>, call: Call) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.flush().await.and_then(|done| report(&done)) })
}

#[napi(catch_unwind)]
pub fn pending(engine: &External<Engine>, call: Call, task: &External<TaskList>) -> Result<()> {
    let task = task.one("pending")?;
    engine.start(call, |zmsg| async move {
        zmsg.pending(&task).await.map(|value| Reply::Value(value, texts(&zmsg)))
    })
}

#[napi(catch_unwind)]
pub fn dead_letters(engine: &External<Engine>, call: Call, after: BigInt, limit: i64) -> Result<()> {
    let after = letter_id(&after)?;
    // What does not fit is no limit either.
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    engine.start(
        call,
        move |zmsg| async move { zmsg.dead_letters_after(after, limit).await.map(Reply::Letters) },
    )
}

#[napi(catch_unwind)]
pub fn retry_dead(engine: &External<Engine>, call: Call, id: BigInt) -> Result<()> {
    let id = letter_id(&id)?;
    engine.start(call, |zmsg| async move { zmsg.retry_dead(id).await.map(|()| Reply::Unit) })
}

#[napi(catch_unwind)]
pub fn retry_all_dead(engine: &External<Engine>, call: Call) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.retry_all_dead().await.and_then(|done| report(&done)) })
}

#[napi(catch_unwind)]
pub fn drop_dead(engine: &External<Engine>, call: Call, id: BigInt) -> Result<()> {
    let id = letter_id(&id)?;
    engine.start(call, |zmsg| async move { zmsg.drop_dead(id).await.map(|()| Reply::Unit) })
}

fn letter_id(id: &BigInt) -> Result<i64> {
    match id.get_i64() {
        (id, true) => Ok(id),
        _ => Err(to_js(Error::task("the id of a dead letter fits into 64 bits"))),
    }
}
