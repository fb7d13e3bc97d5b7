//! What the tests play on: a table of feeds, a source that can be held up, engines that share it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use zmsg_core::engine::{Receipt, SourceOptions, WriteOptions, Zmsg};
use zmsg_core::error::Result;
use zmsg_core::sql::Task;
use zmsg_core::value::Value;

use crate::support::engine::{Setup, until};
use crate::support::{TestDatabase, database, redis_addr, task};

/// `gate` waits while a test holds the lock. A statement has its snapshot by then, so what it gives is from before.
const TABLES: &str = "\
CREATE TABLE feeds (id text PRIMARY KEY, content text NOT NULL);
CREATE FUNCTION gate(content text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(1);
  RETURN content;
END $$";

/// A database with the tables, and how to open engines on it.
pub struct Scene {
    pub database: TestDatabase,
    pub setup: Setup,
    pub outside: Client,
}

/// While this lives, whatever passes `gate` waits.
pub struct Gate<'a>(&'a Scene, Client);

impl Scene {
    pub async fn new() -> Scene {
        let database = database().await;
        let outside = database.client().await;
        outside.batch_execute(TABLES).await.unwrap();
        let setup = Setup::of(&database);
        Scene { database, setup, outside }
    }

    /// An engine of its own, as another process would have, with the source declared.
    pub async fn engine(&self) -> Zmsg {
        let zmsg = self.setup.open().await;
        declare(&zmsg);
        zmsg
    }

    /// An engine without a source, so that it sees what is in Redis and nothing else.
    pub async fn redis_view(&self) -> Zmsg {
        self.setup.open().await
    }

    /// Removes what Redis has under a key, as an eviction would.
    pub async fn forget_in_redis(&self, key: &str) {
        let mut redis = redis::Client::open(format!("redis://{}", redis_addr()))
            .unwrap()
            .get_multiplexed_async_connection()
            .await
            .unwrap();
        let full = format!("{}:v:{{.{key}}}", self.setup.namespace());
        let gone: u64 = redis::cmd("DEL").arg(full).query_async(&mut redis).await.unwrap();
        assert_eq!(gone, 1);
    }

    /// Writes past zmsg.
    pub async fn insert(&self, key: &str, content: &str) {
        let insert = "INSERT INTO feeds (id, content) VALUES ($1, $2)";
        assert_eq!(self.outside.execute(insert, &[&key, &content]).await.unwrap(), 1);
    }

    /// What the table has.
    pub async fn row(&self, key: &str) -> Option<String> {
        let row = self.outside.query_opt("SELECT content FROM feeds WHERE id = $1", &[&key]).await.unwrap();
        row.map(|row| row.get(0))
    }

    pub async fn rows(&self) -> i64 {
        self.outside.query_one("SELECT count(*) FROM feeds", &[]).await.unwrap().get(0)
    }

    /// Closes the gate.
    pub async fn close_gate(&self) -> Gate<'_> {
        let client = self.database.client().await;
        client.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
        Gate(self, client)
    }
}

impl Gate<'_> {
    /// Waits until so many statements stand at the gate.
    pub async fn waited_for_by(&self, count: i64) {
        let ask = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        until("statements at the gate", async || {
            self.0.outside.query_one(ask, &[]).await.unwrap().get::<_, i64>(0) == count
        })
        .await;
    }

    pub async fn open(self) {
        self.1.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    }
}

/// Feeds are read from their table, `slow_…` through the gate.
pub fn declare(zmsg: &Zmsg) {
    let whole = task("SELECT content FROM feeds WHERE id = ?", &[]);
    zmsg.source("feed_*", whole, SourceOptions::default()).unwrap();
    let slow = task("SELECT gate(content) FROM feeds WHERE id = ?", &[]);
    zmsg.source("slow_*", slow, SourceOptions::default()).unwrap();
}

pub fn text(content: &str) -> Bytes {
    Bytes::copy_from_slice(content.as_bytes())
}

pub fn some(content: &str) -> Option<Bytes> {
    Some(text(content))
}

/// Inserts a row, and fails if it is there.
pub fn insert(key: &str, content: &str) -> Task {
    task("INSERT INTO feeds (id, content) VALUES (?, ?)", &[Value::text(key), Value::text(content)])
}

/// Inserts or replaces a row.
pub fn put(key: &str, content: &str) -> Task {
    task(
        "INSERT INTO feeds (id, content) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content",
        &[Value::text(key), Value::text(content)],
    )
}

/// Stores a row and caches it under its own id.
pub async fn write(zmsg: &Zmsg, key: &str, content: &str) -> Result<Receipt> {
    zmsg.cache_and_store(Some(key), some(content), put(key, content), WriteOptions::default()).await
}

/// A `get` that runs by itself.
pub fn getting(zmsg: &Zmsg, key: &str) -> JoinHandle<Result<Option<Bytes>>> {
    let (zmsg, key) = (zmsg.clone(), Arc::<str>::from(key));
    tokio::spawn(async move { zmsg.get(&key).await })
}
