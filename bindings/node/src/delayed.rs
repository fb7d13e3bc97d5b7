//! Delayed writes: the verbs, and what is done to the queue.

use napi::bindgen_prelude::External;
use napi::{Either, Result};
use napi_derive::napi;
use zmsg_core::engine::DelayOptions;

use crate::engine::{Call, Data, Engine, Lists, bytes};
use crate::replies::Reply;
use crate::tasks::TaskList;
use crate::times::{delay, duration};

/// The options of a delayed write.
#[napi(object)]
pub struct Delay {
    pub ttl: Option<Either<f64, String>>,
    pub lists: Lists,
    pub delay: Option<Either<f64, String>>,
    pub op_id: Option<String>,
    pub coalesce: bool,
    pub task_timeout: Option<Either<f64, String>>,
}

impl Delay {
    fn options(self) -> Result<DelayOptions> {
        Ok(DelayOptions {
            write: self.lists.options(&self.ttl)?,
            delay: delay(&self.delay, "delay")?,
            op_id: self.op_id,
            coalesce: self.coalesce,
            task_timeout: duration(&self.task_timeout, "taskTimeout")?,
        })
    }
}

#[napi(catch_unwind)]
pub fn cache_and_delay_store(
    engine: &External<Engine>,
    call: Call,
    key: Option<String>,
    data: Option<Data>,
    tasks: &External<TaskList>,
    options: Delay,
) -> Result<()> {
    let (data, tasks, options) = (data.map(bytes), tasks.all(), options.options()?);
    engine.start(call, |zmsg| async move {
        zmsg.cache_and_delay_store(key.as_deref(), data, tasks, options).await.map(Reply::Accepted)
    })
}

#[napi(catch_unwind)]
pub fn del_delay_store(
    engine: &External<Engine>,
    call: Call,
    key: Option<String>,
    tasks: &External<TaskList>,
    options: Delay,
) -> Result<()> {
    let (tasks, options) = (tasks.all(), options.options()?);
    engine.start(call, |zmsg| async move {
        zmsg.del_delay_store(key.as_deref(), tasks, options).await.map(Reply::Accepted)
    })
}

#[napi(catch_unwind)]
pub fn cancel_delayed(engine: &External<Engine>, call: Call, op_id: String) -> Result<()> {
    engine.start(call, |zmsg| async move {
        zmsg.cancel_delayed(&op_id).await.map(|cancelled| Reply::Word(cancelled.word()))
    })
}

#[napi(catch_unwind)]
pub fn pause_queue(engine: &External<Engine>, call: Call) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.pause_queue().await.map(|()| Reply::Unit) })
}

#[napi(catch_unwind)]
pub fn resume_queue(engine: &External<Engine>, call: Call) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.resume_queue().await.map(|()| Reply::Unit) })
}
