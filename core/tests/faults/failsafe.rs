//! Sources that fail or take long, and values that are loaded anew before they end.

use std::time::Duration;

use zmsg_core::config::Ttl;
use zmsg_core::engine::{ReadOptions, SourceOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, getting, some, write};
use crate::support::engine::{Setup, until};
use crate::support::task;

const MINUTE: Duration = Duration::from_secs(60);
/// The life of values that have to end while a test waits.
const SHORT: Duration = Duration::from_millis(20);

/// A read that would rather fail than be given a last good value.
const STRICT: ReadOptions = ReadOptions { stale: Some(false), soft_timeout: None };

/// Values that live for a moment and are kept for a minute.
fn keeping() -> SourceOptions {
    SourceOptions { ttl: Some(Ttl::For(SHORT)), stale_ttl: Some(MINUTE), ..SourceOptions::default() }
}

/// `number_…` fails while the row is no number; `held_…` waits at the gate.
fn declare(zmsg: &Zmsg, options: SourceOptions) {
    let number = task("SELECT content::int::text FROM feeds WHERE id = ?", &[]);
    zmsg.source("number_*", number, options.clone()).unwrap();
    let held = task("SELECT gate(content) FROM feeds WHERE id = ?", &[]);
    zmsg.source("held_*", held, options).unwrap();
}

/// L1 would answer for a while what a test wants to see asked.
fn without_l1(setup: &Setup) -> Setup {
    setup.clone().with("l1_max_cost", 0)
}

async fn set(scene: &Scene, content: &str) {
    scene.outside.execute("UPDATE feeds SET content = $1", &[&content]).await.unwrap();
}

/// Waits until a read would have to ask the source.
async fn ended() {
    tokio::time::sleep(SHORT * 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_source_fails_the_last_good_value_is_served_until_it_is_well() {
    let scene = Scene::new().await;
    let (zmsg, other) = (without_l1(&scene.setup).open().await, without_l1(&scene.setup).open().await);
    [&zmsg, &other].into_iter().for_each(|engine| declare(engine, keeping()));
    scene.insert("number_1", "1").await;
    assert_eq!(zmsg.get("number_1").await.unwrap(), some("1"));
    set(&scene, "no number").await;
    ended().await;
    for engine in [&zmsg, &other] {
        assert_eq!(engine.get("number_1").await.unwrap(), some("1"));
        assert_eq!(engine.get_many(&["number_1"]).await.unwrap(), [some("1")]);
        let stats = engine.stats();
        assert_eq!((stats.stale_served, stats.source_errors), (2, 2), "each read asked the source");
    }
    set(&scene, "2").await;
    assert_eq!(other.get("number_1").await.unwrap(), some("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_off_by_default_and_a_source_can_say_otherwise() {
    let scene = Scene::new().await;
    let brief = without_l1(&scene.setup).with("default_ttl", "20ms");
    let plain = brief.open().await;
    declare(&plain, SourceOptions::default());
    let by_setting =
        brief.with("stale_ttl", "1m").with("namespace", scene.setup.namespace().to_owned() + "2");
    let (on, off) = (by_setting.open().await, by_setting.open().await);
    declare(&on, SourceOptions::default());
    declare(&off, SourceOptions { stale_ttl: Some(Duration::ZERO), ..SourceOptions::default() });
    scene.insert("number_1", "1").await;
    for engine in [&plain, &on] {
        assert_eq!(engine.get("number_1").await.unwrap(), some("1"));
    }
    set(&scene, "no number").await;
    ended().await;
    assert_eq!(plain.get("number_1").await.unwrap_err().sqlstate(), Some("22P02"));
    assert_eq!(on.get("number_1").await.unwrap(), some("1"));
    assert_eq!(off.get("number_1").await.unwrap_err().kind(), ErrorKind::Store);
    let wrong = SourceOptions { refresh_ahead: Some(1.5), ..SourceOptions::default() };
    let error = on.source("other_*", task("SELECT ?", &[]), wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Task, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_or_dropped_is_served_or_not_as_its_last_change_says() {
    let scene = Scene::new().await;
    let zmsg = without_l1(&scene.setup).with("default_ttl", "20ms").open().await;
    declare(&zmsg, keeping());
    write(&zmsg, "number_1", "1").await.unwrap();
    write(&zmsg, "number_2", "2").await.unwrap();
    set(&scene, "no number").await;
    ended().await;
    assert_eq!(zmsg.get("number_1").await.unwrap(), some("1"), "a written value is a good one too");
    zmsg.del("number_2").await.unwrap();
    assert_eq!(zmsg.get("number_2").await.unwrap_err().kind(), ErrorKind::Store, "it was dropped");
    // The row is gone, says the source: that is an answer.
    scene.outside.execute("DELETE FROM feeds", &[]).await.unwrap();
    assert_eq!(zmsg.get("number_1").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_soft_timeout_the_last_good_value_is_served_and_the_load_goes_on() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.open().await;
    declare(&zmsg, SourceOptions { soft_timeout: Some(Duration::from_millis(50)), ..keeping() });
    scene.insert("held_1", "old").await;
    scene.insert("held_2", "old").await;
    assert_eq!(zmsg.get_many(&["held_1", "held_2"]).await.unwrap(), [some("old"), some("old")]);
    let queries = zmsg.stats().source_loads;
    set(&scene, "new").await;
    ended().await;
    let gate = scene.close_gate().await;
    for reader in (0..20).map(|_| getting(&zmsg, "held_1")).collect::<Vec<_>>() {
        assert_eq!(reader.await.unwrap().unwrap(), some("old"));
    }
    gate.waited_for_by(1).await;
    assert_eq!(zmsg.get_many(&["held_2", "held_1"]).await.unwrap(), [some("old"), some("old")]);
    gate.waited_for_by(2).await;
    let stats = zmsg.stats();
    assert_eq!((stats.source_loads, stats.source_errors), (queries + 2, 0), "one load for each");
    assert!(stats.stale_served >= 2);
    // Without a last good value there is nothing to do but wait.
    scene.insert("held_3", "first").await;
    let patient = getting(&zmsg, "held_3");
    gate.waited_for_by(3).await;
    gate.open().await;
    assert_eq!(patient.await.unwrap().unwrap(), some("first"));
    until("the load to have filled", async || zmsg.get("held_1").await.unwrap() == some("new")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_read_has_the_error_while_others_have_the_last_good_value() {
    let scene = Scene::new().await;
    let without_redis = scene.setup.clone().with("redis_addr", serde_json::Value::Null);
    scene.insert("held_1", "1").await;
    let number = task("SELECT gate(content)::int::text FROM feeds WHERE id = ?", &[]);
    for setup in [&scene.setup, &without_redis] {
        let zmsg = setup.open().await;
        zmsg.source("held_*", number.clone(), keeping()).unwrap();
        set(&scene, "1").await;
        assert_eq!(zmsg.get_with("held_1", STRICT).await.unwrap(), some("1"));
        set(&scene, "no number").await;
        until("it to have ended", async || zmsg.peek_entry("held_1").unwrap().is_none()).await;
        ended().await;
        let gate = scene.close_gate().await;
        let plain = getting(&zmsg, "held_1");
        gate.waited_for_by(1).await;
        let strict = tokio::spawn({
            let zmsg = zmsg.clone();
            async move { zmsg.get_with("held_1", STRICT).await }
        });
        // Each waits at the gate, or the strict one for the other's lease.
        until("both to have missed", async || zmsg.stats().misses >= 3).await;
        gate.open().await;
        assert_eq!(plain.await.unwrap().unwrap(), some("1"));
        assert_eq!(strict.await.unwrap().unwrap_err().sqlstate(), Some("22P02"));
        // Memory answers by the last good value now, which is no answer to a strict read.
        until("the last good value to be in memory", async || {
            zmsg.get("held_1").await.unwrap() == some("1") && zmsg.peek("held_1").unwrap() == some("1")
        })
        .await;
        let many = zmsg.get_many_with(&["held_1", "held_none"], STRICT).await;
        assert_eq!(many.unwrap_err().sqlstate(), Some("22P02"));
        assert_eq!(zmsg.get_required_with("held_1", STRICT).await.unwrap_err().kind(), ErrorKind::Store);
        assert_eq!(zmsg.get_many(&["held_1"]).await.unwrap(), [some("1")]);
        // What a strict read loads is there for everybody.
        set(&scene, "2").await;
        assert_eq!(zmsg.get_with("held_1", STRICT).await.unwrap(), some("2"));
        assert_eq!(zmsg.peek("held_1").unwrap(), some("2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_reads_wait_for_one_load_and_take_no_soft_timeout() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.open().await;
    declare(&zmsg, SourceOptions { soft_timeout: Some(Duration::from_millis(1)), ..keeping() });
    scene.insert("held_1", "old").await;
    assert_eq!(zmsg.get("held_1").await.unwrap(), some("old"));
    set(&scene, "new").await;
    ended().await;
    let (loads, joined) = (zmsg.stats().source_loads, zmsg.stats().joined_loads);
    let gate = scene.close_gate().await;
    let patient = ReadOptions { soft_timeout: Some(Duration::from_millis(1)), ..STRICT };
    let readers: Vec<_> = (0..20)
        .map(|n| {
            let zmsg = zmsg.clone();
            tokio::spawn(async move {
                match n % 2 {
                    0 => zmsg.get_with("held_1", patient).await,
                    _ => Ok(zmsg.get_many_with(&["held_1"], STRICT).await?.remove(0)),
                }
            })
        })
        .collect();
    gate.waited_for_by(1).await;
    until("the others to wait for it", async || zmsg.stats().joined_loads == joined + 19).await;
    gate.open().await;
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), some("new"));
    }
    assert_eq!(zmsg.stats().source_loads, loads + 1);
    assert_eq!(zmsg.stats().stale_served, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_read_after_a_write_does_not_join_an_older_load() {
    let scene = Scene::new().await;
    let zmsg = without_l1(&scene.setup).open().await;
    declare(&zmsg, keeping());
    scene.insert("held_1", "old").await;
    let gate = scene.close_gate().await;
    let early = tokio::spawn({
        let zmsg = zmsg.clone();
        async move { zmsg.get_with("held_1", STRICT).await }
    });
    gate.waited_for_by(1).await;
    write(&zmsg, "held_1", "new").await.unwrap();
    assert_eq!(zmsg.get_with("held_1", STRICT).await.unwrap(), some("new"));
    gate.open().await;
    assert_eq!(early.await.unwrap().unwrap(), some("old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_has_a_soft_timeout_of_its_own() {
    let scene = Scene::new().await;
    let zmsg = without_l1(&scene.setup).open().await;
    let (soon, never) = (Some(Duration::from_millis(1)), Some(Duration::ZERO));
    declare(&zmsg, keeping());
    let by_source = task("SELECT gate(content) FROM feeds WHERE id = ?", &[]);
    zmsg.source("feed_*", by_source, SourceOptions { soft_timeout: soon, ..keeping() }).unwrap();
    scene.insert("held_1", "old").await;
    scene.insert("feed_1", "old").await;
    let keys = ["held_1", "feed_1"];
    assert_eq!(zmsg.get_many(&keys).await.unwrap(), [some("old"), some("old")]);
    set(&scene, "new").await;
    ended().await;
    let gate = scene.close_gate().await;
    let hurried = ReadOptions { soft_timeout: soon, stale: Some(true) };
    assert_eq!(zmsg.get_with("held_1", hurried).await.unwrap(), some("old"));
    assert_eq!(zmsg.get_many_with(&keys, hurried).await.unwrap(), [some("old"), some("old")]);
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("old"), "as its source says");
    let patient = ReadOptions { soft_timeout: never, ..ReadOptions::default() };
    let waiting = tokio::spawn({
        let zmsg = zmsg.clone();
        async move { (zmsg.get_with("feed_1", patient).await, zmsg.get_many_with(&["feed_1"], patient).await) }
    });
    gate.waited_for_by(2).await;
    gate.open().await;
    let (one, many) = waiting.await.unwrap();
    assert_eq!((one.unwrap(), many.unwrap()), (some("new"), vec![some("new")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_ends_soon_is_loaded_anew_by_one_while_all_read_it() {
    let scene = Scene::new().await;
    let setup = without_l1(&scene.setup);
    let (zmsg, other) = (setup.open().await, setup.open().await);
    let ten = Some(Ttl::For(Duration::from_secs(10)));
    let ahead = SourceOptions { ttl: ten, refresh_ahead: Some(0.9), ..SourceOptions::default() };
    [&zmsg, &other].into_iter().for_each(|engine| declare(engine, ahead.clone()));
    scene.insert("held_1", "old").await;
    assert_eq!(zmsg.get("held_1").await.unwrap(), some("old"));
    set(&scene, "new").await;
    let gate = scene.close_gate().await;
    let loads = || zmsg.stats().source_loads + other.stats().source_loads;
    until("one of them to load it anew", async || {
        for engine in [&zmsg, &other] {
            assert_eq!(engine.get("held_1").await.unwrap(), some("old"), "nobody waits");
        }
        loads() == 2
    })
    .await;
    gate.waited_for_by(1).await;
    for _ in 0..100 {
        assert_eq!(other.get("held_1").await.unwrap(), some("old"));
    }
    assert_eq!(loads(), 2, "one refresher");
    gate.open().await;
    until("the new value", async || other.get("held_1").await.unwrap() == some("new")).await;
    let refreshes = || zmsg.stats().refreshes + other.stats().refreshes;
    until("it to be counted", async || refreshes() == 1).await;
    assert_eq!(zmsg.stats().misses + other.stats().misses, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_during_a_refresh_wins() {
    let scene = Scene::new().await;
    let zmsg = without_l1(&scene.setup).open().await;
    let ten = Some(Ttl::For(Duration::from_secs(10)));
    declare(&zmsg, SourceOptions { ttl: ten, refresh_ahead: Some(0.9), ..SourceOptions::default() });
    scene.insert("held_1", "old").await;
    assert_eq!(zmsg.get("held_1").await.unwrap(), some("old"));
    let gate = scene.close_gate().await;
    until("it to be loaded anew", async || {
        zmsg.get("held_1").await.unwrap();
        zmsg.stats().source_loads == 2
    })
    .await;
    gate.waited_for_by(1).await;
    write(&zmsg, "held_1", "written").await.unwrap();
    gate.open().await;
    until("the refresh to end", async || zmsg.stats().fills_refused == 1).await;
    assert_eq!(zmsg.get("held_1").await.unwrap(), some("written"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_process_memory_keeps_and_renews_too() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("redis_addr", serde_json::Value::Null).open().await;
    declare(&zmsg, keeping());
    scene.insert("number_1", "1").await;
    assert_eq!(zmsg.get("number_1").await.unwrap(), some("1"));
    set(&scene, "no number").await;
    until("it to have ended", async || zmsg.peek_entry("number_1").unwrap().is_none()).await;
    assert_eq!(zmsg.get("number_1").await.unwrap(), some("1"));
    assert_eq!(zmsg.stats().stale_served, 1);

    let ten = Some(Ttl::For(Duration::from_secs(10)));
    let ahead = SourceOptions { ttl: ten, refresh_ahead: Some(0.9), ..SourceOptions::default() };
    zmsg.source("feed_*", task("SELECT content FROM feeds WHERE id = ?", &[]), ahead).unwrap();
    scene.insert("feed_1", "old").await;
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("old"));
    set(&scene, "new").await;
    until("the new value", async || zmsg.get("feed_1").await.unwrap() == some("new")).await;
    assert_eq!(zmsg.stats().refreshes, 1);
}
