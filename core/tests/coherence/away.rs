//! Redis or the way to it is gone: nothing stale past the bound, and nothing that a write told nobody.

use std::time::Instant;

use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, declare, put, some, text, write};
use crate::support::engine::{Setup, until};
use crate::support::proxy::Proxy;
use crate::support::redis_addr;
use crate::{BOUND, sees};

async fn rows(scene: &Scene) -> i64 {
    scene.outside.query_one("SELECT count(*) FROM zmsg_outbox", &[]).await.unwrap().get(0)
}

fn setup(scene: &Scene) -> Setup {
    scene
        .setup
        .clone()
        .with("redis_timeout", "200ms")
        .with("coherence_bound", format!("{}ms", BOUND.as_millis()))
}

async fn opened(setup: Setup) -> Zmsg {
    let zmsg = setup.open().await;
    declare(&zmsg);
    zmsg
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_cut_off_serves_what_it_has_no_longer_than_the_bound() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let (cut, well) = (opened(setup(&scene).redis_behind(&proxy)).await, opened(setup(&scene)).await);
    write(&well, "feed_1", "old").await.unwrap();
    until("old to be held", async || {
        cut.get("feed_1").await.unwrap();
        cut.peek("feed_1").unwrap() == some("old")
    })
    .await;
    proxy.silence(true);
    write(&well, "feed_1", "new").await.unwrap();
    let acknowledged = Instant::now();
    sees(&cut, "feed_1", "old", Some("new")).await;
    let took = acknowledged.elapsed();
    // Its last read may have begun within the bound and waited for Redis.
    assert!(took < BOUND * 2, "{took:?}");
    while acknowledged.elapsed() < BOUND * 2 {
        assert_eq!(cut.get("feed_1").await.unwrap(), some("new"));
    }
    assert!(!cut.stats().coherent);
    proxy.silence(false);
    until("it to hear again", async || cut.stats().coherent).await;
    write(&well, "feed_1", "newer").await.unwrap();
    sees(&cut, "feed_1", "new", Some("newer")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_while_redis_was_away_is_told_by_whoever_reaches_it() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let (cut, well) = (opened(setup(&scene).redis_behind(&proxy)).await, opened(setup(&scene)).await);
    write(&well, "feed_1", "old").await.unwrap();
    well.get("feed_1").await.unwrap();
    proxy.down().await;
    let receipt = write(&cut, "feed_1", "new").await.unwrap();
    assert!(!receipt.cached);
    sees(&well, "feed_1", "old", Some("new")).await;
    until("the outbox to be empty", async || rows(&scene).await == 0).await;
    assert!(well.stats().outbox_relayed >= 1);
    proxy.up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_nobody_reached_is_told_before_anybody_reads_it() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let behind = setup(&scene).redis_behind(&proxy);
    let (one, two) = (opened(behind.clone()).await, opened(behind).await);
    for round in 0..5 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        write(&one, "feed_1", &old).await.unwrap();
        until("both to hold it", async || {
            two.get("feed_1").await.unwrap() == some(&old) && one.get("feed_1").await.unwrap() == some(&old)
        })
        .await;
        proxy.down().await;
        assert!(!write(&one, "feed_1", &new).await.unwrap().cached);
        sees(&two, "feed_1", &old, Some(&new)).await;
        proxy.up().await;
        let started = Instant::now();
        while !(one.stats().coherent && two.stats().coherent) {
            assert!(started.elapsed().as_secs() < 20);
            for zmsg in [&one, &two] {
                assert_eq!(zmsg.get("feed_1").await.unwrap(), some(&new), "round {round}");
            }
        }
        assert_eq!(two.get("feed_1").await.unwrap(), some(&new), "round {round}");
        assert_eq!(rows(&scene).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_writes_fail_before_the_database_is_touched() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let zmsg = opened(setup(&scene).redis_behind(&proxy).with("on_cache_down", "strict")).await;
    proxy.down().await;
    let error = write(&zmsg, "feed_1", "new").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
    assert!(error.retryable());
    assert_eq!((scene.row("feed_1").await, rows(&scene).await), (None, 0));
    // Without a key no cache is concerned.
    zmsg.cache_and_store(None, None, put("feed_2", "row"), WriteOptions::default()).await.unwrap();
    proxy.up().await;
    until("Redis to be back", async || write(&zmsg, "feed_1", "new").await.is_ok()).await;
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("new"));
    zmsg.cache_only("feed_3", text("x"), WriteOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_redis_was_not_told_of_is_told_by_another_process() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let (cut, well) = (opened(setup(&scene).redis_behind(&proxy)).await, opened(setup(&scene)).await);
    write(&well, "feed_1", "old").await.unwrap();
    well.get("feed_1").await.unwrap();
    proxy.down().await;
    cut.cache_and_periodic_store(Some("feed_1"), None, put("feed_1", "new"), WriteOptions::default())
        .await
        .unwrap();
    cut.flush().await.unwrap();
    sees(&well, "feed_1", "old", Some("new")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_of_another_namespace_leave_what_is_not_theirs_to_tell() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let cut = opened(setup(&scene).redis_behind(&proxy)).await;
    let elsewhere = setup(&scene).with("namespace", crate::support::namespace());
    write(&opened(setup(&scene)).await, "feed_1", "old").await.unwrap();
    proxy.down().await;
    write(&cut, "feed_1", "new").await.unwrap();
    let before = rows(&scene).await;
    // It has looked into the outbox by the time it is open.
    let other = opened(elsewhere).await;
    write(&other, "feed_1", "theirs").await.unwrap();
    assert_eq!((other.stats().outbox_relayed, other.get("feed_1").await.unwrap()), (0, some("theirs")));
    assert!(before <= 1, "{before}");
    let well = opened(setup(&scene)).await;
    until("the row to be relayed by its own", async || rows(&scene).await == 0).await;
    assert_eq!(well.get("feed_1").await.unwrap(), some("theirs"), "what the table has");
    for zmsg in [cut, other, well] {
        let _ = zmsg.close().await;
    }
}
