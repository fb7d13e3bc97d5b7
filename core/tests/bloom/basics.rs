//! What a filter does without faults.

use std::time::Duration;

use bytes::Bytes;
use zmsg_core::engine::{DelayOptions, SourceOptions, WriteOptions};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, declare, figures, insert, serving, store, task};

#[tokio::test]
async fn a_filter_says_no_to_what_is_not_there_and_maybe_to_what_is_written() {
    let scene = Scene::new().await;
    let zm = scene.setup.open().await;
    assert!(zm.db_hit("feed_nobody").await.unwrap(), "no filter yet");
    declare(&zm);
    assert!(zm.db_hit("feed_nobody").await.unwrap(), "not built yet");
    serving(&zm).await;
    for n in 1..=1000 {
        assert!(zm.db_hit(&format!("feed_{n}")).await.unwrap(), "{n} is there");
    }
    let mut noes = 0;
    for n in 0..1000 {
        noes += u32::from(!zm.db_hit(&format!("feed_no_{n}")).await.unwrap());
    }
    assert!(noes > 980, "{noes} of 1000");
    assert!(zm.db_hit("other_1").await.unwrap(), "a family without a filter");
    assert!(!zm.db_hit("feed_new").await.unwrap());
    store(&zm, "feed_new").await;
    assert!(zm.db_hit("feed_new").await.unwrap());
    let figures = figures(&zm);
    assert_eq!((figures.capacity, figures.noes), (2_000, u64::from(noes) + 1));
    assert!(figures.error_rate < 0.01 && figures.fill > 0.1, "{figures:?}");
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_read_of_what_is_not_there_asks_no_source() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    for n in 0..100 {
        assert_eq!(zm.get(&format!("feed_no_{n}")).await.unwrap(), None);
    }
    assert!(zm.stats().source_loads < 10, "{:?}", zm.stats().source_loads);
    let before = zm.stats().source_loads;
    let mut keys: Vec<String> = (0..500).map(|n| format!("feed_nor_{n}")).collect();
    keys.extend((1..=10).map(|n| format!("feed_{n}")));
    let found = zm.get_many(&keys).await.unwrap();
    assert_eq!(found.iter().flatten().count(), 10);
    let loads = zm.stats().source_loads - before;
    assert!((10..40).contains(&loads), "{loads}");
    // What is written is found at once, although it was "no".
    zm.cache_and_store(Some("feed_no_1"), None, insert("feed_no_1"), WriteOptions::default()).await.unwrap();
    assert_eq!(zm.get("feed_no_1").await.unwrap().as_deref(), Some(&b"new"[..]));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn every_way_to_write_tells_the_filter_before_its_commit() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    // A process that declares nothing, as a worker does.
    let other = scene.setup.open().await;
    store(&other, "feed_now").await;
    assert!(zm.db_hit("feed_now").await.unwrap());
    let named = WriteOptions {
        invalidates: vec!["feed_a".to_owned()],
        bloom_keys: vec!["feed_b".to_owned(), "feed_c".to_owned()],
        ..WriteOptions::default()
    };
    let tasks: Vec<_> = ["feed_a", "feed_b", "feed_c"].map(insert).into();
    assert!(!zm.db_hit("feed_b").await.unwrap());
    other.cache_and_store(None, None, tasks, named).await.unwrap();
    for key in ["feed_a", "feed_b", "feed_c"] {
        assert!(zm.db_hit(key).await.unwrap(), "{key}");
    }
    let soon = DelayOptions { delay: Some(Duration::ZERO), ..DelayOptions::default() };
    let receipt =
        other.cache_and_delay_store(Some("feed_later"), None, insert("feed_later"), soon).await.unwrap();
    receipt.done().await.unwrap();
    assert!(zm.db_hit("feed_later").await.unwrap());
    let options = WriteOptions { bloom_keys: vec!["feed_batch_2".to_owned()], ..WriteOptions::default() };
    let tasks: Vec<_> = ["feed_batch", "feed_batch_2"].map(insert).into();
    other.cache_and_periodic_store(Some("feed_batch"), None, tasks, options).await.unwrap();
    let options = WriteOptions { bloom_keys: vec!["feed_at_once".to_owned()], ..WriteOptions::default() };
    assert!(other.periodic_now(None, &[insert("feed_at_once")], &options).unwrap().is_some());
    other.flush().await.unwrap();
    assert!(zm.db_hit("feed_at_once").await.unwrap());
    assert!(zm.db_hit("feed_batch").await.unwrap() && zm.db_hit("feed_batch_2").await.unwrap());
    other.close().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn writes_that_take_long_and_all_connections_are_admitted_all_the_same() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let busy = scene.setup.clone().with("pool_size", 1).open().await;
    let slow = task("INSERT INTO feeds SELECT 'feed_slow', 'x' FROM pg_sleep(6)");
    let receipt = busy.cache_and_store(Some("feed_slow"), None, slow, WriteOptions::default()).await.unwrap();
    assert_eq!(receipt.rows_affected, 1);
    assert!(zm.db_hit("feed_slow").await.unwrap());
    busy.close().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_that_is_run_again_tells_the_filter() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let broken = task("INSERT INTO feeds (id, content) SELECT 'feed_dead', word FROM words");
    let soon = DelayOptions { delay: Some(Duration::ZERO), ..DelayOptions::default() };
    let receipt = zm.cache_and_delay_store(Some("feed_dead"), None, broken, soon).await.unwrap();
    receipt.done().await.unwrap_err();
    scene.client.batch_execute("CREATE TABLE words AS SELECT 'hello' AS word").await.unwrap();
    // Another generation, which knows nothing of the first try.
    scene.client.batch_execute("UPDATE zmsg_bloom SET serving = NULL").await.unwrap();
    serving_again(&zm).await;
    assert!(!zm.db_hit("feed_dead").await.unwrap());
    let letter = zm.dead_letters().await.unwrap().remove(0);
    zm.retry_dead(letter.id).await.unwrap();
    assert!(zm.db_hit("feed_dead").await.unwrap());
    zm.close().await.unwrap();
}

async fn serving_again(zm: &zmsg_core::engine::Zmsg) {
    crate::scene::built_after(zm, figures(zm).generation).await;
}

#[tokio::test]
async fn what_cannot_be_a_filter_is_refused() {
    let scene = Scene::new().await;
    let zm = scene.setup.open().await;
    let read = || task("SELECT content FROM feeds WHERE id = 'x'");
    let refused = |bloom, keys: Option<&str>| {
        let options = SourceOptions { bloom, keys: keys.map(task), ..SourceOptions::default() };
        let error = zm.source("one", read(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Task, "{error}");
        error.to_string()
    };
    assert!(refused(true, None).contains("bloom needs keys"));
    assert!(refused(false, Some("SELECT id FROM feeds")).contains("give bloom as well"));
    assert!(refused(true, Some("DELETE FROM feeds")).contains("has to be a query"));
    let wanted = WriteOptions { bloom_keys: vec!["feed_1".to_owned()], ..WriteOptions::default() };
    let error = zm.cache_only("feed_1", Bytes::from_static(b"x"), wanted).await.unwrap_err();
    assert!(error.to_string().contains("bloom_keys"), "{error}");
    zm.close().await.unwrap();
}
