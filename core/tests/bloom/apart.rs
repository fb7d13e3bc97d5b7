//! Writers that cannot reach the bits, and writers that are stopped between their admission and their COMMIT.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use zmsg_core::engine::{DelayOptions, WriteOptions, Zmsg};

use crate::scene::{Scene, built_after, declare, figures, insert, serving, store};
use crate::support::engine::until;
use crate::support::proxy::{Action, Proxy, commit};
use crate::support::redis_addr;

/// A process that cannot reach Redis, and the proxy that could let it.
async fn partitioned(scene: &Scene) -> (Zmsg, Proxy) {
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let writer = scene.setup.clone().with("redis_timeout", "300ms").redis_behind(&proxy).open().await;
    proxy.down().await;
    (writer, proxy)
}

/// Asks all the time, and gives back when each question began that was answered with "no".
async fn ask_all_the_time(zm: &Zmsg, key: &str, done: &AtomicBool) -> Vec<Instant> {
    let mut noes = Vec::new();
    while !done.load(Ordering::SeqCst) {
        let began = Instant::now();
        if !zm.db_hit(key).await.unwrap() {
            noes.push(began);
        }
    }
    noes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_cut_off_from_redis_opens_the_family_and_nobody_says_no_to_its_rows() {
    let scene = Scene::new().await;
    let reader = scene.open().await;
    let (writer, proxy) = partitioned(&scene).await;
    let done = Arc::new(AtomicBool::new(false));
    let asking = {
        let (reader, done) = (reader.clone(), done.clone());
        tokio::spawn(async move { ask_all_the_time(&reader, "feed_cut_off", &done).await })
    };
    assert!(!reader.db_hit("feed_cut_off").await.unwrap());
    let began = Instant::now();
    store(&writer, "feed_cut_off").await;
    let (acknowledged, took) = (Instant::now(), began.elapsed());
    assert!(took >= Duration::from_secs(2), "it waited until everybody knew: {took:?}");
    // The next ones do not wait again.
    for n in 0..20 {
        store(&writer, &format!("feed_cut_off_{n}")).await;
        assert!(reader.db_hit(&format!("feed_cut_off_{n}")).await.unwrap());
    }
    // Also while it is built again and again, which the writer's writes keep open.
    let until_then = Instant::now() + Duration::from_secs(8);
    let mut n = 100;
    while Instant::now() < until_then {
        let key = format!("feed_cut_off_{n}");
        store(&writer, &key).await;
        assert!(reader.db_hit(&key).await.unwrap(), "{key}");
        n += 1;
    }
    done.store(true, Ordering::SeqCst);
    let noes = asking.await.unwrap();
    assert!(!noes.is_empty(), "before it there was a no");
    assert!(noes.iter().all(|at| *at < acknowledged), "a question after the COMMIT was answered with no");
    proxy.up().await;
    store(&writer, "feed_back").await;
    until("the family is closed again", async || {
        store(&writer, "feed_back_2").await;
        figures(&reader).state == "serving"
    })
    .await;
    assert!(!reader.db_hit("feed_nobody").await.unwrap());
    for key in ["feed_cut_off", "feed_cut_off_0", "feed_cut_off_100", "feed_back", "feed_back_2"] {
        assert!(reader.db_hit(key).await.unwrap(), "{key}");
    }
    writer.close().await.unwrap();
    reader.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_and_delayed_writes_of_a_process_that_is_cut_off_open_the_family_too() {
    let scene = Scene::new().await;
    let reader = scene.open().await;
    let (writer, _proxy) = partitioned(&scene).await;
    writer
        .cache_and_periodic_store(Some("feed_flushed"), None, insert("feed_flushed"), WriteOptions::default())
        .await
        .unwrap();
    until("it is flushed", async || writer.flush().await.is_ok()).await;
    assert!(reader.db_hit("feed_flushed").await.unwrap());
    assert_eq!(figures(&reader).state, "open");
    // The reader's worker is the one that can reach Redis: only the writer's may run it.
    reader.close().await.unwrap();
    let soon = DelayOptions { delay: Some(Duration::ZERO), ..DelayOptions::default() };
    let receipt =
        writer.cache_and_delay_store(Some("feed_delayed"), None, insert("feed_delayed"), soon).await.unwrap();
    receipt.done().await.unwrap();
    let reader = scene.setup.clone().with_queue("worker", false).open().await;
    declare(&reader);
    assert!(reader.db_hit("feed_delayed").await.unwrap());
    until("it is built, and stays open or is closed", async || figures(&reader).generation > 1).await;
    assert!(reader.db_hit("feed_delayed").await.unwrap() && reader.db_hit("feed_flushed").await.unwrap());
    writer.close().await.unwrap();
    reader.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_waits_for_a_writer_that_was_admitted_before_it_and_has_yet_to_commit() {
    let scene = Scene::new().await;
    let reader = scene.open().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let writer = scene.setup.clone().postgres_behind(&proxy, &scene.database).open().await;
    store(&writer, "feed_warm").await;
    // Its key is in the filter; its COMMIT is on the way.
    let held = proxy.rule(commit(), Action::Hold);
    let writing = {
        let writer = writer.clone();
        tokio::spawn(async move {
            let data = Some(Bytes::from_static(b"new"));
            writer
                .cache_and_store(Some("feed_held"), data, insert("feed_held"), WriteOptions::default())
                .await
        })
    };
    held.fired().await;
    let generation = figures(&reader).generation;
    // A new generation, which nobody has told of that key.
    scene.client.batch_execute("UPDATE zmsg_bloom SET serving = NULL").await.unwrap();
    until("a build is under way", async || scene.row("(building IS NOT NULL)::int").await == 1).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(figures(&reader).state, "building", "it waits");
    held.release();
    writing.await.unwrap().unwrap();
    built_after(&reader, generation).await;
    assert!(reader.db_hit("feed_held").await.unwrap());
    assert!(!reader.db_hit("feed_nobody").await.unwrap());
    writer.close().await.unwrap();
    reader.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_without_redis_or_postgres_say_maybe() {
    let scene = Scene::new().await;
    let there = scene.open().await;
    let (redis, postgres) = (Proxy::to_redis(&redis_addr()).await, Proxy::start(&scene.database.dsn).await);
    let setup = scene.setup.clone().with("redis_timeout", "300ms").redis_behind(&redis);
    let zm = setup.postgres_behind(&postgres, &scene.database).open().await;
    declare(&zm);
    serving(&zm).await;
    assert!(!zm.db_hit("feed_nobody").await.unwrap());
    redis.down().await;
    assert!(zm.db_hit("feed_nobody").await.unwrap());
    redis.up().await;
    until("it answers again", async || !zm.db_hit("feed_nobody").await.unwrap()).await;
    postgres.silence(true);
    postgres.cut_all();
    // What it knows is too old after two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let quick = zm.with_timeout(Some(Duration::from_millis(500)));
    assert!(quick.db_hit("feed_nobody").await.unwrap());
    postgres.silence(false);
    until("it answers again", async || !zm.db_hit("feed_nobody").await.unwrap()).await;
    zm.close().await.unwrap();
    there.close().await.unwrap();
}
