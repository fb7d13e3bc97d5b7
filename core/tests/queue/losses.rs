//! A Redis that is full, that loses data, or that somebody has been at: what is there goes on, and what is gone is noticed.

use zmsg_core::engine::DelayOptions;
use zmsg_core::sql::sql;

use crate::redis::{Meddler, redis_client};
use crate::scene::{Scene, accept, after, bytes, effect};
use crate::support::engine::until;
use crate::support::servers::RedisServer;

#[tokio::test]
async fn a_full_redis_accepts_nothing_and_empties_itself() {
    let server = RedisServer::start_with(&["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"]).await;
    let scene = Scene::new().await;
    let zm = scene.setup.clone().with_queue("addr", server.addr.as_str()).open().await;
    accept(&zm, "warm", "warm").await.done().await.unwrap();
    zm.pause_queue().await.unwrap();
    let long = "x".repeat(100_000);
    let mut accepted = 1;
    let error = loop {
        let key = format!("k{accepted}");
        match zm.cache_and_delay_store(Some(&key), None, effect(&key, &long), after(0)).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 200);
    };
    assert!(error.code() == "overloaded" && error.retryable(), "{error}");
    assert!(!error.message().contains("may have been accepted"), "{error}");
    let redis = Meddler::at(&server.addr).await;
    redis.run("", &["CONFIG", "SET", "maxmemory", "6mb"]).await;
    zm.resume_queue().await.unwrap();
    until("it empties itself", async || scene.count("effects").await == accepted).await;
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_may_evict_writes_is_noticed_when_it_comes_late_and_when_it_comes_back() {
    let evicting = ["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"];
    let mut server = RedisServer::start_with(&evicting).await;
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("addr", server.addr.as_str());
    server.kill();
    let degraded = setup.clone().with("start_degraded", true).with("connect_timeout", "300ms");
    let (zm, api) = (degraded.open().await, degraded.with_queue("worker", false).open().await);
    server.start_again().await;
    let lax = setup.with_queue("allow_eviction", true).with_queue("worker", false).open().await;
    let waiting = accept(&lax, "k", "accepted by another one").await;
    let refused = async || {
        let error =
            api.cache_and_delay_store(None, None, effect("k", "refused"), after(0)).await.unwrap_err();
        assert!(error.code() == "config" && error.message().contains("allkeys-lru"), "{error}");
        assert!(error.op_id().is_some());
    };
    refused().await;
    let redis = Meddler::at(&server.addr).await;
    redis.run("", &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    waiting.done().await.unwrap();
    let accepts = async || api.cache_and_delay_store(None, None, effect("k", "a"), after(0)).await.is_ok();
    until("it is accepted", accepts).await;
    until("it is run", async || scene.effects(None).await == ["accepted by another one", "a"]).await;
    // With the settings of its start.
    server.kill();
    server.start_again().await;
    let refused = async || {
        // The one that finds the connection lost may be accepted still.
        let sent = api.cache_and_delay_store(None, None, effect("k", "b"), after(60_000)).await;
        sent.is_err_and(|error| error.code() == "config")
    };
    until("it is refused", refused).await;
    for zm in [zm, api, lax] {
        zm.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_queue_that_is_emptied_under_its_writers_is_another_one() {
    let server = RedisServer::start().await;
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("addr", server.addr.as_str()).with_queue("worker", false);
    let zm = setup.open().await;
    let lost = accept(&zm, "k", "lost").await;
    let redis = Meddler::at(&server.addr).await;
    redis.run("", &["FLUSHALL"]).await;
    // Whoever had named it writes first.
    accept(&zm, "k", "kept").await;
    assert_eq!(zm.stats().queue_losses, 1);
    assert_eq!(lost.done().await.unwrap_err().code(), "queue");
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_value_that_was_lost_with_its_write_gives_way_to_what_is_accepted_later() {
    let server = RedisServer::start().await;
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("addr", server.addr.as_str());
    let zm = setup.open().await;
    accept(&zm, "warm", "warm").await.done().await.unwrap();
    let (redis, namespace) = (Meddler::at(&server.addr).await, scene.setup.namespace());
    let redis::Value::BulkString(before) = redis.run(namespace, &["HGET", "@state", "sequence"]).await else {
        panic!("a sequence")
    };
    let lost = zm
        .cache_and_delay_store(Some("k"), Some(bytes("lost")), effect("k", "lost"), after(60_000))
        .await
        .unwrap();
    // As after a Redis that lost its last second.
    let op_id = lost.op_id();
    redis.run(namespace, &["HDEL", "@bodies", &op_id]).await;
    redis.run(namespace, &["ZREM", "@due", &op_id]).await;
    redis.run(namespace, &["HDEL", "@tails", "k"]).await;
    redis.run(namespace, &["HSET", "@state", "sequence", std::str::from_utf8(&before).unwrap()]).await;
    until("the loss is noticed", async || zm.stats().queue_losses == 1).await;
    let new =
        zm.cache_and_delay_store(Some("k"), Some(bytes("new")), effect("k", "new"), after(0)).await.unwrap();
    new.done().await.unwrap();
    let other = setup.open().await;
    assert_eq!(
        (zm.get("k").await.unwrap(), other.get("k").await.unwrap()),
        (Some(bytes("new")), Some(bytes("new")))
    );
    assert_eq!(zm.stats().queue_losses, 1);
    other.close().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_write_whose_body_is_gone_stops_nobody_behind_it() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    zm.pause_queue().await.unwrap();
    let (first, second) = (accept(&zm, "k", "first").await, accept(&zm, "k", "second").await);
    let (alone, redis) = (accept(&zm, "other", "alone").await, redis_client().await);
    for gone in [&first, &alone] {
        redis.run(scene.setup.namespace(), &["HDEL", "@bodies", &gone.op_id()]).await;
    }
    zm.resume_queue().await.unwrap();
    second.done().await.unwrap();
    accept(&zm, "k", "third").await.done().await.unwrap();
    accept(&zm, "other", "behind").await.done().await.unwrap();
    for gone in [first, alone] {
        assert_eq!(gone.done().await.unwrap_err().code(), "queue");
    }
    assert_eq!(scene.effects(None).await, ["second", "third", "behind"]);
    until("the figures are read", async || zm.stats().queue_damaged == 2).await;
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_name_that_was_done_takes_nobodys_place() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let named = || DelayOptions { op_id: Some("x".to_owned()), coalesce: true, ..after(0) };
    let call = async || {
        zm.cache_and_delay_store(Some("k"), Some(bytes("x")), effect("k", "x"), named()).await.unwrap()
    };
    call().await.done().await.unwrap();
    let waiting = DelayOptions { coalesce: true, ..after(300) };
    let waiting =
        zm.cache_and_delay_store(Some("k"), Some(bytes("y")), effect("k", "y"), waiting).await.unwrap();
    call().await.done().await.unwrap();
    waiting.done().await.unwrap();
    assert_eq!(
        (scene.effects(None).await, zm.get("k").await.unwrap()),
        (vec!["x".to_owned(), "y".to_owned()], Some(bytes("y")))
    );
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_ends_its_connection_is_dead_in_the_end_and_stops_nobody() {
    let scene = Scene::new().await;
    let zm = scene.setup.clone().with_queue("retry_max", 1).with_queue("concurrency", 1).open().await;
    zm.pause_queue().await.unwrap();
    let end = "INSERT INTO effects (what) SELECT pg_terminate_backend(pg_backend_pid())::text";
    let poison = zm.cache_and_delay_store(Some("p"), None, sql(end, ()).unwrap(), after(0)).await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..20 {
        receipts.push(accept(&zm, &format!("k{n}"), "good").await);
    }
    zm.resume_queue().await.unwrap();
    for receipt in receipts {
        receipt.done().await.unwrap();
    }
    poison.done().await.unwrap_err();
    assert_eq!((scene.effects(None).await.len(), scene.count("zmsg_dead").await), (20, 1));
    zm.close().await.unwrap();
}
