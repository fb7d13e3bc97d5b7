//! Dead letters that meet others of their name, that cannot be written, or that somebody has run again; and what whoever
//! waits for such a write is told.

use std::time::Duration;

use zmsg_core::engine::{DelayOptions, Receipt, Zmsg};
use zmsg_core::sql::{counter, sql};

use crate::redis::Meddler;
use crate::scene::{Scene, accept, after, effect};
use crate::support::engine::{until, within};
use crate::support::servers::RedisServer;

/// A write of this name that the database refuses, or not.
async fn named(zm: &Zmsg, name: &str, good: bool) -> Receipt {
    let task = if good { effect("k", "good") } else { sql("UPDATE meta SET likes = 1 / 0", ()).unwrap() };
    let options = DelayOptions { op_id: Some(name.to_owned()), ..after(0) };
    zm.cache_and_delay_store(Some("k"), None, task, options).await.unwrap()
}

#[tokio::test]
async fn a_letter_is_written_although_another_one_has_its_name() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    scene.client.batch_execute("UPDATE meta SET likes = 2147483647 WHERE id = 'f1'").await.unwrap();
    let like = counter("meta", "likes").unwrap().inc(1).where_("id = ?", ["f1"]).unwrap().build().unwrap();
    zm.cache_and_periodic_store(Some("f1"), None, like, Default::default()).await.unwrap();
    assert_eq!(zm.flush().await.unwrap().dead, 1);
    let [batch] = &zm.dead_letters().await.unwrap()[..] else { panic!("one letter") };
    let error = named(&zm, &batch.op_id, false).await.done().await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"), "its own");
    // As after done_retention.
    scene.client.batch_execute("DELETE FROM zmsg_done").await.unwrap();
    named(&zm, &batch.op_id, false).await.done().await.unwrap_err();
    let letters = zm.dead_letters().await.unwrap();
    let paths: Vec<&str> = letters.iter().map(|it| &*it.path).collect();
    assert_eq!(paths, ["batch", "queue", "queue"]);
    assert!(letters.iter().all(|it| it.op_id == batch.op_id));
    // Run again, the batch's is none of the queue's business.
    scene.client.batch_execute("UPDATE meta SET likes = 0").await.unwrap();
    zm.retry_dead(batch.id).await.unwrap();
    assert_eq!(named(&zm, &batch.op_id, true).await.done().await.unwrap_err().sqlstate(), Some("22012"));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_write_that_is_done_is_not_told_of_the_letter_of_an_earlier_one_of_its_name() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let api = scene.setup.clone().with_queue("worker", false).open().await;
    named(&zm, "name", false).await.done().await.unwrap_err();
    scene.client.batch_execute("DELETE FROM zmsg_done").await.unwrap();
    named(&api, "name", true).await.done().await.unwrap();
    assert_eq!((scene.effects(None).await.len(), scene.count("zmsg_dead").await), (1, 1));
    for zm in [zm, api] {
        zm.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_found_dead_or_done_is_counted_as_that() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    // As when their workers had died before they could tell Redis.
    let rows = "INSERT INTO zmsg_done (op_id, dead) VALUES ('dead', true), ('done', false), ('gone', true)";
    scene.client.batch_execute(rows).await.unwrap();
    named(&zm, "dead", true).await.done().await.unwrap_err();
    named(&zm, "done", true).await.done().await.unwrap();
    named(&zm, "gone", false).await.done().await.unwrap_err();
    assert_eq!(scene.effects(None).await.len(), 0);
    until("the figures are read", async || {
        let stats = zm.stats();
        (stats.queue_dead, stats.queue_done) == (2, 1)
    })
    .await;
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_letter_that_cannot_be_written_stops_no_other_key_and_is_not_lost() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let refuse = "ALTER TABLE zmsg_dead ADD CONSTRAINT nothing CHECK (false)";
    scene.client.batch_execute(refuse).await.unwrap();
    let (poison, behind) = (named(&zm, "poison", false).await, accept(&zm, "k", "behind").await);
    until("it is tried again", async || zm.stats().queue_retried >= 2).await;
    accept(&zm, "other", "other").await.done().await.unwrap();
    assert_eq!(scene.effects(None).await, ["other"]);
    scene.client.batch_execute("ALTER TABLE zmsg_dead DROP CONSTRAINT nothing").await.unwrap();
    let error = within(Duration::from_secs(20), "the letter", poison.done()).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"));
    behind.done().await.unwrap();
    assert_eq!(scene.count("zmsg_dead").await, 1);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn nobody_is_told_that_a_write_was_taken_back_while_it_runs() {
    let server = RedisServer::start().await;
    let scene = Scene::new().await;
    let zm = scene.setup.clone().with_queue("addr", server.addr.as_str()).open().await;
    scene.client.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
    let slow = "INSERT INTO effects (key, what) SELECT 'k', 'a' FROM pg_advisory_xact_lock(7)";
    let receipt = zm.cache_and_delay_store(Some("k"), None, sql(slow, ()).unwrap(), after(0)).await.unwrap();
    let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    until("it runs", async || !scene.client.query(waits, &[]).await.unwrap().is_empty()).await;
    Meddler::at(&server.addr).await.run("", &["FLUSHALL"]).await;
    until("the loss is noticed", async || zm.stats().queue_losses == 1).await;
    let early = tokio::time::timeout(Duration::from_millis(500), receipt.done()).await;
    early.expect_err("nobody knows yet how it ends");
    scene.client.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
    receipt.done().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_ends_a_walk_over_thousands_of_letters_between_two_of_them() {
    const LETTERS: i64 = 2_500;
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let poison = sql("INSERT INTO effects (key, what) VALUES ('k', NULL)", ()).unwrap();
    let poison = zm.cache_and_delay_store(None, None, poison, after(0)).await.unwrap();
    poison.done().await.unwrap_err();
    let more = format!(
        "INSERT INTO zmsg_dead (path, op_id, key, tasks, statement, message) SELECT path, op_id || n, key, tasks, statement, \
         message FROM zmsg_dead, generate_series(2, {LETTERS}) AS n; ALTER TABLE effects ALTER what DROP NOT NULL"
    );
    scene.client.batch_execute(&more).await.unwrap();
    let walk = tokio::spawn({
        let zm = zm.clone();
        async move { zm.retry_all_dead().await }
    });
    // Beyond the first page of them.
    until("it walks", async || scene.count("effects").await > 1_100).await;
    within(Duration::from_secs(3), "the close", zm.close()).await.unwrap();
    let error = walk.await.unwrap().unwrap_err();
    let done = scene.count("effects").await;
    assert_eq!((error.code(), scene.count("zmsg_dead").await), ("closed", LETTERS - done));
    assert!(error.to_string().contains(&format!("retried: {done}, refused: 0")), "{error} of {done}");
    let zm = scene.open().await;
    let report = zm.retry_all_dead().await.unwrap();
    assert_eq!((report.retried as i64, report.refused), (LETTERS - done, 0));
    assert_eq!((scene.count("effects").await, scene.count("zmsg_dead").await), (LETTERS, 0));
    zm.close().await.unwrap();
}
