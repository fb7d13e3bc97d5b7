//! Whether a Redis is one to keep a queue in.

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;

/// The class of durability of a Redis, if it keeps what it is given.
pub(super) async fn durability_of(redis: &Redis, config: &Config) -> Result<&'static str> {
    let of_queue = |error: Error| Error::new(ErrorKind::Queue, error.message().to_owned()).with_source(error);
    let ask = async |section, name| redis.info(section, name, config.connect_timeout).await.map_err(of_queue);
    let policy = ask("memory", "maxmemory_policy").await?.unwrap_or_default();
    let bound = ask("memory", "maxmemory").await?.is_some_and(|bound| bound != "0");
    if policy.starts_with("allkeys") && bound && !config.queue.allow_eviction {
        return Err(Error::config(format!(
            "queue.addr: Redis at {} has the maxmemory-policy {policy}, which may evict delayed writes; set it to noeviction or \
             volatile-…, name another Redis, or set queue.allow_eviction: true to accept that they may be lost",
            redis.endpoint()
        )));
    }
    let appends = ask("persistence", "aof_enabled").await?.is_some_and(|it| it == "1");
    Ok(if appends { "redis_aof" } else { "redis" })
}
