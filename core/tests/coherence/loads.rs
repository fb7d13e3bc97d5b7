//! PostgreSQL is asked once, by one process for all, and a slow answer never hides a write.

use futures_util::future::join_all;

use crate::scene::{Scene, getting, some, write};
use crate::sees;
use crate::support::engine::until;

const KEY: &str = "slow_1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_key_is_loaded_by_one_process_for_all() {
    let scene = Scene::new().await;
    let engines = [scene.engine().await, scene.engine().await, scene.engine().await];
    for (key, expected) in [(KEY, some("row")), ("slow_none", None)] {
        if expected.is_some() {
            scene.insert(key, "row").await;
        }
        let gate = scene.close_gate().await;
        let before: u64 = engines.iter().map(|zmsg| zmsg.stats().source_loads).sum();
        let reads: Vec<_> = (0..300).map(|n| getting(&engines[n % 3], key)).collect();
        if expected.is_some() {
            gate.waited_for_by(1).await;
            until("the others to wait", async || {
                engines.iter().map(|zmsg| zmsg.stats().lease_waits).sum::<u64>() >= 2
            })
            .await;
        }
        gate.open().await;
        for read in join_all(reads).await {
            assert_eq!(read.unwrap().unwrap(), expected);
        }
        let after: u64 = engines.iter().map(|zmsg| zmsg.stats().source_loads).sum();
        assert_eq!(after - before, 1, "{key}");
    }
    let figures: Vec<_> = engines.iter().map(|zmsg| zmsg.stats()).collect();
    for it in &figures {
        // Whoever did not load waited as long as the gate was closed.
        assert!(it.l2_p99_ms >= it.l2_p50_ms && it.l2_p50_ms > 0.0, "{it:?}");
        assert!((it.lease_wait_p50_ms > 0.0) == (it.lease_waits > 0), "{it:?}");
        assert!((it.source_p99_ms > 0.0) == (it.source_loads > 0), "{it:?}");
    }
    // Many keys at once: some are being loaded by another process.
    for key in ["slow_a", "slow_b", "slow_c"] {
        scene.insert(key, key).await;
    }
    let gate = scene.close_gate().await;
    let first = getting(&engines[0], "slow_b");
    gate.waited_for_by(1).await;
    let many = tokio::spawn({
        let zmsg = engines[1].clone();
        async move { zmsg.get_many(&["slow_a", "slow_b", "slow_c"]).await }
    });
    gate.waited_for_by(2).await;
    let before: u64 = engines.iter().map(|zmsg| zmsg.stats().source_loads).sum();
    gate.open().await;
    assert_eq!(first.await.unwrap().unwrap(), some("slow_b"));
    assert_eq!(many.await.unwrap().unwrap(), ["slow_a", "slow_b", "slow_c"].map(some));
    let after: u64 = engines.iter().map(|zmsg| zmsg.stats().source_loads).sum();
    assert_eq!(after, before, "nobody asked for the one in the middle again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_began_before_another_process_wrote_keeps_nothing() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    scene.insert(KEY, "old").await;
    let gate = scene.close_gate().await;
    let slow = getting(&one, KEY);
    gate.waited_for_by(1).await;
    write(&two, KEY, "new").await.unwrap();
    until("the write to be heard of", async || one.stats().invalidations_received > 0).await;
    assert_eq!(one.get(KEY).await.unwrap(), some("new"), "it does not join the older load");
    gate.open().await;
    assert_eq!(slow.await.unwrap().unwrap(), some("old"), "it began before the write");
    for zmsg in [&one, &two, &scene.engine().await] {
        assert_eq!(zmsg.get(KEY).await.unwrap(), some("new"));
    }
    assert_eq!(one.stats().fills_refused, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_failed_is_handed_over() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    scene.insert(KEY, "row").await;
    let gate = scene.close_gate().await;
    let failing = getting(&one, KEY);
    gate.waited_for_by(1).await;
    let waiting = getting(&two, KEY);
    until("the other to wait", async || two.stats().lease_waits == 1).await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    scene.outside.query_one(cancel, &[]).await.unwrap();
    assert_eq!(failing.await.unwrap().unwrap_err().sqlstate(), Some("57014"));
    gate.waited_for_by(1).await;
    gate.open().await;
    assert_eq!(waiting.await.unwrap().unwrap(), some("row"));
    assert_eq!(one.get(KEY).await.unwrap(), some("row"), "the error was not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_too_long_asks_for_itself() {
    let scene = Scene::new().await;
    let one = scene.engine().await;
    let two = scene.setup.clone().with("lease_wait", "50ms").open().await;
    crate::scene::declare(&two);
    scene.insert(KEY, "row").await;
    let gate = scene.close_gate().await;
    let first = getting(&one, KEY);
    gate.waited_for_by(1).await;
    let second = getting(&two, KEY);
    gate.waited_for_by(2).await;
    gate.open().await;
    assert_eq!(first.await.unwrap().unwrap(), some("row"));
    assert_eq!(second.await.unwrap().unwrap(), some("row"));
    assert_eq!((one.stats().fills_refused, two.stats().fills_refused), (0, 1));
    sees(&two, KEY, "row", Some("row")).await;
}
