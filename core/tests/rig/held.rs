//! Bytes that are stuck on their way outlive the connection that they came from, and arrive.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::support::proxy::{Action, Kind, Proxy, Rule, commit, commit_answer, from_client};
use crate::support::{TestDatabase, database};

/// Moves the watermark from 0 to 1, or raises in the server.
const GUARDED: &str = "\
BEGIN;
DO $$ BEGIN
  UPDATE watermark SET at = 1 WHERE at = 0;
  IF NOT FOUND THEN RAISE 'the watermark is elsewhere'; END IF;
END $$;
UPDATE t SET n = n + 1;
COMMIT";
const UNGUARDED: &str = "BEGIN; UPDATE t SET n = n + 1; COMMIT";

async fn scene() -> (TestDatabase, Proxy) {
    let database = database().await;
    let tables = "CREATE TABLE t (n int); INSERT INTO t VALUES (0);
        CREATE TABLE watermark (at int); INSERT INTO watermark VALUES (0)";
    database.client().await.batch_execute(tables).await.unwrap();
    let proxy = Proxy::start(&database.dsn).await;
    (database, proxy)
}

async fn client(database: &TestDatabase, proxy: &Proxy) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&database.dsn_through(proxy.address), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn number(database: &TestDatabase) -> i32 {
    database.client().await.query_one("SELECT n FROM t", &[]).await.unwrap().get(0)
}

/// Sends the flush into the rule, gives up, and sends it again past the rule.
async fn stuck_and_repeated(database: &TestDatabase, proxy: &Proxy, rule: &Rule, flush: &str) {
    let first = client(database, proxy).await;
    let given_up = tokio::time::timeout(Duration::from_millis(50), first.batch_execute(flush)).await;
    assert!(given_up.is_err());
    rule.fired().await;
    drop(first);
    let second = client(database, proxy).await;
    second.batch_execute(flush).await.unwrap();
    assert_eq!(number(database).await, 1);
}

#[tokio::test]
async fn a_stuck_flush_arrives_after_its_repetition_and_only_the_watermark_stops_it() {
    for (flush, sum) in [(UNGUARDED, 2), (GUARDED, 1)] {
        let (database, proxy) = scene().await;
        let rule = proxy.rule(from_client(Kind::Query).containing("UPDATE t"), Action::Hold);
        stuck_and_repeated(&database, &proxy, &rule, flush).await;
        rule.release();
        rule.delivered().await;
        assert_eq!(number(&database).await, sum, "{flush}");
    }
}

#[tokio::test]
async fn a_held_commit_survives_cuts_on_either_side_of_its_client() {
    for cut_by_proxy in [true, false] {
        let (database, proxy) = scene().await;
        let rule = proxy.rule(commit(), Action::Hold);
        let flusher = client(&database, &proxy).await;
        flusher.batch_execute("BEGIN").await.unwrap();
        // Typed arguments go through the extended protocol.
        flusher.execute("UPDATE t SET n = n + $1", &[&5]).await.unwrap();
        let committing = tokio::spawn(async move { flusher.batch_execute("COMMIT").await });
        rule.fired().await;
        if cut_by_proxy {
            proxy.down().await;
            committing.await.unwrap().unwrap_err();
        } else {
            committing.abort();
        }
        assert_eq!(number(&database).await, 0, "it is still on its way");
        rule.release();
        rule.delivered().await;
        assert_eq!(number(&database).await, 5);
    }
}

#[tokio::test]
async fn what_is_released_while_its_client_waits_is_answered() {
    let (database, proxy) = scene().await;
    let rule = proxy.rule(commit(), Action::Hold);
    let client = client(&database, &proxy).await;
    client.batch_execute("BEGIN").await.unwrap();
    // What is said behind the held message waits with it.
    let (committed, after, ()) =
        tokio::join!(client.batch_execute("COMMIT"), client.query_one("SELECT n FROM t", &[]), async {
            rule.fired().await;
            rule.release();
        });
    assert!(committed.is_ok() && after.is_ok());
    rule.delivered().await;
}

#[tokio::test]
async fn both_directions_may_be_held_at_once() {
    let (database, proxy) = scene().await;
    let (answer, request) = (
        proxy.rule(commit_answer(), Action::Hold),
        proxy.rule(from_client(Kind::Query).containing("UPDATE"), Action::Hold),
    );
    let client = client(&database, &proxy).await;
    client.batch_execute("BEGIN").await.unwrap();
    let (committed, updated, ()) =
        tokio::join!(client.batch_execute("COMMIT"), client.batch_execute("UPDATE t SET n = 7"), async {
            answer.fired().await;
            request.fired().await;
            assert_eq!(number(&database).await, 0);
            request.release();
            request.delivered().await;
            crate::support::engine::until("the update", async || number(&database).await == 7).await;
            answer.release();
        });
    assert!(committed.is_ok() && updated.is_ok());
}
