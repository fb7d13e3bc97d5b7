//! One test's database, its engines and their journals.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;
use tokio_postgres::Client;
use zmsg_core::engine::{Receipt, WriteOptions, Zmsg};
use zmsg_core::sql::{Counter, Task, counter};

use crate::support::engine::{Setup, until};
use crate::support::history::History;
use crate::support::{TestDatabase, database};

const SCHEMA: &str = "CREATE TABLE meta (id text PRIMARY KEY, likes bigint, views bigint NOT NULL DEFAULT 0, \
     tags jsonb, extra jsonb, price numeric(10,2), small smallint); \
     INSERT INTO meta (id, likes) SELECT 'f' || n, 0 FROM generate_series(1, 20) AS n";

/// See the head of this file. Nothing is flushed unless a test says so.
pub struct Scene {
    pub database: TestDatabase,
    pub setup: Setup,
    pub client: Client,
    pub journals: tempfile::TempDir,
}

impl Scene {
    pub async fn new() -> Scene {
        Scene::on(database().await).await
    }

    /// The same on a database that is there.
    pub async fn on(database: TestDatabase) -> Scene {
        crate::logs::listen();
        let journals = tempfile::tempdir().unwrap();
        let setup = Setup::of(&database)
            .with("journal", "journal")
            .with("journal_dir", journals.path().join("journal").to_str().unwrap())
            .with("batch_interval", "1h")
            .with("batch_size", 1_000_000);
        let client = database.client().await;
        client.batch_execute(SCHEMA).await.unwrap();
        Scene { database, setup, client, journals }
    }

    pub async fn open(&self) -> Zmsg {
        self.setup.open().await
    }

    /// One value of one row, as text.
    pub async fn text(&self, column: &str, id: &str) -> Option<String> {
        let question = format!("SELECT {column}::text FROM meta WHERE id = $1");
        self.client.query_opt(&question, &[&id]).await.unwrap().and_then(|row| row.get(0))
    }

    pub async fn count(&self, table: &str) -> i64 {
        self.client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }

    /// How many journals are in the folder.
    pub fn journals(&self) -> usize {
        std::fs::read_dir(self.journals.path().join("journal")).map_or(0, Iterator::count)
    }

    /// Where processes write what they did.
    pub fn histories(&self, what: &str) -> PathBuf {
        let folder = self.journals.path().join(what);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// All likes, by row.
    pub async fn likes(&self) -> BTreeMap<String, i64> {
        let rows = self.client.query("SELECT id, likes FROM meta WHERE likes <> 0", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The elements of all tags, by row.
    pub async fn tags(&self) -> BTreeMap<String, Vec<String>> {
        let question = "SELECT id, jsonb_array_elements_text(tags) FROM meta WHERE tags IS NOT NULL";
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in self.client.query(question, &[]).await.unwrap() {
            found.entry(row.get(0)).or_default().push(row.get(1));
        }
        found
    }

    /// Opens an engine and waits until it has adopted whatever ended processes left.
    pub async fn adopt(&self) -> Zmsg {
        let zm = self.open().await;
        until("the journals are adopted", async || self.journals() <= 1).await;
        zm
    }

    /// Whether the rows are what the histories of likes and of tags say.
    pub async fn check_histories(&self) -> Result<(), Vec<String>> {
        let likes = History::read(&self.histories("likes")).check_counters(&self.likes().await);
        let tags = History::read(&self.histories("tags")).check_elements(&self.tags().await);
        // Each refused operation is one dead letter.
        let letters = BTreeMap::from([("dead".to_owned(), self.count("zmsg_dead").await)]);
        let poisons = History::read(&self.histories("poisons")).check_counters(&letters);
        likes.and(tags).and(poisons)
    }

    /// The same setup with one setting changed.
    pub fn with(&self, key: &str, value: impl Into<Json>) -> Setup {
        self.setup.clone().with(key, value)
    }
}

/// A counter of a row.
pub fn likes(id: &str) -> Counter {
    counter("meta", "likes").unwrap().where_("id = ?", [id]).unwrap()
}

pub fn like(id: &str) -> Task {
    likes(id).inc(1).build().unwrap()
}

/// Accepts a task that concerns no key.
pub async fn accept(zm: &Zmsg, task: Task) -> Receipt {
    zm.cache_and_periodic_store(None, None, task, WriteOptions::default()).await.unwrap()
}

/// So many, or many more when there is time.
pub fn rounds(usual: u32, soak: u32) -> u32 {
    if std::env::var_os("ZMSG_SOAK").is_some() { soak } else { usual }
}
