//! The cache toolbox: what one does with the caches beside reading and writing them.

use std::iter::zip;

use napi::Result;
use napi::bindgen_prelude::{BigInt, External};
use napi_derive::napi;
use zmsg_core::engine::{Left, WriteOptions};
use zmsg_core::error::Error;
use zmsg_core::value::Value;

use crate::engine::{Call, Data, Engine, bytes, texts};
use crate::errors::to_js;
use crate::replies::Reply;
use crate::times::{Time, ttl};

#[napi(catch_unwind)]
pub fn add(
    engine: &External<Engine>,
    call: Call,
    key: String,
    data: Data,
    life: Time,
    tags: Vec<String>,
) -> Result<()> {
    let options = WriteOptions { ttl: ttl(&life, "ttl")?, tags, ..WriteOptions::default() };
    let data = bytes(data);
    engine.start(call, |zmsg| async move { zmsg.add(&key, data, options).await.map(Reply::Bool) })
}

#[napi(catch_unwind)]
pub fn touch(engine: &External<Engine>, call: Call, key: String, life: Time) -> Result<()> {
    let life = ttl(&life, "ttl")?;
    engine.start(call, move |zmsg| async move { zmsg.touch(&key, life).await.map(Reply::Bool) })
}

/// Milliseconds, `"never"`, or nothing.
#[napi(catch_unwind)]
pub fn ttl_of(engine: &External<Engine>, call: Call, key: String) -> Result<()> {
    engine.start(call, |zmsg| async move {
        Ok(match zmsg.ttl(&key).await? {
            Left::Nothing => Reply::Unit,
            Left::Forever => Reply::Word("never"),
            Left::For(left) => Reply::Number(left.as_millis() as f64),
        })
    })
}

#[napi(catch_unwind)]
pub fn incr(engine: &External<Engine>, call: Call, key: String, by: BigInt, life: Time) -> Result<()> {
    let (by, true) = by.get_i64() else { return Err(to_js(Error::task("by fits into 64 bits"))) };
    let life = ttl(&life, "ttl")?;
    engine.start(call, move |zmsg| async move {
        let sum = zmsg.incr(&key, by, life).await?;
        Ok(Reply::Value(Some(Value::Int(sum)), texts(&zmsg)))
    })
}

#[napi(catch_unwind)]
pub fn cache_many(
    engine: &External<Engine>,
    call: Call,
    keys: Vec<String>,
    data: Vec<Data>,
    life: Time,
    tags: Vec<String>,
) -> Result<()> {
    let options = WriteOptions { ttl: ttl(&life, "ttl")?, tags, ..WriteOptions::default() };
    let items = zip(keys, data.into_iter().map(bytes)).collect();
    engine.start(call, |zmsg| async move { zmsg.cache_many(items, options).await.map(|()| Reply::Unit) })
}

#[napi(catch_unwind)]
pub fn delete_many(engine: &External<Engine>, call: Call, keys: Vec<String>) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.delete_many(&keys).await.map(|()| Reply::Unit) })
}

#[napi(catch_unwind)]
pub fn keys(engine: &External<Engine>, call: Call, prefix: String) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.keys(&prefix).await.map(Reply::Texts) })
}

#[napi(catch_unwind)]
pub fn clear(engine: &External<Engine>, call: Call, prefix: String) -> Result<()> {
    engine
        .start(call, |zmsg| async move { zmsg.clear(&prefix).await.map(|count| Reply::Number(count as f64)) })
}

#[napi(catch_unwind)]
pub fn invalidate_tag(engine: &External<Engine>, call: Call, tag: String) -> Result<()> {
    engine.start(call, |zmsg| async move { zmsg.invalidate_tag(&tag).await.map(|()| Reply::Unit) })
}
