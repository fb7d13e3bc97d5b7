//! Steps of the cache toolbox.

use serde_json::{Value as Json, json};
use zmsg_core::config::Ttl;
use zmsg_core::engine::{Left, Zmsg};
use zmsg_core::error::Result;

use crate::json as written;
use crate::verbs::{data, options, texts};

pub async fn run(zmsg: &Zmsg, verb: &str, step: &Json) -> Result<Json> {
    let key = written::text(&step["key"]).unwrap_or_default();
    let prefix = step["prefix"].as_str().unwrap_or_default();
    let ttl = step["ttl"].as_str().map(Ttl::parse).transpose()?;
    match verb {
        "add" => zmsg.add(&key, data(step).expect("data"), options(step)?).await.map(Json::from),
        "touch" => zmsg.touch(&key, ttl).await.map(Json::from),
        // A time is told as whether there is one: how much is left is nobody's to foresee.
        "ttl" => Ok(match zmsg.ttl(&key).await? {
            Left::Nothing => Json::Null,
            Left::Forever => json!("never"),
            Left::For(_) => json!("some"),
        }),
        "incr" => {
            let by = match written::tagged(&step["by"]) {
                Some((_, digits)) => digits.as_str().and_then(|digits| digits.parse().ok()),
                None => step["by"].as_i64(),
            };
            let sum = zmsg.incr(&key, by.unwrap_or(1), ttl).await?;
            Ok(written::from_value(&zmsg_core::value::Value::Int(sum)))
        }
        "cache_many" => {
            let items = step["items"].as_object().expect("items").iter();
            let items =
                items.map(|(key, data)| (key.clone(), data.as_str().expect("a text").to_owned().into()));
            zmsg.cache_many(items.collect(), options(step)?).await.map(|()| Json::Null)
        }
        "delete_many" => zmsg.delete_many(&texts(step, "keys")).await.map(|()| Json::Null),
        "keys" => zmsg.keys(prefix).await.map(Json::from),
        "clear" => zmsg.clear(prefix).await.map(Json::from),
        "invalidate_tag" => {
            let tag = written::text(&step["tag"]).expect("a tag");
            zmsg.invalidate_tag(&tag).await.map(|()| Json::Null)
        }
        other => panic!("unknown verb {other}"),
    }
}
