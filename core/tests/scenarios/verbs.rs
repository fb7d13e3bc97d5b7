//! One step of a scenario as one call of the engine.

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};
use zmsg_core::config::{Ttl, parse_duration};
use zmsg_core::engine::{Receipt, SourceOptions, WriteOptions, Zmsg};
use zmsg_core::error::{Error, Result};

use crate::{Stage, chain, delayed, json, toolbox};

/// The verbs whose `expect` names only some of what comes back.
pub fn compares_some_keys(verb: &str) -> bool {
    matches!(
        verb,
        "cache_and_store"
            | "cache_and_periodic_store"
            | "cache_and_delay_store"
            | "del_delay_store"
            | "del_store"
            | "flush"
            | "dead_letters"
            | "sql_exec"
            | "health"
            | "stats"
            | "migrate"
            | "next_id"
    )
}

pub async fn run(stage: &mut Stage, step: &Json) -> Result<Json> {
    let verb = step["do"].as_str().expect("a step has a verb");
    if verb == "open" {
        return Zmsg::open(stage.config(step.get("config"))?).await.map(|_| Json::Null);
    }
    if verb == "render" {
        return chain::task(&step["task"]).map(|task| {
            let rendered = task.render();
            json!({ "sql": &*rendered.sql, "params": rendered.params.iter().map(json::from_value).collect::<Vec<_>>() })
        });
    }
    let timeout = step["timeout"].as_str().map(parse_duration).transpose()?;
    let zmsg = stage.engine(step["engine"].as_str().unwrap_or("a")).await?.with_timeout(timeout);
    match verb {
        "get" | "peek" | "get_text" | "get_json" => read(&zmsg, verb, step).await,
        "get_many" => get_many(&zmsg, step).await,
        "cache_only" | "del" | "cache_and_store" | "del_store" => write(&zmsg, verb, step).await,
        "cache_and_periodic_store" => periodic(&zmsg, step).await,
        "cache_and_delay_store"
        | "del_delay_store"
        | "done"
        | "cancel_delayed"
        | "pause_queue"
        | "resume_queue" => delayed::run(stage, &zmsg, verb, step).await,
        "add" | "touch" | "ttl" | "incr" | "cache_many" | "delete_many" | "keys" | "clear"
        | "invalidate_tag" => toolbox::run(&zmsg, verb, step).await,
        "flush" => Ok(serde_json::to_value(zmsg.flush().await?).expect("a report is data")),
        "pending" => {
            let value = zmsg.pending(&chain::task(&step["task"])?).await?;
            Ok(value.as_ref().map_or(Json::Null, json::from_value))
        }
        "dead_letters" => dead_letters(&zmsg, step).await,
        "retry_dead" => zmsg.retry_dead(letter(&zmsg, step).await?).await.map(|()| Json::Null),
        "retry_all_dead" => Ok(serde_json::to_value(zmsg.retry_all_dead().await?).expect("a report is data")),
        "drop_dead" => zmsg.drop_dead(letter(&zmsg, step).await?).await.map(|()| Json::Null),
        "sql_exec" => {
            let done = zmsg.sql_exec(chain::tasks(&step["task"])?).await?;
            Ok(json!({ "rows_affected": done.rows_affected, "rows": json::from_rows(&done.rows) }))
        }
        "query" => Ok(json::from_rows(&zmsg.query(chain::task(&step["task"])?).await?)),
        "source" => source(&zmsg, step),
        "next_id" => next_id(&zmsg, step),
        "migrate" => migrate(&zmsg, step).await,
        "health" => Ok(serde_json::to_value(zmsg.health().await?).expect("health is data")),
        "stats" => Ok(serde_json::to_value(zmsg.stats()).expect("stats are data")),
        "close" => zmsg.close().await.map(|()| Json::Null),
        other => panic!("unknown verb {other}"),
    }
}

fn key(step: &Json) -> String {
    json::text(&step["key"]).expect("a key")
}

fn shown(data: Option<Bytes>) -> Json {
    match data {
        None => Json::Null,
        Some(data) => match std::str::from_utf8(&data) {
            Ok(text) => json!(text),
            Err(_) => json::from_value(&zmsg_core::value::Value::bytes(&data[..])),
        },
    }
}

async fn read(zmsg: &Zmsg, verb: &str, step: &Json) -> Result<Json> {
    let key = key(step);
    let data = match verb {
        "peek" => zmsg.peek(&key)?,
        _ if step["required"] == true => Some(zmsg.get_required(&key).await?),
        _ => zmsg.get(&key).await?,
    };
    match (verb, data) {
        ("get_json", Some(data)) => Ok(serde_json::from_slice(&data).expect("the value is JSON")),
        // `{"$bytes": …}` is expected wherever it is written, text or not.
        (_, Some(data)) if json::tagged(&step["expect"]).is_some_and(|(tag, _)| tag == "bytes") => {
            Ok(json::from_value(&zmsg_core::value::Value::bytes(&data[..])))
        }
        (_, data) => Ok(shown(data)),
    }
}

async fn get_many(zmsg: &Zmsg, step: &Json) -> Result<Json> {
    let keys: Vec<String> =
        step["keys"].as_array().expect("keys").iter().map(|key| json::text(key).expect("a key")).collect();
    let found = zmsg.get_many(&keys).await?;
    assert_eq!(found.len(), keys.len(), "one result per key");
    let there =
        keys.into_iter().zip(found).filter_map(|(key, data)| data.map(|data| (key, shown(Some(data)))));
    Ok(there.collect::<Map<_, _>>().into())
}

pub fn data(step: &Json) -> Option<Bytes> {
    match (&step["data"], json::tagged(&step["data"])) {
        (Json::Null, _) => None,
        (_, Some(("bytes", hexadecimal))) => {
            Some(json::bytes(hexadecimal.as_str().expect("hexadecimal")).into())
        }
        (_, Some(("json", inner))) => Some(inner.to_string().into()),
        (data, _) => Some(json::text(data).expect("data").into()),
    }
}

pub fn options(step: &Json) -> Result<WriteOptions> {
    let ttl = step["ttl"].as_str().map(Ttl::parse).transpose()?;
    let [invalidates, bloom_keys, tags] = ["invalidates", "bloom_keys", "tags"].map(|name| texts(step, name));
    Ok(WriteOptions { ttl, invalidates, bloom_keys, tags })
}

pub fn texts(step: &Json, name: &str) -> Vec<String> {
    let given = step[name].as_array().into_iter().flatten();
    given.map(|text| json::text(text).expect("a text")).collect()
}

async fn write(zmsg: &Zmsg, verb: &str, step: &Json) -> Result<Json> {
    let key = json::text(&step["key"]);
    match verb {
        "cache_only" => {
            // Rust has no null data: the type says so. The other languages check it.
            let Some(data) = data(step) else { return Err(Error::task("cache_only needs data")) };
            zmsg.cache_only(&key.expect("a key"), data, options(step)?).await.map(|()| Json::Null)
        }
        "del" => zmsg.del(&key.expect("a key")).await.map(|()| Json::Null),
        "del_store" => {
            Ok(receipt(&zmsg.del_store(key.as_deref(), chain::tasks(&step["task"])?, options(step)?).await?))
        }
        _ => {
            let tasks = chain::tasks(&step["task"])?;
            Ok(receipt(&zmsg.cache_and_store(key.as_deref(), data(step), tasks, options(step)?).await?))
        }
    }
}

async fn dead_letters(zmsg: &Zmsg, step: &Json) -> Result<Json> {
    let after = if step["nth"].is_u64() { letter(zmsg, step).await? } else { 0 };
    let letters = match step["limit"].as_u64() {
        None if after == 0 => zmsg.dead_letters().await?,
        limit => zmsg.dead_letters_after(after, limit.unwrap_or(10_000) as u32).await?,
    };
    Ok(serde_json::to_value(letters).expect("letters are data"))
}

/// The id of the letter that the step means.
async fn letter(zmsg: &Zmsg, step: &Json) -> Result<i64> {
    match (step["id"].as_i64(), step["nth"].as_u64()) {
        (Some(id), _) => Ok(id),
        (None, Some(nth)) => Ok(zmsg.dead_letters().await?[nth as usize].id),
        (None, None) => panic!("a letter is named by nth or id"),
    }
}

async fn periodic(zmsg: &Zmsg, step: &Json) -> Result<Json> {
    let (key, mut told) = (json::text(&step["key"]), Json::Null);
    for _ in 0..step["times"].as_u64().unwrap_or(1) {
        let tasks = chain::tasks(&step["task"])?;
        let accepted = zmsg.cache_and_periodic_store(key.as_deref(), data(step), tasks, options(step)?);
        told = receipt(&accepted.await?);
    }
    Ok(told)
}

pub fn receipt(receipt: &Receipt) -> Json {
    assert!(!receipt.op_id().is_empty(), "a receipt has an operation id");
    json!({
        "rows_affected": receipt.rows_affected,
        "rows": json::from_rows(&receipt.rows),
        "durability": receipt.durability,
        "cached": receipt.cached,
    })
}

fn source(zmsg: &Zmsg, step: &Json) -> Result<Json> {
    let options = SourceOptions {
        ttl: step["ttl"].as_str().map(Ttl::parse).transpose()?,
        absent_ttl: step["absent_ttl"].as_str().map(parse_duration).transpose()?,
        stale_ttl: step["stale_ttl"].as_str().map(parse_duration).transpose()?,
        bloom: step["bloom"].as_bool().unwrap_or_default(),
        keys: step["keys"].as_str().map(|text| zmsg_core::sql::sql(text, ())).transpose()?,
        ..SourceOptions::default()
    };
    zmsg.source(step["pattern"].as_str().expect("a pattern"), chain::task(&step["task"])?, options)
        .map(|()| Json::Null)
}

fn next_id(zmsg: &Zmsg, step: &Json) -> Result<Json> {
    let Some(prefix) = step["prefix"].as_str() else {
        return Ok(json!({ "number": zmsg.next_id_number()? > 0 }));
    };
    let id = zmsg.next_id(prefix)?;
    let number = id
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .expect("the prefix and an underscore");
    assert!(number.parse::<i64>().is_ok_and(|number| number > 0), "{id} ends in a decimal number");
    Ok(json!({ "prefix": format!("{prefix}_") }))
}

async fn migrate(zmsg: &Zmsg, step: &Json) -> Result<Json> {
    let (text, name) = (step["sql"].as_str().expect("sql"), step["name"].as_str().expect("a name"));
    let loaded = zmsg.load_sql(text, name)?;
    Ok(serde_json::to_value(loaded.migrate().await?).expect("a report is data"))
}
