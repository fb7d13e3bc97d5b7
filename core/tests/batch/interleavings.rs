//! What happens between the steps of a flush, as people and schedules arrange it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::sql::sql;
use zmsg_core::value::Value;

use crate::scene::{Scene, accept, like, rounds};
use crate::support::engine::until;
use crate::support::proxy::{Action, Proxy, commit};

/// Threads that like one row as fast as they can while `work` runs. Gives what they had accepted.
async fn hammered(zm: &Zmsg, work: impl AsyncFnOnce(&Counts)) -> i64 {
    let counts = std::sync::Arc::new(Counts::default());
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (zm, counts) = (zm.clone(), counts.clone());
            std::thread::spawn(move || {
                let (task, options) = ([like("f1")], WriteOptions::default());
                while !counts.stop.load(Ordering::Relaxed) {
                    counts.begun.fetch_add(1, Ordering::SeqCst);
                    zm.periodic_now(None, &task, &options).unwrap().expect("there is room");
                    counts.accepted.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    work(&counts).await;
    counts.stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    counts.accepted.load(Ordering::SeqCst)
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    begun: AtomicI64,
    accepted: AtomicI64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_between_a_freeze_and_its_end_is_not_lost() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let accepted = hammered(&zm, async |_| {
        for _ in 0..rounds(100, 3_000) {
            zm.flush().await.unwrap();
        }
    })
    .await;
    zm.close().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await, Some(accepted.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_counts_every_like_once_while_flushes_go_on() {
    let scene = Scene::new().await;
    let zm = scene.with("batch_interval", "3ms").open().await;
    let accepted = hammered(&zm, async |counts| {
        let mut last = 0;
        for _ in 0..rounds(500, 10_000) {
            let least = counts.accepted.load(Ordering::SeqCst);
            let Some(Value::Int(pending)) = zm.pending(&like("f1")).await.unwrap() else {
                panic!("a number")
            };
            let most = counts.begun.load(Ordering::SeqCst);
            assert!(pending >= last, "{pending} after {last}");
            assert!((least..=most).contains(&pending), "{pending} is not in {least}..={most}");
            last = pending;
        }
    })
    .await;
    assert!(zm.stats().flushes > 5, "{:?}", zm.stats());
    assert_eq!(zm.pending(&like("f1")).await.unwrap(), Some(Value::Int(accepted)));
    zm.close().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await, Some(accepted.to_string()));
}

#[tokio::test]
async fn a_flush_leaves_the_value_of_an_operation_that_was_accepted_meanwhile() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let zm = scene.setup.clone().postgres_behind(&proxy, &scene.database).open().await;
    zm.source("f*", sql("SELECT likes FROM meta WHERE id = ?", ()).unwrap(), Default::default()).unwrap();
    let with = async |id: &'static str, data: Option<&'static str>| {
        let data = data.map(|it| Bytes::from_static(it.as_bytes()));
        zm.cache_and_periodic_store(Some(id), data, like(id), WriteOptions::default()).await.unwrap()
    };
    with("f1", None).await;
    zm.flush().await.unwrap();
    let earlier = [
        with("f1", Some("two")).await,
        with("f2", None).await,
        with("f3", Some("one")).await,
        with("f4", None).await,
    ];
    let held = proxy.rule(commit(), Action::Hold);
    let flush = tokio::spawn({
        let zm = zm.clone();
        async move { zm.flush().await }
    });
    held.fired().await;
    with("f1", Some("three")).await;
    with("f2", Some("two")).await;
    with("f3", None).await;
    held.release();
    flush.await.unwrap().unwrap();
    for receipt in earlier {
        receipt.done().await.unwrap();
    }
    let found = async |id| zm.get(id).await.unwrap();
    assert_eq!(found("f1").await, Some(Bytes::from("three")), "accepted later, with a value");
    assert_eq!(found("f2").await, Some(Bytes::from("two")));
    assert_eq!(found("f3").await, Some(Bytes::from("1")), "the later operation made the value old");
    assert_eq!(found("f4").await, Some(Bytes::from("1")));
    zm.flush().await.unwrap();
    assert_eq!(found("f1").await, Some(Bytes::from("three")));
    assert_eq!(found("f3").await, Some(Bytes::from("2")));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_redis_is_told_again_leaves_what_was_accepted_meanwhile() {
    let scene = Scene::new().await;
    let redis = Proxy::to_redis(&crate::support::redis_addr()).await;
    let zm = scene.with("redis_timeout", "200ms").redis_behind(&redis).open().await;
    zm.source("f*", sql("SELECT likes FROM meta WHERE id = ?", ()).unwrap(), Default::default()).unwrap();
    let with = async |data: Option<&'static str>| {
        let data = data.map(|it| Bytes::from_static(it.as_bytes()));
        zm.cache_and_periodic_store(Some("f1"), data, like("f1"), WriteOptions::default()).await.unwrap()
    };
    assert!(with(Some("old")).await.cached);
    redis.down().await;
    with(None).await;
    zm.flush().await.unwrap();
    redis.up().await;
    until("Redis is back", async || with(Some("later")).await.cached).await;
    // It is told again after a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(zm.get("f1").await.unwrap(), Some(Bytes::from("later")));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_changes_between_flushes_is_not_noticed() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let changes = [
        "ALTER TABLE meta ADD COLUMN later text",
        "ALTER TABLE meta ALTER COLUMN likes TYPE numeric",
        "ALTER TABLE meta DROP COLUMN later",
        "ALTER TABLE meta ALTER COLUMN id TYPE varchar(80)",
        "ALTER TABLE meta ALTER COLUMN likes TYPE int",
        "CREATE INDEX ON meta (likes)",
        "ALTER TABLE meta RENAME TO meta2; CREATE TABLE meta (LIKE meta2 INCLUDING ALL); INSERT INTO meta SELECT * FROM meta2; \
         DROP TABLE meta2",
    ];
    let mut expected = 0;
    for change in ["SELECT 1"].iter().chain(&changes) {
        scene.client.batch_execute(change).await.unwrap();
        // Several batches, so that each pooled connection has met the old schema.
        for _ in 0..3 {
            let receipt = accept(&zm, like("f1")).await;
            expected += 1;
            let pending = zm.pending(&like("f1")).await.unwrap_or_else(|error| panic!("{change}: {error}"));
            assert_eq!(pending.map(number), Some(expected), "{change}");
            let report = zm.flush().await.unwrap_or_else(|error| panic!("{change}: {error}"));
            assert_eq!((report.rows, report.dead), (1, 0), "{change}: {report:?}");
            receipt.done().await.unwrap();
        }
        assert_eq!(scene.text("likes", "f1").await, Some(expected.to_string()), "{change}");
    }
    assert_eq!(zm.stats().flush_failures, 0);
    zm.close().await.unwrap();
}

/// The schema decides how PostgreSQL gives it.
fn number(value: Value) -> i64 {
    match value {
        Value::Int(number) => number,
        Value::Decimal(number) => number.to_string().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_that_lost_its_prepared_statements_is_not_noticed() {
    let scene = Scene::new().await;
    let zm = scene.with("pool_size", 1).open().await;
    for round in 1..=5 {
        let receipt = accept(&zm, like("f1")).await;
        let report = zm.flush().await.unwrap();
        assert_eq!((report.rows, report.dead), (1, 0), "{report:?}");
        receipt.done().await.unwrap();
        assert_eq!(scene.text("likes", "f1").await, Some(round.to_string()));
        // As if a pooler had switched the connection to another server session.
        let forget = sql("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$", ()).unwrap();
        zm.sql_exec(forget).await.unwrap();
    }
    assert_eq!(zm.stats().flush_failures, 0);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_made_anew_between_flushes_counts_from_there() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    for _ in 0..rounds(3, 20) {
        for n in 1..=3 {
            accept(&zm, like("f1")).await;
            zm.flush().await.unwrap();
            assert_eq!(scene.text("likes", "f1").await, Some(n.to_string()));
        }
        let anew = "BEGIN; DROP TABLE meta; CREATE TABLE meta (likes int NOT NULL DEFAULT 0, id text PRIMARY KEY, tags jsonb); \
                    INSERT INTO meta (id) VALUES ('f1'); COMMIT";
        scene.client.batch_execute(anew).await.unwrap();
    }
    assert_eq!((zm.stats().flush_failures, zm.stats().batch_dead), (0, 0));
    until("nothing is pending", async || zm.stats().pending_cells == 0).await;
    zm.close().await.unwrap();
}
