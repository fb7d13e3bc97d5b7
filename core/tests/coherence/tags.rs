//! Entries that are dropped by a tag, as several processes see it.

use zmsg_core::engine::{DelayOptions, WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, insert, put, some, text};
use crate::sees;
use crate::support::engine::until;

fn tagged(tags: &[&str]) -> WriteOptions {
    WriteOptions { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..WriteOptions::default() }
}

async fn holds(zmsg: &Zmsg, key: &str, value: &str) {
    until("it to be held", async || {
        zmsg.get(key).await.unwrap();
        zmsg.peek(key).unwrap() == some(value)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_can_be_dropped_by_its_tag_from_every_process() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    let keys = ["feed_1", "feed_2", "feed_3", "feed_4", "feed_5"];
    let options = || tagged(&["user:7", "feeds"]);
    one.cache_only(keys[0], text("cached"), options()).await.unwrap();
    one.cache_and_store(Some(keys[1]), some("cached"), put(keys[1], "row"), options()).await.unwrap();
    let delayed = DelayOptions { write: options(), ..DelayOptions::default() };
    one.pause_queue().await.unwrap();
    one.cache_and_delay_store(Some(keys[2]), some("cached"), put(keys[2], "row"), delayed).await.unwrap();
    one.cache_and_periodic_store(Some(keys[3]), some("cached"), put(keys[3], "row"), options())
        .await
        .unwrap();
    assert!(one.add(keys[4], text("cached"), options()).await.unwrap());
    one.cache_only("other", text("cached"), tagged(&["feeds"])).await.unwrap();
    for zmsg in [&one, &two] {
        for key in keys.iter().chain(&["other"]) {
            holds(zmsg, key, "cached").await;
        }
    }
    two.invalidate_tag("user:7").await.unwrap();
    for key in keys {
        let row = if key == keys[1] { Some("row") } else { None };
        assert_eq!(two.get(key).await.unwrap(), row.and_then(some), "{key}");
        sees(&one, key, "cached", row).await;
    }
    for zmsg in [&one, &two] {
        assert_eq!(zmsg.peek("other").unwrap(), some("cached"));
    }
    assert_eq!(scene.engine().await.get("other").await.unwrap(), some("cached"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warmed_read_asks_redis_for_nothing_more_and_what_is_written_after_a_drop_stays() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    for round in 0..30 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        one.cache_only("x", text(&old), tagged(&["t"])).await.unwrap();
        assert!(two.get("x").await.unwrap().is_some());
        two.invalidate_tag("t").await.unwrap();
        // Acknowledged: nobody who writes from here on loses it, wherever the message is.
        one.cache_only("x", text(&new), tagged(&["t"])).await.unwrap();
        until("the new value", async || {
            let found = two.get("x").await.unwrap();
            assert_ne!(found, some(&old), "dropped in this very process");
            found == some(&new)
        })
        .await;
        until("the new value", async || one.get("x").await.unwrap() == some(&new)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_began_before_the_drop_leaves_its_row_and_no_value() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    let gate = scene.close_gate().await;
    let held_up = crate::support::task("INSERT INTO feeds (id, content) SELECT 'feed_1', gate('row')", &[]);
    let writing = tokio::spawn({
        let one = one.clone();
        async move { one.cache_and_store(Some("feed_1"), some("value"), held_up, tagged(&["t"])).await }
    });
    gate.waited_for_by(1).await;
    two.invalidate_tag("t").await.unwrap();
    gate.open().await;
    assert!(writing.await.unwrap().unwrap().cached);
    for zmsg in [&one, &two, &scene.engine().await] {
        until("the row", async || zmsg.get("feed_1").await.unwrap() == some("row")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_told_before_anything_happens() {
    let scene = Scene::new().await;
    let one = scene.engine().await;
    let long = "t".repeat(1_025);
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (tags, word) in [(&[""][..], "empty"), (&[&long[..]], "1025 bytes"), (&many, "65 tags")] {
        let refused = [
            one.cache_only("x", text("x"), tagged(tags)).await.err(),
            one.cache_and_store(Some("feed_1"), some("x"), insert("feed_1", "x"), tagged(tags)).await.err(),
            one.cache_and_periodic_store(Some("feed_1"), some("x"), put("feed_1", "x"), tagged(tags))
                .await
                .err(),
        ];
        for error in refused {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Task);
            assert!(error.message().contains(word), "{error}");
        }
    }
    let delete = one.del_store(Some("feed_1"), put("feed_1", "x"), tagged(&["t"])).await.unwrap_err();
    assert!(delete.message().contains("no tags"), "{delete}");
    assert_eq!(one.invalidate_tag("").await.unwrap_err().kind(), ErrorKind::Task);
    assert_eq!((scene.rows().await, one.get("x").await.unwrap()), (0, None));
    one.cache_only("x", text("x"), tagged(&many[..64])).await.unwrap();
    assert_eq!(scene.engine().await.get("x").await.unwrap(), some("x"));
}
