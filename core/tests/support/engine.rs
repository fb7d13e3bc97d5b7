//! Engines on a test's own database and namespace, directly or through a proxy.

use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};
use zmsg_core::config::{Config, ConfigInput};
use zmsg_core::engine::Zmsg;
use zmsg_core::error::Result;

use super::proxy::Proxy;
use super::{TestDatabase, namespace, queue_addr, redis_addr};

/// How a test opens its engines. They share a namespace unless they are told not to.
#[derive(Clone)]
pub struct Setup(Map<String, Json>);

impl Setup {
    /// Everything as it is by default, but for journals: these would be in the user's home.
    pub fn of(database: &TestDatabase) -> Setup {
        Setup(Map::new())
            .with("journal", "memory")
            .with("postgres_dsn", database.dsn.as_str())
            .with("redis_addr", redis_addr())
            .with("queue", json!({ "addr": queue_addr() }))
            .with("namespace", namespace())
    }

    /// One setting changed.
    pub fn with(mut self, key: &str, value: impl Into<Json>) -> Setup {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// One setting of the queue changed.
    pub fn with_queue(mut self, key: &str, value: impl Into<Json>) -> Setup {
        self.0["queue"].as_object_mut().expect("settings of the queue").insert(key.to_owned(), value.into());
        self
    }

    /// The settings as text, for a process of the test.
    pub fn text(&self) -> String {
        Json::Object(self.0.clone()).to_string()
    }

    /// What [`Setup::text`] gave.
    pub fn parse(text: &str) -> Setup {
        Setup(serde_json::from_str(text).expect("settings"))
    }

    /// PostgreSQL behind a proxy.
    pub fn postgres_behind(self, proxy: &Proxy, database: &TestDatabase) -> Setup {
        self.with("postgres_dsn", database.dsn_through(proxy.address))
    }

    /// Redis behind a proxy.
    pub fn redis_behind(self, proxy: &Proxy) -> Setup {
        self.with("redis_addr", proxy.address.to_string())
    }

    /// The namespace of the Redis keys.
    pub fn namespace(&self) -> &str {
        self.0["namespace"].as_str().expect("a namespace")
    }

    /// The queue's Redis behind a proxy.
    pub fn queue_behind(self, proxy: &Proxy) -> Setup {
        self.with_queue("addr", proxy.address.to_string())
    }

    /// Opens an engine.
    pub async fn try_open(&self) -> Result<Zmsg> {
        let input = ConfigInput { arguments: self.0.clone(), ..ConfigInput::default() };
        Zmsg::open(Config::resolve(input).expect("the test's settings are right")).await
    }

    /// Opens an engine on servers that are there.
    pub async fn open(&self) -> Zmsg {
        self.try_open().await.expect("the engine opens")
    }
}

/// Runs `work` and holds it to a time that is far above what it may need and far below a hang.
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let done = tokio::time::timeout(Duration::from_secs(40), work).await;
    let took = started.elapsed();
    assert!(took <= limit, "{what} took {took:?}, more than {limit:?}");
    done.expect("it ended in time")
}

/// Asks again and again until the answer is yes.
pub async fn until(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !question().await {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
