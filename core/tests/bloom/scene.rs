//! One test's database, with a family of keys that has a filter.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;
use zmsg_core::engine::{BloomFigures, SourceOptions, WriteOptions, Zmsg};
use zmsg_core::sql::{Task, sql};

use crate::support::engine::{Setup, until};
use crate::support::{TestDatabase, database, redis_addr};

const SCHEMA: &str = "CREATE TABLE feeds (id text PRIMARY KEY, content text NOT NULL DEFAULT ''); \
     INSERT INTO feeds SELECT 'feed_' || n, n FROM generate_series(1, 1000) AS n";

pub const PATTERN: &str = "feed_*";

/// See the head of this file.
pub struct Scene {
    pub database: TestDatabase,
    pub setup: Setup,
    pub client: Client,
}

impl Scene {
    pub async fn new() -> Scene {
        let database = database().await;
        let setup = Setup::of(&database).with("bloom_capacity", 2_000);
        let client = database.client().await;
        client.batch_execute(SCHEMA).await.unwrap();
        Scene { database, setup, client }
    }

    /// An engine whose family has a filter that answers.
    pub async fn open(&self) -> Zmsg {
        let zm = self.setup.open().await;
        declare(&zm);
        serving(&zm).await;
        zm
    }

    /// A number of `zmsg_bloom`, or a comparison.
    pub async fn row(&self, what: &str) -> i64 {
        let rows =
            self.client.query(&format!("SELECT ({what})::int::bigint FROM zmsg_bloom"), &[]).await.unwrap();
        rows.first().map_or(-1, |row| row.get(0))
    }

    /// The strings of the filter in Redis, chunks last.
    pub async fn strings(&self, redis: &mut MultiplexedConnection) -> Vec<String> {
        let pattern = format!("{}:b:*", self.setup.namespace());
        let mut keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(redis).await.unwrap();
        keys.sort();
        keys
    }
}

pub async fn redis_at(addr: &str) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{addr}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

pub async fn shared_redis() -> MultiplexedConnection {
    redis_at(&redis_addr()).await
}

pub fn declare(zm: &Zmsg) {
    let options =
        SourceOptions { bloom: true, keys: Some(task("SELECT id FROM feeds")), ..SourceOptions::default() };
    zm.source(PATTERN, task("SELECT content FROM feeds WHERE id = ?"), options).unwrap();
}

pub fn task(text: &str) -> Task {
    sql(text, ()).unwrap()
}

pub fn insert(id: &str) -> Task {
    sql("INSERT INTO feeds (id, content) VALUES (?, 'new') ON CONFLICT DO NOTHING", [id]).unwrap()
}

pub fn figures(zm: &Zmsg) -> BloomFigures {
    zm.stats().bloom.into_iter().find(|it| it.pattern == PATTERN).unwrap()
}

/// Waits until the filter answers.
pub async fn serving(zm: &Zmsg) {
    until("the filter answers", async || figures(zm).state == "serving").await;
}

/// Waits for a generation after this one.
pub async fn built_after(zm: &Zmsg, generation: u64) {
    until("the filter is built anew", async || {
        let now = figures(zm);
        now.state == "serving" && now.generation > generation
    })
    .await;
}

pub async fn store(zm: &Zmsg, key: &str) {
    zm.cache_and_store(Some(key), Some(Bytes::from_static(b"new")), insert(key), WriteOptions::default())
        .await
        .unwrap();
}
