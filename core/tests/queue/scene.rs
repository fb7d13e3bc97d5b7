//! One test's database and its engines.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Client;
use zmsg_core::engine::{DelayOptions, Receipt, Zmsg};
use zmsg_core::sql::{Task, params, sql};

use crate::support::engine::Setup;
use crate::support::{TestDatabase, database};

/// What the operations of tests do: each leaves a row that numbers itself, so that the order shows.
const SCHEMA: &str = "CREATE TABLE effects (n bigserial PRIMARY KEY, key text, what text NOT NULL); \
     CREATE TABLE meta (id text PRIMARY KEY, likes int NOT NULL DEFAULT 0); \
     INSERT INTO meta (id) SELECT 'f' || n FROM generate_series(1, 20) AS n";

/// See the head of this file.
pub struct Scene {
    database: TestDatabase,
    pub setup: Setup,
    pub client: Client,
}

impl Scene {
    pub async fn new() -> Scene {
        Scene::on(database().await).await
    }

    /// The same on a database that is there.
    pub async fn on(database: TestDatabase) -> Scene {
        let setup = Setup::of(&database);
        let client = database.client().await;
        client.batch_execute(SCHEMA).await.unwrap();
        Scene { database, setup, client }
    }

    /// After the server was away.
    pub async fn reconnect(&mut self) {
        self.client = self.database.client().await;
    }

    pub async fn open(&self) -> Zmsg {
        self.setup.open().await
    }

    /// What the operations of a key did, in order; of all keys if none is named.
    pub async fn effects(&self, key: Option<&str>) -> Vec<String> {
        let question = "SELECT what FROM effects WHERE $1::text IS NULL OR key = $1 ORDER BY n";
        let rows = self.client.query(question, &[&key]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub async fn likes(&self, id: &str) -> i32 {
        self.client.query_one("SELECT likes FROM meta WHERE id = $1", &[&id]).await.unwrap().get(0)
    }

    pub async fn count(&self, table: &str) -> i64 {
        self.client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }
}

/// A task that leaves a row.
pub fn effect(key: &str, what: &str) -> Task {
    sql("INSERT INTO effects (key, what) VALUES (?, ?)", params![key, what]).unwrap()
}

/// At once, or after so many milliseconds.
pub fn after(ms: u64) -> DelayOptions {
    DelayOptions { delay: Some(Duration::from_millis(ms)), ..DelayOptions::default() }
}

/// Accepts an effect under a key, at once.
pub async fn accept(zm: &Zmsg, key: &str, what: &str) -> Receipt {
    zm.cache_and_delay_store(Some(key), None, effect(key, what), after(0)).await.unwrap()
}

pub fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
