//! PostgreSQL of the test's own is killed, stopped, away and read-only while likes go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use zmsg_core::engine::{WriteOptions, Zmsg};

use crate::scene::{Scene, accept, like, likes, rounds};
use crate::support::database_on;
use crate::support::engine::{until, within};
use crate::support::servers::PostgresServer;

const QUICK: &str = "10ms";

async fn scene(server: &PostgresServer) -> Scene {
    Scene::on(database_on(server).await).await
}

/// Likes of twenty rows, until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicI64>,
    running: JoinHandle<()>,
}

impl Load {
    fn start(zm: &Zmsg) -> Load {
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (zm, told, count) = (zm.clone(), stop.clone(), accepted.clone());
        let running = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(1));
            while !told.load(Ordering::Relaxed) {
                for row in 1..=20 {
                    accept(&zm, like(&format!("f{row}"))).await;
                }
                count.fetch_add(20, Ordering::Relaxed);
                pace.tick().await;
            }
        });
        Load { stop, accepted, running }
    }

    /// So many more likes have been accepted.
    async fn goes_on(&self, more: i64) {
        let before = self.accepted.load(Ordering::Relaxed);
        until("likes are accepted", async || self.accepted.load(Ordering::Relaxed) >= before + more).await;
    }

    async fn stop(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.unwrap();
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn sum(scene: &Scene) -> i64 {
    scene.likes().await.values().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_under_load_loses_and_doubles_nothing() {
    let mut server = PostgresServer::start().await;
    let mut scene = scene(&server).await;
    let zm = scene.with("batch_interval", QUICK).open().await;
    let load = Load::start(&zm);
    for round in 0..rounds(4, 40) {
        let flushes = zm.stats().flushes;
        until("flushes go on", async || zm.stats().flushes > flushes + 3).await;
        match round % 2 {
            0 => server.kill(),
            _ => server.stop_immediate().await,
        }
        load.goes_on(200).await;
        server.start_again().await;
    }
    let accepted = load.stop().await;
    scene.client = scene.database.client().await;
    until("everything is flushed", async || zm.stats().pending_cells == 0).await;
    assert_eq!(sum(&scene).await, accepted);
    zm.close().await.unwrap();
    assert_eq!((scene.journals(), scene.count("zmsg_journals").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_hangs_costs_bounded_memory_and_no_like() {
    const MEMORY: u64 = 1 << 20;
    let mut server = PostgresServer::start().await;
    let scene = scene(&server).await;
    let setup = scene.with("batch_interval", QUICK).with("batch_max_bytes", MEMORY);
    let zm = setup.with("overload_timeout", "50ms").open().await;
    accept(&zm, like("f1")).await;
    zm.flush().await.unwrap();
    server.freeze();
    let (mut accepted, mut refused, mut most) = (1, 0, 0);
    let until_when = std::time::Instant::now() + Duration::from_secs(rounds(2, 30).into());
    for n in 0.. {
        // Each makes a row of its own, which is what takes memory.
        let row = format!("row {n}");
        let like = likes(&row).inc(1).or_insert(&[("id", row.as_str().into())]).unwrap().build().unwrap();
        match zm.cache_and_periodic_store(None, None, like, WriteOptions::default()).await {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!(error.code(), "overloaded", "{error}");
                refused += 1;
            }
        }
        most = most.max(zm.stats().pending_bytes);
        if refused >= 5 && std::time::Instant::now() >= until_when {
            break;
        }
    }
    assert!(most <= MEMORY + MEMORY / 10, "{most} bytes were held");
    assert_eq!(zm.stats().batch_overloads, refused);
    // What is known already and takes no more memory has to wait as well: the bound is one.
    server.thaw();
    within(
        Duration::from_secs(15),
        "draining",
        until("everything is flushed", async || zm.stats().pending_cells == 0),
    )
    .await;
    assert_eq!(sum(&scene).await, accepted);
    accept(&zm, like("f1")).await;
    zm.close().await.unwrap();
    assert_eq!(sum(&scene).await, accepted + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_are_accepted_before_postgres_is_there() {
    let mut server = PostgresServer::start().await;
    let mut scene = scene(&server).await;
    server.stop_immediate().await;
    let degraded = scene.with("start_degraded", true).with("batch_interval", QUICK);
    let leaves = degraded.open().await;
    let left = accept(&leaves, like("f1")).await;
    assert!(leaves.flush().await.is_err());
    leaves.close().await.unwrap();
    assert_eq!(left.done().await.unwrap_err().code(), "closed");
    assert_eq!(scene.journals(), 1, "its journal stays");

    let stays = degraded.open().await;
    let receipt = accept(&stays, like("f1")).await;
    server.start_again().await;
    within(Duration::from_secs(20), "reaching PostgreSQL", receipt.done()).await.unwrap();
    scene.client = scene.database.client().await;
    // The adopter's COMMIT comes before it removes the journal, and a close in between leaves that to the next process.
    until("the other's journal is adopted", async || stays.stats().journals_adopted == 1).await;
    assert_eq!(sum(&scene).await, 2);
    stays.close().await.unwrap();
    assert_eq!((scene.journals(), scene.count("zmsg_journals").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_read_only_for_a_while_costs_nothing() {
    let server = PostgresServer::start().await;
    let scene = scene(&server).await;
    let zm = scene.open().await;
    accept(&zm, like("f1")).await;
    zm.flush().await.unwrap();
    scene.client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    let mut likes = 1;
    for _ in 0..rounds(2, 10) {
        read_only(&scene, "on").await;
        let mut receipt = None;
        // Until the engine's own session has heard of it, flushes pass.
        until("a flush is refused", async || {
            receipt = Some(accept(&zm, like("f1")).await);
            likes += 1;
            zm.flush().await.is_err_and(|error| error.sqlstate() == Some("25006"))
        })
        .await;
        assert_eq!(scene.text("likes", "f1").await, Some((likes - 1).to_string()));
        read_only(&scene, "off").await;
        within(Duration::from_secs(15), "the next try", receipt.unwrap().done()).await.unwrap();
        assert_eq!(scene.text("likes", "f1").await, Some(likes.to_string()));
    }
    assert_eq!(zm.dead_letters().await.unwrap(), []);
    zm.close().await.unwrap();
}

/// Of all sessions but the test's, the next moment.
async fn read_only(scene: &Scene, word: &str) {
    let change = format!("ALTER SYSTEM SET default_transaction_read_only = {word}");
    scene.client.execute(&change, &[]).await.unwrap();
    scene.client.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
}
