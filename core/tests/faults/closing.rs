//! Closing: calls in flight end first, later ones are refused, no acknowledged write is lost, twice is fine.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use zmsg_core::engine::{Receipt, SourceOptions, WriteOptions, Zmsg};
use zmsg_core::error::{ErrorKind, Result};
use zmsg_core::value::Value;

use crate::scene::{Scene, getting, insert, some, text, write};
use crate::support::engine::{until, within};
use crate::support::proxy::Proxy;
use crate::support::task;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_end_first() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert("slow_1", "v").await;
    let gate = scene.close_gate().await;
    let reading = getting(&zmsg, "slow_1");
    let writing = {
        let zmsg = zmsg.clone();
        tokio::spawn(async move {
            let params = [Value::text("feed_1"), Value::text("w")];
            let insert = task("INSERT INTO feeds (id, content) VALUES (?, gate(?))", &params);
            zmsg.cache_and_store(Some("feed_1"), some("w"), insert, WriteOptions::default()).await
        })
    };
    gate.waited_for_by(2).await;
    let closing: Vec<_> = (0..8)
        .map(|_| {
            let zmsg = zmsg.clone();
            tokio::spawn(async move { zmsg.close().await })
        })
        .collect();
    until("the close to begin", async || zmsg.is_closed()).await;
    refuses_everything(&zmsg).await;
    assert!(closing.iter().all(|close| !close.is_finished()), "two calls are in flight");
    gate.open().await;
    assert_eq!(reading.await.unwrap().unwrap(), some("v"));
    assert!(writing.await.unwrap().unwrap().cached);
    for close in closing {
        close.await.unwrap().unwrap();
    }
    zmsg.close().await.unwrap();
    refuses_everything(&zmsg).await;
    assert_eq!(scene.row("feed_1").await.as_deref(), Some("w"));
    assert_eq!(scene.redis_view().await.get("feed_1").await.unwrap(), some("w"));
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                AND application_name LIKE 'zmsg%'";
    let open = async || scene.outside.query_one(ours, &[]).await.unwrap().get::<_, i64>(0);
    until("PostgreSQL to see its connections closed", async || open().await == 0).await;
}

async fn refuses_everything(zmsg: &Zmsg) {
    let options = WriteOptions::default;
    let select = || task("SELECT 1 AS one", &[]);
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
    let refusals = [
        ("get", zmsg.get("feed_1").await.err()),
        ("get_required", zmsg.get_required("feed_1").await.err()),
        ("get_many", zmsg.get_many(&["feed_1"]).await.err()),
        ("peek", zmsg.peek("feed_1").err()),
        ("cache_only", zmsg.cache_only("feed_1", text("x"), options()).await.err()),
        ("cache_and_store", write(zmsg, "feed_1", "x").await.err()),
        ("del", zmsg.del("feed_1").await.err()),
        ("del_store", zmsg.del_store(Some("feed_1"), select(), options()).await.err()),
        ("sql_exec", zmsg.sql_exec(select()).await.err()),
        ("query", zmsg.query(select()).await.err()),
        ("next_id", zmsg.next_id("feed").err()),
        ("source", zmsg.source("x_*", task("SELECT ?", &[]), SourceOptions::default()).err()),
        ("health", zmsg.health().await.err()),
        ("migrate", zmsg.load_dir(&schema).unwrap().migrate().await.err()),
    ];
    for (verb, error) in refusals {
        let error = error.unwrap_or_else(|| panic!("{verb} on a closed engine"));
        assert_eq!(error.kind(), ErrorKind::Closed, "{verb}: {error}");
    }
    zmsg.stats();
}

/// Inserts row after row until it is refused.
async fn keep_writing(zmsg: Zmsg, name: String) -> Vec<(String, Result<Receipt>)> {
    let mut outcomes = Vec::new();
    loop {
        let key = format!("feed_{name}_{}", outcomes.len());
        let task = insert(&key, "v");
        let done = zmsg.cache_and_store(Some(&key), some("v"), task, WriteOptions::default()).await;
        let ended = done.is_err();
        outcomes.push((key, done));
        if ended {
            return outcomes;
        }
    }
}

/// Closes while four write, after so many writes; gives how many were acknowledged.
async fn race(scene: &Scene, round: u64) -> i64 {
    let zmsg = scene.setup.clone().with("pool_size", 2).open().await;
    let writers: Vec<_> =
        (0..4).map(|writer| tokio::spawn(keep_writing(zmsg.clone(), format!("{round}_{writer}")))).collect();
    until("a few writes", async || zmsg.stats().cache_writes >= round % 7).await;
    zmsg.close().await.unwrap();
    let mut acknowledged = 0;
    for writer in writers {
        for (key, outcome) in writer.await.unwrap() {
            match outcome {
                Ok(receipt) => {
                    assert!(
                        receipt.cached && scene.row(&key).await.is_some(),
                        "an acknowledged write was lost: {key}"
                    );
                    acknowledged += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_race_with_close_are_stored_or_refused() {
    const ROUNDS: u64 = 100;
    let scene = Scene::new().await;
    let mut acknowledged = 0;
    for four in 0..ROUNDS / 4 {
        acknowledged += join_all((0..4).map(|n| race(&scene, four * 4 + n))).await.into_iter().sum::<i64>();
    }
    assert!(acknowledged >= ROUNDS as i64, "{acknowledged}");
    assert_eq!(scene.rows().await, acknowledged, "what was refused is not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_end_holds_close_up_no_longer_than_its_timeout() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    let gate = scene.close_gate().await;
    let stuck = {
        let zmsg = zmsg.clone();
        tokio::spawn(async move { zmsg.sql_exec(task("SELECT gate('x')", &[])).await })
    };
    gate.waited_for_by(1).await;
    let brief = zmsg.with_timeout(Some(Duration::from_millis(200)));
    within(Duration::from_secs(3), "close", brief.close()).await.unwrap();
    gate.open().await;
    // Its connection was not taken from it.
    stuck.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_was_given_up_is_finished_by_the_next() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    let gate = scene.close_gate().await;
    let stuck = {
        let zmsg = zmsg.clone();
        tokio::spawn(async move { zmsg.sql_exec(task("SELECT gate('x')", &[])).await })
    };
    gate.waited_for_by(1).await;
    let first = tokio::time::timeout(Duration::from_millis(50), zmsg.close()).await;
    assert!(first.is_err() && zmsg.is_closed());
    gate.open().await;
    stuck.await.unwrap().unwrap();
    zmsg.close().await.unwrap();
    assert_eq!(zmsg.stats().pool_size, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_does_not_hold_close_up() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let setup = scene.setup.clone().postgres_behind(&proxy, &scene.database).with("connect_timeout", "300ms");
    let zmsg = setup.open().await;
    proxy.silence(true);
    // Its own time limit is half a minute; giving the node back is not worth that.
    within(Duration::from_secs(4), "close", zmsg.close()).await.unwrap();
}
