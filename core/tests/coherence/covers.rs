//! Writes that commit later than they were accepted: between their COMMIT and the news of it nobody finds what is older.

use std::time::Duration;

use zmsg_core::engine::{DelayOptions, WriteOptions, Zmsg};

use crate::scene::{Scene, put, some};
use crate::support::proxy::{Action, Proxy, commit_answer};

const KEY: &str = "feed_1";

#[derive(Clone, Copy, Debug)]
enum Path {
    Delayed,
    Flushed,
}

/// The engine accepts a write without a value, and commits it.
async fn accept_and_commit(zmsg: &Zmsg, path: Path, key: &str) {
    match path {
        Path::Delayed => {
            let soon = DelayOptions { delay: Some(Duration::ZERO), ..DelayOptions::default() };
            let receipt = zmsg.cache_and_delay_store(Some(key), None, put(key, "new"), soon).await.unwrap();
            receipt.done().await.unwrap();
        }
        Path::Flushed => {
            let options = WriteOptions::default();
            zmsg.cache_and_periodic_store(Some(key), None, put(key, "new"), options).await.unwrap();
            zmsg.flush().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_between_a_later_commit_and_the_news_of_it_reads_what_was_committed() {
    for path in [Path::Delayed, Path::Flushed] {
        let scene = Scene::new().await;
        scene.insert(KEY, "old").await;
        let proxy = Proxy::start(&scene.database.dsn).await;
        let writer = scene.setup.clone().postgres_behind(&proxy, &scene.database).open().await;
        crate::scene::declare(&writer);
        let setup = scene.setup.clone().with_queue("worker", false);
        let reader = setup.open().await;
        crate::scene::declare(&reader);
        for zmsg in [&writer, &reader] {
            assert_eq!(zmsg.get(KEY).await.unwrap(), some("old"));
        }
        // The first one of an engine comes with transactions of its own.
        accept_and_commit(&writer, path, "feed_before").await;
        let rule = proxy.rule(commit_answer(), Action::Hold);
        let committing = tokio::spawn({
            let writer = writer.clone();
            async move { accept_and_commit(&writer, path, KEY).await }
        });
        rule.fired().await;
        assert_eq!(scene.row(KEY).await.as_deref(), Some("new"), "{path:?}");
        assert_eq!(reader.get(KEY).await.unwrap(), some("new"), "{path:?}");
        assert_eq!(reader.get(KEY).await.unwrap(), some("new"), "{path:?}");
        assert!(!committing.is_finished(), "nobody was told");
        rule.release();
        committing.await.unwrap();
        for zmsg in [&writer, &reader] {
            assert_eq!(zmsg.get(KEY).await.unwrap(), some("new"), "{path:?}");
        }
        // What is read now is kept again.
        let loads = reader.stats().source_loads;
        assert_eq!(reader.get(KEY).await.unwrap(), some("new"));
        assert_eq!(reader.stats().source_loads, loads, "{path:?}");
        writer.close().await.unwrap();
        reader.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_commit_that_fails_gives_back_what_was_cached() {
    let scene = Scene::new().await;
    // Refused by the COMMIT itself.
    let deferred = "CREATE TABLE parents (id text PRIMARY KEY); \
         CREATE TABLE children (parent text REFERENCES parents DEFERRABLE INITIALLY DEFERRED)";
    scene.outside.batch_execute(deferred).await.unwrap();
    scene.insert(KEY, "old").await;
    let zmsg = scene.engine().await;
    assert_eq!(zmsg.get(KEY).await.unwrap(), some("old"));
    let orphan = crate::support::task("INSERT INTO children VALUES ('nobody')", &[]);
    let soon = DelayOptions { delay: Some(Duration::ZERO), ..DelayOptions::default() };
    let receipt =
        zmsg.cache_and_delay_store(Some(KEY), None, vec![put(KEY, "new"), orphan], soon).await.unwrap();
    receipt.done().await.unwrap_err();
    assert_eq!(zmsg.get(KEY).await.unwrap(), some("old"));
    zmsg.close().await.unwrap();
}
