//! Signals of the outbox: who hears them looks at once, and who does not looks all the same. One connection beside the pool
//! is enough for them.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::value::Value;

use crate::scene::{Scene, declare, put, some, write};
use crate::support::engine::{Setup, until, within};
use crate::support::proxy::{Action, Kind, Proxy, from_client};
use crate::support::{redis_addr, task};
use crate::{BOUND, sees};

/// Of the longest `coherence_bound`, a quarter of which lies between two looks: 15 s.
const FAR_AWAY: &str = "1m";
/// So three of these in a row are no looks.
const LONG_BEFORE_A_LOOK: Duration = Duration::from_secs(4);

/// Engines whose connections bear a name.
fn named(scene: &Scene, name: &str) -> Setup {
    let dsn = &scene.database.dsn;
    let sign = if dsn.contains('?') { '&' } else { '?' };
    let setup = scene.setup.clone().with("redis_timeout", "200ms").with("coherence_bound", FAR_AWAY);
    setup.with("postgres_dsn", format!("{dsn}{sign}application_name={name}"))
}

async fn opened(setup: Setup) -> Zmsg {
    let zmsg = setup.open().await;
    declare(&zmsg);
    zmsg
}

async fn connections(scene: &Scene, name: &str) -> i64 {
    let ask =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1";
    scene.outside.query_one(ask, &[&name]).await.unwrap().get(0)
}

/// The server process of the connection that listens: it looks into the outbox when it is signalled, long before it would.
async fn listening(scene: &Scene, name: &str) -> i32 {
    let ask = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 \
               AND query LIKE '%zmsg_outbox%' AND query_start > $2";
    let now: SystemTime = scene.outside.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
    let mut found = Vec::new();
    until("a connection that listens", async || {
        scene.outside.batch_execute("NOTIFY zmsg_outbox").await.unwrap();
        found =
            scene.outside.query(ask, &[&name, &now]).await.unwrap().iter().map(|row| row.get(0)).collect();
        !found.is_empty()
    })
    .await;
    assert_eq!(found.len(), 1);
    found[0]
}

/// Three writes of a process that does not reach Redis, each seen by another one long before it would look.
async fn is_told(cut: &Zmsg, well: &Zmsg, mut old: String) {
    for round in 0..3 {
        let new = format!("{old}, then {round}");
        let seen = async {
            assert!(!write(cut, "feed_1", &new).await.unwrap().cached);
            sees(well, "feed_1", &old, Some(&new)).await;
        };
        within(LONG_BEFORE_A_LOOK, "being told", seen).await;
        old = new;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_could_not_tell_redis_is_told_at_once() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let cut = opened(named(&scene, "cut").redis_behind(&proxy)).await;
    let well = opened(named(&scene, "well")).await;
    write(&cut, "feed_1", "old").await.unwrap();
    assert_eq!(well.get("feed_1").await.unwrap(), some("old"));
    listening(&scene, "well").await;
    proxy.down().await;
    is_told(&cut, &well, "old".to_owned()).await;
    until("it to have relayed them", async || well.stats().outbox_relayed == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_is_told_at_once_too() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let cut = opened(named(&scene, "cut").redis_behind(&proxy)).await;
    let well = opened(named(&scene, "well")).await;
    write(&cut, "feed_1", "old").await.unwrap();
    assert_eq!(well.get("feed_1").await.unwrap(), some("old"));
    listening(&scene, "well").await;
    proxy.down().await;
    let seen = async {
        let changed = put("feed_1", "new");
        cut.cache_and_periodic_store(Some("feed_1"), None, changed, WriteOptions::default()).await.unwrap();
        cut.flush().await.unwrap();
        sees(&well, "feed_1", "old", Some("new")).await;
    };
    within(LONG_BEFORE_A_LOOK, "being told", seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_was_cut_off_listens_again() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let cut = opened(named(&scene, "cut").redis_behind(&proxy)).await;
    let well = opened(named(&scene, "well")).await;
    write(&cut, "feed_1", "old").await.unwrap();
    assert_eq!(well.get("feed_1").await.unwrap(), some("old"));
    let first = listening(&scene, "well").await;
    scene.outside.query("SELECT pg_terminate_backend($1)", &[&first]).await.unwrap();
    let other = listening(&scene, "well").await;
    assert_ne!(other, first);
    proxy.down().await;
    is_told(&cut, &well, "old".to_owned()).await;
    assert_eq!(listening(&scene, "well").await, other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_listen_finds_it_all_the_same() {
    let scene = Scene::new().await;
    let (redis, postgres) = (Proxy::to_redis(&redis_addr()).await, Proxy::start(&scene.database.dsn).await);
    let refused = postgres.rule(from_client(Kind::Query).containing("LISTEN").each(), Action::Close);
    let bound = format!("{}ms", BOUND.as_millis());
    let cut = opened(named(&scene, "cut").redis_behind(&redis)).await;
    let deaf = scene.setup.clone().with("coherence_bound", bound).postgres_behind(&postgres, &scene.database);
    let deaf = opened(deaf).await;
    refused.fired().await;
    write(&deaf, "feed_1", "old").await.unwrap();
    assert_eq!(deaf.get("feed_1").await.unwrap(), some("old"));
    redis.down().await;
    assert!(!write(&cut, "feed_1", "new").await.unwrap().cached);
    sees(&deaf, "feed_1", "old", Some("new")).await;
    let before = refused.times();
    until("it to try again", async || refused.times() > before).await;
    assert!(write(&deaf, "feed_1", "newer").await.unwrap().cached);
    within(Duration::from_secs(3), "close", deaf.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_has_one_connection_beside_its_pool_and_none_after_its_close() {
    let scene = Scene::new().await;
    let zmsg = opened(named(&scene, "busy").with("pool_size", 2)).await;
    listening(&scene, "busy").await;
    let gate = scene.close_gate().await;
    let writes = (0..5).map(|at| {
        let (zmsg, key) = (zmsg.clone(), format!("feed_{at}"));
        let params = [Value::text(key.as_str()), Value::text("w")];
        let insert = task("INSERT INTO feeds (id, content) VALUES (?, gate(?))", &params);
        tokio::spawn(async move {
            zmsg.cache_and_store(Some(&key), some("w"), insert, WriteOptions::default()).await
        })
    });
    let writes: Vec<_> = writes.collect();
    gate.waited_for_by(2).await;
    // It listens, and it has asked for the state of Bloom filters.
    assert_eq!(connections(&scene, "busy").await, 2 + 1);
    gate.open().await;
    for write in join_all(writes).await {
        assert!(write.unwrap().unwrap().cached);
    }
    assert_eq!(connections(&scene, "busy").await, 2 + 1);
    zmsg.close().await.unwrap();
    until("its connections to be gone", async || connections(&scene, "busy").await == 0).await;
}
