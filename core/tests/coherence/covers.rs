//! Writes that commit later than they were accepted: between their COMMIT and the news of it nobody finds what is older.

use std::time::Duration;

use zmsg_core::engine::{DelayOptions, WriteOptions, Zmsg};

use crate::scene::{Scene, put, some};
use crate::support::proxy::{Action, Proxy, commit_answer};
use crate::support::{queue_addr, redis_addr};

const KEY: &str = "feed_1";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    Delayed,
    /// By the caller itself, as the queue is away (`queue.fallback: sync`).
    AtOnce,
    Flushed,
}

/// The engine accepts a write without a value, and commits it.
async fn accept_and_commit(zmsg: &Zmsg, path: Path, key: &str) {
    match path {
        Path::Delayed | Path::AtOnce => {
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
    for path in [Path::Delayed, Path::AtOnce, Path::Flushed] {
        let scene = Scene::new().await;
        let queue = Proxy::to_redis(&queue_addr()).await;
        scene.insert(KEY, "old").await;
        let proxy = Proxy::start(&scene.database.dsn).await;
        let setup = scene.setup.clone().with_queue("fallback", "sync").queue_behind(&queue);
        let writer = setup.postgres_behind(&proxy, &scene.database).open().await;
        crate::scene::declare(&writer);
        let setup = scene.setup.clone().with_queue("worker", false);
        let reader = setup.open().await;
        crate::scene::declare(&reader);
        for zmsg in [&writer, &reader] {
            assert_eq!(zmsg.get(KEY).await.unwrap(), some("old"));
        }
        // The first one of an engine comes with transactions of its own.
        accept_and_commit(&writer, path, "feed_before").await;
        if path == Path::AtOnce {
            queue.down().await;
        }
        let rule = proxy.rule(commit_answer(), Action::Hold);
        let committing = tokio::spawn({
            let writer = writer.clone();
            async move { accept_and_commit(&writer, path, KEY).await }
        });
        rule.fired().await;
        assert_eq!(scene.row(KEY).await.as_deref(), Some("new"), "{path:?}");
        for zmsg in [&reader, &reader, &writer] {
            assert_eq!(zmsg.get(KEY).await.unwrap(), some("new"), "{path:?}");
        }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_left_is_applied_and_its_keys_are_cached_again() {
    let scene = Scene::new().await;
    scene.insert(KEY, "old").await;
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().to_str().unwrap();
    let setup = scene.setup.clone().with("journal", "journal").with("journal_dir", journal);
    let proxy = Proxy::start(&scene.database.dsn).await;
    let cut_off = setup.clone().postgres_behind(&proxy, &scene.database).with("timeout", "1s").open().await;
    let options = WriteOptions::default();
    cut_off.cache_and_periodic_store(Some(KEY), None, put(KEY, "new"), options).await.unwrap();
    proxy.down().await;
    let _ = cut_off.close().await;
    let heir = setup.open().await;
    crate::scene::declare(&heir);
    crate::support::engine::until("it is applied", async || heir.stats().journals_adopted == 1).await;
    crate::support::engine::until("it is cached", async || {
        assert_eq!(heir.get(KEY).await.unwrap(), some("new"));
        heir.peek(KEY).unwrap() == some("new")
    })
    .await;
    heir.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_does_not_answer_holds_a_flush_up_for_its_timeout() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let setup = scene.setup.clone().with("redis_timeout", "300ms").with("batch_interval", "1h");
    let zmsg = setup.redis_behind(&proxy).open().await;
    // Thrice as many as are covered at once.
    for n in 0..1_500 {
        let key = format!("feed_{n}");
        zmsg.cache_and_periodic_store(Some(&key), None, put(&key, "new"), WriteOptions::default())
            .await
            .unwrap();
    }
    proxy.silence(true);
    let began = std::time::Instant::now();
    let flush = tokio::spawn({
        let zmsg = zmsg.clone();
        async move { zmsg.flush().await }
    });
    crate::support::engine::until("it is committed", async || scene.rows().await == 1_500).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    proxy.silence(false);
    proxy.cut_all();
    flush.await.unwrap().unwrap();
    zmsg.close().await.unwrap();
}
