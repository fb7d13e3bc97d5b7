//! How a worker stops: it ends what has begun and gives back the rest, within its time.

use std::time::{Duration, Instant};

use zmsg_core::sql::{params, sql};

use crate::scene::{Scene, accept, after};
use crate::support::engine::{until, within};

/// Longer than any test: what runs sooner was given back.
const LEASE: &str = "60s";

impl Scene {
    /// Somebody waits in the database in this way.
    async fn waits(&self, event: &str) -> bool {
        let question = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = $1";
        !self.client.query(question, &[&event]).await.unwrap().is_empty()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_a_transaction_end_and_gives_back_what_has_not_started() {
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("lease", LEASE).with_queue("concurrency", 1);
    let api = setup.clone().with_queue("worker", false).open().await;
    api.pause_queue().await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..20 {
        receipts.push(accept(&api, &format!("k{n}"), "good").await);
    }
    // Its group has to be halved until it is alone, each half a transaction of its own.
    let poison = "INSERT INTO effects (key, what) SELECT ?, NULL FROM pg_advisory_xact_lock(7)";
    let poison = sql(poison, params!["k99"]).unwrap();
    let poison = api.cache_and_delay_store(Some("k99"), None, poison, after(0)).await.unwrap();
    scene.client.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
    let worker = setup.open().await;
    api.resume_queue().await.unwrap();
    until("the group runs", async || scene.waits("advisory").await).await;
    let stopping = worker.clone();
    let mut closing = tokio::spawn(async move { stopping.close().await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut closing).await;
    early.expect_err("it waits for what has begun");
    scene.client.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
    within(Duration::from_secs(3), "the stop", closing).await.unwrap().unwrap();
    assert_eq!(scene.count("zmsg_done").await, 0, "the halves have not started");
    let other = setup.open().await;
    let given_back = Instant::now();
    for receipt in &receipts {
        within(Duration::from_secs(10), "another worker", receipt.done()).await.unwrap();
    }
    assert_eq!(poison.done().await.unwrap_err().sqlstate(), Some("23502"));
    assert!(given_back.elapsed() < Duration::from_secs(10), "{:?}", given_back.elapsed());
    for zm in [api, other] {
        zm.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_its_time_and_gives_back_what_runs_longer() {
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("lease", LEASE);
    let worker = setup.open().await;
    let long =
        sql("INSERT INTO effects (key, what) SELECT 'k', 'long' FROM pg_sleep(?)", params![30.0]).unwrap();
    let receipt = worker.cache_and_delay_store(Some("k"), None, long, after(0)).await.unwrap();
    until("it runs", async || scene.waits("PgSleep").await).await;
    let brief = worker.with_timeout(Some(Duration::from_secs(1)));
    within(Duration::from_millis(1_300), "the stop", brief.close()).await.unwrap();
    assert_eq!(receipt.done().await.unwrap_err().code(), "closed");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE wait_event = 'PgSleep' AND datname = current_database()";
    scene.client.batch_execute(end).await.unwrap();
    until("nobody runs it", async || !scene.waits("PgSleep").await).await;
    let other = setup.open().await;
    until("another worker runs it", async || scene.waits("PgSleep").await).await;
    scene.client.batch_execute(end).await.unwrap();
    other.with_timeout(Some(Duration::from_secs(1))).close().await.unwrap();
}
