//! The steps that are about the delay queue.

use serde_json::Value as Json;
use zmsg_core::config::{delay_from_argument, duration_from_argument, parse_duration};
use zmsg_core::engine::{DelayOptions, Zmsg};
use zmsg_core::error::Result;

use crate::verbs::{data, options, receipt};
use crate::{Stage, chain, json};

pub async fn run(stage: &mut Stage, zmsg: &Zmsg, verb: &str, step: &Json) -> Result<Json> {
    match verb {
        "done" => {
            let receipt = &stage.receipts[step["receipt"].as_str().expect("the name of a receipt")];
            let done = match step["timeout"].as_str() {
                Some(timeout) => receipt.done_within(parse_duration(timeout)?).await,
                None => receipt.done().await,
            };
            done.map(|()| Json::Null)
        }
        "cancel_delayed" => {
            let op_id = match step["receipt"].as_str() {
                Some(name) => stage.receipts[name].op_id(),
                None => json::text(&step["op_id"]).expect("an operation id"),
            };
            zmsg.cancel_delayed(&op_id).await.map(|cancelled| cancelled.word().into())
        }
        "pause_queue" => zmsg.pause_queue().await.map(|()| Json::Null),
        "resume_queue" => zmsg.resume_queue().await.map(|()| Json::Null),
        _ => write(stage, zmsg, verb, step).await,
    }
}

async fn write(stage: &mut Stage, zmsg: &Zmsg, verb: &str, step: &Json) -> Result<Json> {
    let (key, mut told) = (json::text(&step["key"]), Json::Null);
    for _ in 0..step["times"].as_u64().unwrap_or(1) {
        let (tasks, options) = (chain::tasks(&step["task"])?, delay_options(step)?);
        let accepted = if verb == "del_delay_store" {
            zmsg.del_delay_store(key.as_deref(), tasks, options).await?
        } else {
            zmsg.cache_and_delay_store(key.as_deref(), data(step), tasks, options).await?
        };
        told = receipt(&accepted);
        if let Some(name) = step["as"].as_str() {
            stage.receipts.insert(name.to_owned(), accepted);
        }
    }
    Ok(told)
}

fn delay_options(step: &Json) -> Result<DelayOptions> {
    let text = |name: &str| step[name].as_str();
    Ok(DelayOptions {
        write: options(step)?,
        delay: text("delay").map(|it| delay_from_argument(it.into(), "delay")).transpose()?,
        op_id: json::text(&step["op_id"]),
        coalesce: step["coalesce"] == true,
        task_timeout: text("task_timeout")
            .map(|it| duration_from_argument(it.into(), "task_timeout"))
            .transpose()?,
    })
}
