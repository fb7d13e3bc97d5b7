//! One load per key at a time, whatever becomes of those who wait for it.

use std::time::Duration;

use zmsg_core::engine::SourceOptions;
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, getting, some};
use crate::support::engine::until;
use crate::support::task;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_readers_of_a_cold_key_cost_one_query() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert("slow_1", "v").await;
    let gate = scene.close_gate().await;
    let readers: Vec<_> = (0..1_000).map(|_| getting(&zmsg, "slow_1")).collect();
    until("everybody to join", async || zmsg.stats().joined_loads == 999).await;
    gate.waited_for_by(1).await;
    gate.open().await;
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), some("v"));
    }
    let stats = zmsg.stats();
    assert_eq!((stats.source_loads, stats.misses, stats.source_errors), (1, 1, 0));
    assert_eq!(zmsg.get("slow_1").await.unwrap(), some("v"));
    assert_eq!(zmsg.stats().source_loads, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absence_is_loaded_once_too() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    let readers: Vec<_> = (0..100).map(|_| getting(&zmsg, "feed_none")).collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), None);
    }
    assert_eq!(zmsg.stats().source_loads, 1);
    assert_eq!(zmsg.peek_entry("feed_none").unwrap(), Some(None));
    // The absence ends with the write.
    crate::scene::write(&zmsg, "feed_none", "there now").await.unwrap();
    assert_eq!(zmsg.get("feed_none").await.unwrap(), some("there now"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_goes_away_takes_nobody_along() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert("slow_1", "v").await;
    let gate = scene.close_gate().await;
    let leader = getting(&zmsg, "slow_1");
    gate.waited_for_by(1).await;
    let followers: Vec<_> = (0..10).map(|_| getting(&zmsg, "slow_1")).collect();
    let brief = zmsg.with_timeout(Some(Duration::from_millis(50)));
    assert_eq!(brief.get("slow_1").await.unwrap_err().kind(), ErrorKind::Timeout);
    until("everybody to join", async || zmsg.stats().joined_loads == 11).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    gate.open().await;
    for follower in followers {
        assert_eq!(follower.await.unwrap().unwrap(), some("v"));
    }
    assert_eq!(zmsg.stats().source_loads, 1);
    assert_eq!(zmsg.peek("slow_1").unwrap(), some("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_told_to_every_waiter_and_not_kept() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    let number = task("SELECT gate(content)::int::text FROM feeds WHERE id = ?", &[]);
    zmsg.source("number_*", number, SourceOptions::default()).unwrap();
    scene.insert("number_1", "canary").await;
    let gate = scene.close_gate().await;
    let readers: Vec<_> = (0..20).map(|_| getting(&zmsg, "number_1")).collect();
    until("everybody to join", async || zmsg.stats().joined_loads == 19).await;
    gate.waited_for_by(1).await;
    gate.open().await;
    for reader in readers {
        let error = reader.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Store, Some("22P02")), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    let stats = zmsg.stats();
    assert_eq!((stats.source_loads, stats.source_errors), (1, 1));
    assert_eq!(zmsg.peek_entry("number_1").unwrap(), None);
    scene.outside.execute("UPDATE feeds SET content = '7'", &[]).await.unwrap();
    assert_eq!(zmsg.get("number_1").await.unwrap(), some("7"));
}
