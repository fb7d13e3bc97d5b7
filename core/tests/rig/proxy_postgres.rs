//! The proxy in front of PostgreSQL does harm at the message that was named, and at no other one.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::support::proxy::{Action, Kind, Proxy, commit, commit_answer, from_client, from_server};
use crate::support::{TestDatabase, database};

struct Scene {
    database: TestDatabase,
    proxy: Proxy,
}

impl Scene {
    async fn new() -> Scene {
        let database = database().await;
        database.client().await.batch_execute("CREATE TABLE t (n int)").await.unwrap();
        let proxy = Proxy::start(&database.dsn).await;
        Scene { database, proxy }
    }

    async fn try_client(&self) -> Option<Client> {
        let dsn = self.database.dsn_through(self.proxy.address);
        let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    async fn client(&self) -> Client {
        self.try_client().await.unwrap()
    }

    async fn rows(&self) -> i64 {
        let count = "SELECT count(*) FROM t";
        self.database.client().await.query_one(count, &[]).await.unwrap().get(0)
    }
}

const INSERT: &str = "INSERT INTO t VALUES (1)";

#[tokio::test]
async fn the_nth_message_that_matches_is_the_one() {
    let scene = Scene::new().await;
    let rule = scene.proxy.rule(from_client(Kind::Query).containing("INSERT").nth(3), Action::Close);
    let client = scene.client().await;
    for passes in [true, true, false] {
        client.batch_execute("SELECT 1").await.unwrap();
        assert_eq!(client.batch_execute(INSERT).await.is_ok(), passes);
    }
    rule.fired().await;
    // Once: the fourth passes.
    scene.client().await.batch_execute(INSERT).await.unwrap();
    assert_eq!((scene.rows().await, rule.times(), scene.proxy.cuts_made()), (3, 1, 1));
}

#[tokio::test]
async fn before_it_passes_or_after() {
    let scene = Scene::new().await;
    for (action, rows) in [(Action::Close, 1), (Action::Reset, 2)] {
        scene.proxy.rule(from_client(Kind::Query).containing("INSERT"), action);
        scene.client().await.batch_execute(INSERT).await.unwrap_err();
        let rule = scene.proxy.rule(from_client(Kind::Query).containing("INSERT").after(), action);
        scene.client().await.batch_execute(INSERT).await.unwrap_err();
        assert_eq!(rule.times(), 1);
        // Behind the connection's own session, which may still be at it.
        let lock = "LOCK TABLE t IN ACCESS EXCLUSIVE MODE";
        let other = scene.database.client().await;
        other.batch_execute(&format!("BEGIN; {lock}; COMMIT")).await.unwrap();
        crate::support::engine::until("the insert", async || scene.rows().await == rows).await;
    }
}

#[tokio::test]
async fn a_commit_is_found_in_every_form() {
    let scene = Scene::new().await;
    let rule = scene.proxy.rule(commit().each(), Action::Delay(Duration::ZERO));
    let client = scene.client().await;
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(rule.times(), 1, "alone");
    client.batch_execute(&format!("begin; {INSERT}; commit")).await.unwrap();
    assert_eq!(rule.times(), 2, "among others");
    let prepared = client.prepare("COMMIT").await.unwrap();
    assert_eq!(rule.times(), 2, "to prepare is not to run");
    client.batch_execute("BEGIN").await.unwrap();
    client.execute(&prepared, &[]).await.unwrap();
    assert_eq!(rule.times(), 3, "prepared");
    // In one flight with what comes before.
    let flight = tokio::join!(
        client.batch_execute("BEGIN"),
        client.execute("INSERT INTO t VALUES ($1)", &[&2]),
        client.batch_execute("COMMIT")
    );
    assert!(flight.0.is_ok() && flight.1.is_ok() && flight.2.is_ok());
    assert_eq!((rule.times(), scene.rows().await), (4, 2));
}

#[tokio::test]
async fn what_the_server_says_can_be_kept_from_the_client() {
    let scene = Scene::new().await;
    let answer = scene.proxy.rule(commit_answer(), Action::Hold);
    let client = scene.client().await;
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute(INSERT).await.unwrap();
    let committing = tokio::spawn(async move { client.batch_execute("COMMIT").await });
    answer.fired().await;
    assert_eq!(scene.rows().await, 1, "committed, and its client does not know");
    assert!(!committing.is_finished());
    answer.release();
    committing.await.unwrap().unwrap();
    answer.delivered().await;
    // A row of a result, in the middle of it.
    scene.proxy.rule(from_server(Kind::DataRow).nth(2), Action::Close);
    assert!(scene.client().await.query("SELECT generate_series(1, 3)", &[]).await.is_err());
}

#[tokio::test]
async fn a_black_hole_leaves_both_sides_waiting() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    let rule = scene.proxy.rule(from_client(Kind::Query).containing("INSERT").after(), Action::Blackhole);
    let waited = tokio::time::timeout(Duration::from_millis(100), client.batch_execute(INSERT)).await;
    assert!(waited.is_err(), "no answer and no end");
    assert!(!client.is_closed() && rule.times() == 1);
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^INSERT'";
    let seen: i64 = scene.database.client().await.query_one(sessions, &[]).await.unwrap().get(0);
    assert_eq!(seen, 1, "the server's side is open too");
    scene.client().await.batch_execute(INSERT).await.unwrap();
}

#[tokio::test]
async fn refusing_ends_when_the_test_says_so() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    scene.proxy.rule(from_client(Kind::Query), Action::Refuse);
    client.batch_execute(INSERT).await.unwrap_err();
    assert!(scene.try_client().await.is_none());
    scene.proxy.accept_again();
    scene.client().await.batch_execute(INSERT).await.unwrap();
}

#[tokio::test]
async fn a_delayed_message_arrives_later() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    let delay = Duration::from_millis(60);
    let rule = scene.proxy.rule(from_client(Kind::Sync).nth(2).each(), Action::Delay(delay));
    let started = Instant::now();
    client.query_one("SELECT 1", &[]).await.unwrap();
    assert!(started.elapsed() >= delay && rule.times() >= 1);
    rule.cancel();
    client.query_one("SELECT 1", &[]).await.unwrap();
    assert_eq!(rule.times(), 1);
}
