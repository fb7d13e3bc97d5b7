//! Redis away: PostgreSQL carries the reads, writes are stored, nothing old is served here, and it all heals.

use std::time::Duration;

use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, declare, some, text, write};
use crate::support::engine::{until, within};
use crate::support::proxy::Proxy;
use crate::support::redis_addr;

/// `redis_timeout` of the engines here; three times that and the machine's own slowness is what a call may take.
const REDIS_TIMEOUT: &str = "300ms";
const SOON: Duration = Duration::from_millis(2_500);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Away {
    Killed,
    Silent,
}

impl Away {
    async fn begin(self, proxy: &Proxy) {
        match self {
            Away::Killed => proxy.down().await,
            Away::Silent => proxy.silence(true),
        }
    }

    async fn end(self, proxy: &Proxy) {
        match self {
            Away::Killed => proxy.up().await,
            Away::Silent => proxy.silence(false),
        }
    }
}

fn options() -> WriteOptions {
    WriteOptions::default()
}

async fn redis_is_well(zmsg: &Zmsg) -> bool {
    let health = zmsg.health().await.unwrap();
    let redis = health.tiers.iter().find(|tier| tier.name == "redis").unwrap();
    assert_eq!(redis.error.is_none(), redis.ok);
    redis.ok
}

async fn play(away: Away) {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let setup = scene
        .setup
        .clone()
        .redis_behind(&proxy)
        .with("redis_timeout", REDIS_TIMEOUT)
        .with("coherence_bound", "1m");
    let zmsg = setup.open().await;
    declare(&zmsg);
    scene.insert("feed_row", "from the table").await;
    scene.insert("feed_other", "another").await;
    write(&zmsg, "feed_1", "old").await.unwrap();
    zmsg.cache_only("kept", text("in memory"), options()).await.unwrap();
    assert!(zmsg.health().await.unwrap().ok);

    away.begin(&proxy).await;
    reads_go_on(&zmsg).await;
    writes_are_stored(&scene, &zmsg).await;
    caches_say_so(&zmsg).await;
    health_names_it(&zmsg, &proxy).await;

    away.end(&proxy).await;
    until("Redis to be back", async || redis_is_well(&zmsg).await).await;
    heals(&scene, &zmsg).await;
    zmsg.close().await.unwrap();
}

async fn reads_go_on(zmsg: &Zmsg) {
    let read = within(SOON, "a get with a source", zmsg.get("feed_row")).await;
    assert_eq!(read.unwrap(), some("from the table"));
    assert_eq!(zmsg.peek("feed_row").unwrap(), some("from the table"), "memory has it now");
    assert_eq!(within(SOON, "a hit", zmsg.get("kept")).await.unwrap(), some("in memory"));
    let keys = ["feed_other", "feed_row", "feed_none"];
    let many = within(SOON, "many", zmsg.get_many(&keys)).await.unwrap();
    assert_eq!(many, [some("another"), some("from the table"), None]);
    let error = within(SOON, "a get without a source", zmsg.get("unsourced")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache, "absence would be a guess: {error}");
    assert!(error.retryable());
    let error =
        within(SOON, "many without a source", zmsg.get_many(&["feed_row", "unsourced"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache);
}

async fn writes_are_stored(scene: &Scene, zmsg: &Zmsg) {
    assert_eq!(zmsg.peek("feed_1").unwrap(), some("old"));
    let receipt = within(SOON, "a write", write(zmsg, "feed_1", "new")).await.unwrap();
    assert!(!receipt.cached);
    assert_eq!(scene.row("feed_1").await.as_deref(), Some("new"));
    assert_ne!(zmsg.peek("feed_1").unwrap(), some("old"));
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("new"));
    let receipt = within(
        SOON,
        "a write that drops",
        zmsg.del_store(Some("feed_1"), crate::scene::put("feed_1", "newer"), options()),
    );
    assert!(!receipt.await.unwrap().cached);
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("newer"));
}

async fn caches_say_so(zmsg: &Zmsg) {
    let error =
        within(SOON, "cache_only", zmsg.cache_only("kept", text("other"), options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
    assert_eq!(zmsg.peek("kept").unwrap(), None, "nobody knows which of the two Redis has");
    let error = within(SOON, "del", zmsg.del("feed_row")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
    assert_eq!(zmsg.peek("feed_row").unwrap(), None);
    let error = zmsg.with_timeout(Some(Duration::from_millis(100))).get("unsourced").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Cache), "{error}");
    assert!(zmsg.stats().l2_errors > 0);
}

async fn health_names_it(zmsg: &Zmsg, proxy: &Proxy) {
    let health = within(SOON, "health", zmsg.health()).await.unwrap();
    assert!(!health.ok);
    let of = |name: &str| health.tiers.iter().find(|tier| tier.name == name).unwrap();
    assert!(of("postgres").ok && of("postgres").latency_ms.is_some());
    let redis = of("redis");
    assert!(!redis.ok && redis.latency_ms.is_none());
    assert!(redis.error.as_ref().unwrap().contains(&proxy.address.to_string()), "{redis:?}");
}

async fn heals(scene: &Scene, zmsg: &Zmsg) {
    let view = scene.redis_view().await;
    assert_eq!(zmsg.get("unsourced").await.unwrap(), None);
    zmsg.cache_only("kept", text("again"), options()).await.unwrap();
    assert_eq!(view.get("kept").await.unwrap(), some("again"));
    assert!(write(zmsg, "feed_1", "newest").await.unwrap().cached);
    assert_eq!(view.get("feed_1").await.unwrap(), some("newest"));
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("newest"));
    zmsg.del("kept").await.unwrap();
    assert_eq!(scene.redis_view().await.get("kept").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed() {
    play(Away::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent() {
    play(Away::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_network_forgot_is_replaced() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let setup = scene.setup.clone().redis_behind(&proxy).with("redis_timeout", REDIS_TIMEOUT);
    let zmsg = setup.open().await;
    zmsg.cache_only("a", text("1"), options()).await.unwrap();
    proxy.forget_open();
    until("another connection", async || redis_is_well(&zmsg).await).await;
    zmsg.cache_only("a", text("2"), options()).await.unwrap();
    assert_eq!(scene.redis_view().await.get("a").await.unwrap(), some("2"));
}
