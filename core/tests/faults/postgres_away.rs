//! PostgreSQL away: what is cached is served, the rest is told quickly, no failed write leaves a trace, and it heals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::error::{Error, ErrorKind};

use crate::scene::{Scene, declare, insert, some, text, write};
use crate::support::engine::{until, within};
use crate::support::proxy::Proxy;
use crate::support::task;

const SOON: Duration = Duration::from_millis(2_500);

/// An engine behind a proxy, with a row that is not cached, one that memory has, and a value that only Redis has.
async fn stage(scene: &Scene, proxy: &Proxy) -> Zmsg {
    stage_with(scene, proxy, &[("connect_timeout", "400ms")]).await
}

async fn stage_with(scene: &Scene, proxy: &Proxy, settings: &[(&str, &str)]) -> Zmsg {
    let behind = scene.setup.clone().postgres_behind(proxy, &scene.database);
    let setup = settings.iter().fold(behind, |setup, &(name, value)| setup.with(name, value));
    let zmsg = setup.open().await.with_timeout(Some(Duration::from_secs(10)));
    declare(&zmsg);
    scene.insert("feed_row", "uncached").await;
    write(&zmsg, "feed_1", "cached").await.unwrap();
    scene.redis_view().await.cache_only("feed_2", text("in Redis"), WriteOptions::default()).await.unwrap();
    zmsg
}

async fn cached_values_are_served(zmsg: &Zmsg) {
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("cached"));
    assert_eq!(zmsg.get("feed_2").await.unwrap(), some("in Redis"));
    zmsg.cache_only("feed_3", text("new"), WriteOptions::default()).await.unwrap();
    assert_eq!(zmsg.get("feed_3").await.unwrap(), some("new"));
    assert!(zmsg.next_id("feed").is_ok(), "ids were granted ahead of time");
    let health = within(SOON, "health", zmsg.health()).await.unwrap();
    let well: Vec<bool> = health.tiers.iter().map(|tier| tier.ok).collect();
    assert_eq!((health.ok, well), (false, vec![false, true]), "PostgreSQL comes first");
}

/// Everything that needs PostgreSQL fails with what `expected` says, in time, without a trace.
async fn the_rest_fails(scene: &Scene, zmsg: &Zmsg, expected: impl Fn(&Error)) {
    let failed = |error: Option<Error>, what: &str| {
        let error = error.unwrap_or_else(|| panic!("{what} should fail"));
        assert!(!error.to_string().contains("uncached"), "{what}: {error}");
        expected(&error);
    };
    failed(within(SOON, "a get", zmsg.get("feed_row")).await.err(), "a get");
    assert_eq!(zmsg.peek_entry("feed_row").unwrap(), None, "a failure is not cached");
    let keys = ["feed_1", "feed_row"];
    failed(within(SOON, "many", zmsg.get_many(&keys)).await.err(), "many");
    failed(within(SOON, "a write", write(zmsg, "feed_new", "lost")).await.err(), "a write");
    failed(
        within(SOON, "a write of a cached key", write(zmsg, "feed_1", "lost")).await.err(),
        "another write",
    );
    let dropped = zmsg.del_store(Some("feed_1"), task("DELETE FROM feeds", &[]), WriteOptions::default());
    failed(within(SOON, "a drop", dropped).await.err(), "a drop");
    failed(within(SOON, "a query", zmsg.query(task("SELECT 1 AS one", &[]))).await.err(), "a query");
    failed(within(SOON, "a statement", zmsg.sql_exec(insert("feed_x", "x"))).await.err(), "a statement");
    assert_eq!(zmsg.peek_entry("feed_new").unwrap(), None);
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("cached"), "an aborted write is never visible");
    let view = scene.redis_view().await;
    assert_eq!(view.get("feed_new").await.unwrap(), None);
    assert_eq!(view.get("feed_1").await.unwrap(), some("cached"));
}

async fn heals(scene: &Scene, zmsg: &Zmsg) {
    assert_eq!(zmsg.get("feed_row").await.unwrap(), some("uncached"));
    write(zmsg, "feed_1", "new").await.unwrap();
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("new"));
    assert_eq!(scene.row("feed_1").await.as_deref(), Some("new"));
    assert_eq!(scene.rows().await, 2, "nothing of what failed was stored");
    assert!(zmsg.health().await.unwrap().ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let zmsg = stage(&scene, &proxy).await;
    proxy.down().await;
    cached_values_are_served(&zmsg).await;
    the_rest_fails(&scene, &zmsg, |error| {
        assert_eq!(error.kind(), ErrorKind::Store, "{error}");
        assert!(error.retryable(), "{error}");
        assert!(error.to_string().contains(&proxy.address.to_string()), "{error}");
    })
    .await;
    proxy.up().await;
    // The very next call: nobody waits for a background task.
    heals(&scene, &zmsg).await;
    zmsg.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    // Of the engine, not of a caller: a load goes on for as long as that, and a later call joins it.
    let times = [("connect_timeout", "400ms"), ("timeout", "300ms")];
    let zmsg = stage_with(&scene, &proxy, &times).await;
    proxy.silence(true);
    cached_values_are_served(&zmsg).await;
    let brief = zmsg.with_timeout(Some(Duration::from_millis(300)));
    the_rest_fails(&scene, &brief, |error| {
        let fits = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Store | ErrorKind::CommitUnknown);
        assert!(fits, "{error:?}");
    })
    .await;
    proxy.silence(false);
    heals(&scene, &zmsg).await;
    within(SOON, "close", zmsg.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_network_forgot_are_replaced() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    // Ten logins at once take their time on a small machine.
    let zmsg = stage_with(&scene, &proxy, &[("connect_timeout", "5s")]).await;
    // As many connections as the pool has, all idle.
    let gate = scene.close_gate().await;
    let busy: Vec<_> = (0..10)
        .map(|_| {
            let zmsg = zmsg.clone();
            tokio::spawn(async move { zmsg.sql_exec(task("SELECT gate('x')", &[])).await })
        })
        .collect();
    gate.waited_for_by(10).await;
    gate.open().await;
    for call in busy {
        call.await.unwrap().unwrap();
    }
    // The look into the outbox may have one of them for a moment.
    until("all connections are idle", async || zmsg.stats().pool_idle == 10).await;
    // Past the time for which an idle connection is trusted without a question.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    proxy.forget_open();
    let limit = Duration::from_secs(8);
    within(limit, "a write", write(&zmsg, "feed_1", "new")).await.unwrap();
    assert_eq!(within(limit, "a get", zmsg.get("feed_row")).await.unwrap(), some("uncached"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_under_load() {
    const WRITERS: usize = 50;
    const EACH: usize = 6;
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let zmsg = stage_with(&scene, &proxy, &[("connect_timeout", "5s")]).await;
    let done = Arc::new(AtomicU32::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (zmsg, done) = (zmsg.clone(), done.clone());
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                for n in 0..EACH {
                    let key = format!("feed_{writer}_{n}");
                    let task = insert(&key, &key);
                    let written =
                        zmsg.cache_and_store(Some(&key), some(&key), task, WriteOptions::default()).await;
                    outcomes.push((key, written));
                    done.fetch_add(1, Ordering::SeqCst);
                }
                outcomes
            })
        })
        .collect();
    // Four cuts, and once really down for a moment, spread over the writes.
    for cut in 1..=5_u32 {
        until("some writes", async || done.load(Ordering::SeqCst) > (cut - 1) * 55).await;
        if cut == 3 {
            proxy.down().await;
            proxy.up().await;
        } else {
            proxy.cut_all();
        }
    }
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.extend(writer.await.unwrap());
    }
    check(&scene, &zmsg, outcomes).await;
}

async fn check(
    scene: &Scene,
    zmsg: &Zmsg,
    outcomes: Vec<(String, Result<zmsg_core::engine::Receipt, Error>)>,
) {
    let view = scene.redis_view().await;
    let mut acknowledged = 0;
    for (key, outcome) in outcomes {
        let row = scene.row(&key).await;
        match outcome {
            Ok(receipt) => {
                acknowledged += 1;
                // The id is the primary key: a second run would have been refused, not acknowledged.
                assert_eq!(receipt.rows_affected, 1);
                assert_eq!(row.as_deref(), Some(key.as_str()), "an acknowledged write was lost");
                assert!(receipt.cached);
                assert_eq!(zmsg.peek(&key).unwrap(), some(&key));
                assert_eq!(view.get(&key).await.unwrap(), some(&key));
            }
            Err(error) => {
                assert_ne!(error.sqlstate(), Some("23505"), "it was run twice: {error}");
                assert!(
                    row.is_none() || error.kind() == ErrorKind::CommitUnknown,
                    "{error} but {key} is there"
                );
                assert_eq!(zmsg.peek_entry(&key).unwrap(), None);
                assert_eq!(view.get(&key).await.unwrap(), None);
            }
        }
    }
    assert!(acknowledged > 50, "most writes survive a restart: {acknowledged}");
}
