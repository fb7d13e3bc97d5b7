//! A caller that goes away before its statement was sent undoes it; after that the database decides and the caches follow.

use std::time::Duration;

use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;
use zmsg_core::value::Value;

use crate::scene::{Scene, insert, some, text, write};
use crate::support::engine::until;
use crate::support::task;

/// The only connection of the engine, busy at the gate.
fn occupy(zmsg: &Zmsg) -> tokio::task::JoinHandle<()> {
    let zmsg = zmsg.clone();
    tokio::spawn(async move {
        zmsg.sql_exec(task("SELECT gate('x')", &[])).await.unwrap();
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_connection_was_had_nothing_runs() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("pool_size", 1).open().await;
    write(&zmsg, "feed_1", "old").await.unwrap();
    let gate = scene.close_gate().await;
    let busy = occupy(&zmsg);
    gate.waited_for_by(1).await;
    let waiting = {
        let zmsg = zmsg.clone();
        tokio::spawn(async move { write(&zmsg, "feed_1", "cancelled").await })
    };
    until("the write to wait", async || zmsg.stats().pool_waiting == 1).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    gate.open().await;
    busy.await.unwrap();
    // Connections are handed out in order, so this one has its turn after the cancelled one.
    write(&zmsg, "feed_2", "later").await.unwrap();
    assert_eq!(scene.row("feed_1").await.as_deref(), Some("old"));
    assert_eq!(zmsg.peek("feed_1").unwrap(), some("old"));
    assert_eq!(scene.redis_view().await.get("feed_1").await.unwrap(), some("old"));
    zmsg.close().await.unwrap();
    assert_eq!(scene.row("feed_1").await.as_deref(), Some("old"), "also once all has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_alone_is_undone_as_well() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("pool_size", 1).open().await;
    let gate = scene.close_gate().await;
    let busy = occupy(&zmsg);
    gate.waited_for_by(1).await;
    let waiting = {
        let zmsg = zmsg.clone();
        tokio::spawn(async move { zmsg.sql_exec(insert("feed_1", "cancelled")).await })
    };
    until("the statement to wait", async || zmsg.stats().pool_waiting == 1).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    gate.open().await;
    busy.await.unwrap();
    zmsg.close().await.unwrap();
    assert_eq!(scene.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_it_was_sent_it_commits_and_is_cached() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    zmsg.cache_only("list", text("old"), WriteOptions::default()).await.unwrap();
    let gate = scene.close_gate().await;
    let sent = {
        let zmsg = zmsg.clone();
        tokio::spawn(async move {
            let params = [Value::text("feed_1"), Value::text("sent")];
            let insert = task("INSERT INTO feeds (id, content) VALUES (?, gate(?))", &params);
            let options = WriteOptions { invalidates: vec!["list".into()], ..WriteOptions::default() };
            zmsg.cache_and_store(Some("feed_1"), some("sent"), insert, options).await
        })
    };
    gate.waited_for_by(1).await;
    sent.abort();
    assert!(sent.await.unwrap_err().is_cancelled());
    assert_eq!(zmsg.peek_entry("feed_1").unwrap(), None, "not before the COMMIT");
    gate.open().await;
    until("the cache to follow", async || zmsg.peek("feed_1").unwrap() == some("sent")).await;
    zmsg.close().await.unwrap();
    assert_eq!(scene.row("feed_1").await.as_deref(), Some("sent"));
    let view = scene.redis_view().await;
    assert_eq!(view.get("feed_1").await.unwrap(), some("sent"));
    assert_eq!(view.get("list").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_took_too_long_left_nothing() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    let gate = scene.close_gate().await;
    let brief = zmsg.with_timeout(Some(Duration::from_millis(200)));
    let params = [Value::text("feed_1"), Value::text("late")];
    let slow = task("INSERT INTO feeds (id, content) VALUES (?, gate(?))", &params);
    let error =
        brief.cache_and_store(Some("feed_1"), some("late"), slow, WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    gate.open().await;
    zmsg.close().await.unwrap();
    assert_eq!(scene.rows().await, 0);
    assert_eq!(scene.redis_view().await.get("feed_1").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_write_runs_to_its_end() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    for n in 0..50 {
        let (zmsg, value) = (zmsg.clone(), text(&n.to_string()));
        let writing = tokio::spawn(async move { zmsg.cache_only("a", value, WriteOptions::default()).await });
        tokio::task::yield_now().await;
        writing.abort();
    }
    zmsg.close().await.unwrap();
    // Whatever came last is in Redis, and a new engine agrees with it.
    let (one, other) = (scene.redis_view().await, scene.redis_view().await);
    assert_eq!(one.get("a").await.unwrap(), other.get("a").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_whose_caller_goes_away_is_cancelled_in_the_server() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("timeout", "1h").open().await;
    let gate = scene.close_gate().await;
    let asking = zmsg.clone();
    let call = tokio::spawn(async move { asking.query(task("SELECT gate('x')", &[])).await });
    gate.waited_for_by(1).await;
    call.abort();
    // It neither runs to its end nor to its deadline.
    gate.waited_for_by(0).await;
    gate.open().await;
    assert_eq!(zmsg.query(task("SELECT 1::int", &[])).await.unwrap().len(), 1);
}
