//! Servers that keep failing are left alone for a while, and nothing is wrong afterwards.

use std::time::Duration;

use zmsg_core::config::Ttl;
use zmsg_core::engine::{SourceOptions, WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, declare, some, text, write};
use crate::support::engine::{Setup, until};
use crate::support::proxy::Proxy;
use crate::support::{redis_addr, task};

fn breaking(setup: &Setup, pause: &str) -> Setup {
    setup.clone().with("breaker_failures", 2).with("breaker_pause", pause)
}

/// Behind a Redis that can fall silent, heard for long enough to be asked all the same.
async fn behind(scene: &Scene, proxy: &Proxy, pause: &str) -> Zmsg {
    let setup = breaking(&scene.setup, pause)
        .redis_behind(proxy)
        .with("redis_timeout", "100ms")
        .with("l1_max_cost", 0)
        .with("coherence_bound", "1m");
    let zmsg = setup.open().await;
    declare(&zmsg);
    zmsg
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_redis_is_left_alone_and_a_write_reaches_the_others_all_the_same() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let (zmsg, other) = (behind(&scene, &proxy, "1m").await, scene.engine().await);
    write(&zmsg, "feed_1", "old").await.unwrap();
    assert_eq!(other.get("feed_1").await.unwrap(), some("old"));
    assert_eq!(zmsg.stats().redis_breaker, "closed");

    proxy.silence(true);
    for _ in 0..2 {
        assert_eq!(zmsg.get("feed_1").await.unwrap(), some("old"), "from the source");
    }
    let stats = zmsg.stats();
    assert_eq!((stats.redis_breaker, stats.source_breaker, stats.breaker_openings), ("open", "closed", 1));
    let error = zmsg.cache_only("a", text("v"), WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache);
    let told = error.to_string();
    assert!(told.contains("left alone for ") && told.contains("away 2 times in a row"), "{told}");

    let receipt = write(&zmsg, "feed_1", "new").await.unwrap();
    assert!(!receipt.cached, "it is in the outbox");
    until("the other one to hear", async || other.get("feed_1").await.unwrap() == some("new")).await;
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("new"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_old_is_read_when_redis_is_taken_back() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let zmsg = behind(&scene, &proxy, "200ms").await;
    for round in 0..5 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        let receipt = write(&zmsg, "feed_1", &old).await.unwrap();
        assert!(receipt.cached);
        proxy.silence(true);
        until("it to be left alone", async || {
            zmsg.get("feed_1").await.unwrap();
            zmsg.stats().redis_breaker != "closed"
        })
        .await;
        // Nobody else is there to relay it.
        write(&zmsg, "feed_1", &new).await.unwrap();
        proxy.silence(false);
        until("it to be taken back", async || {
            assert_eq!(zmsg.get("feed_1").await.unwrap(), some(&new), "round {round}");
            zmsg.stats().redis_breaker == "closed"
        })
        .await;
        for _ in 0..20 {
            assert_eq!(zmsg.get("feed_1").await.unwrap(), some(&new), "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_not_asked_for_sources_until_a_trial_ends_well() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let setup = breaking(&scene.setup, "1s").postgres_behind(&proxy, &scene.database).with("l1_max_cost", 0);
    let zmsg = setup.with("connect_timeout", "500ms").open().await;
    declare(&zmsg);
    let kept = SourceOptions {
        ttl: Some(Ttl::For(Duration::from_millis(20))),
        stale_ttl: Some(Duration::from_secs(60)),
        ..SourceOptions::default()
    };
    zmsg.source("kept_*", task("SELECT content FROM feeds WHERE id = ?", &[]), kept).unwrap();
    for key in ["feed_1", "kept_1"] {
        scene.insert(key, "v").await;
    }
    assert_eq!(zmsg.get("kept_1").await.unwrap(), some("v"));

    proxy.down().await;
    for _ in 0..2 {
        assert_eq!(zmsg.get("feed_1").await.unwrap_err().kind(), ErrorKind::Store);
    }
    let (stats, asked) = (zmsg.stats(), zmsg.get("feed_1").await.unwrap_err());
    assert_eq!((stats.redis_breaker, stats.source_breaker), ("closed", "open"));
    assert!(asked.retryable() && asked.to_string().contains("not asked for sources for"), "{asked}");
    assert_eq!(zmsg.stats().source_loads, stats.source_loads, "it was not asked");
    assert_eq!(zmsg.get("kept_1").await.unwrap(), some("v"), "the last good value covers that too");

    proxy.up().await;
    until("a trial to end well", async || zmsg.get("feed_1").await.is_ok()).await;
    assert_eq!(zmsg.stats().source_breaker, "closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_statements_open_nothing() {
    let scene = Scene::new().await;
    let zmsg = breaking(&scene.setup, "1m").open().await;
    zmsg.source("wrong_*", task("SELECT (?::text || 'x')::int", &[]), SourceOptions::default()).unwrap();
    for _ in 0..5 {
        assert_eq!(zmsg.get("wrong_1").await.unwrap_err().sqlstate(), Some("22P02"));
    }
    assert_eq!(zmsg.stats().source_breaker, "closed");
}
