//! A slow reader never puts back what a write has replaced. The races are forced: the source stands at a gate with the
//! old row in its snapshot until the write has been acknowledged.

use futures_util::future::join_all;
use zmsg_core::engine::{WriteOptions, Zmsg};

use crate::scene::{Scene, getting, put, some, text, write};
use crate::support::task;

const KEY: &str = "slow_1";

/// What everybody sees afterwards: this engine in memory, another one in Redis.
async fn all_see(scene: &Scene, zmsg: &Zmsg, expected: &str) {
    assert_eq!(zmsg.get(KEY).await.unwrap(), some(expected));
    assert_eq!(zmsg.get_many(&[KEY]).await.unwrap(), [some(expected)]);
    assert_eq!(scene.engine().await.get(KEY).await.unwrap(), some(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_began_before_a_write_keeps_nothing() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert(KEY, "old").await;
    let gate = scene.close_gate().await;
    let (slow, keys) = (getting(&zmsg, KEY), [KEY, "slow_none"]);
    gate.waited_for_by(1).await;
    write(&zmsg, KEY, "new").await.unwrap();
    assert_eq!(
        zmsg.get(KEY).await.unwrap(),
        some("new"),
        "a get after the write does not join the older load"
    );
    let many = zmsg.get_many(&keys).await.unwrap();
    assert_eq!(many, [some("new"), None]);
    gate.open().await;
    assert_eq!(slow.await.unwrap().unwrap(), some("old"), "it began before the write");
    all_see(&scene, &zmsg, "new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_of_many() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert(KEY, "old").await;
    scene.insert("slow_2", "other").await;
    let gate = scene.close_gate().await;
    let slow = {
        let zmsg = zmsg.clone();
        tokio::spawn(async move { zmsg.get_many(&[KEY, "slow_2"]).await })
    };
    gate.waited_for_by(1).await;
    write(&zmsg, KEY, "new").await.unwrap();
    gate.open().await;
    assert_eq!(slow.await.unwrap().unwrap()[1], some("other"));
    all_see(&scene, &zmsg, "new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_drop_a_get_starts_a_load_of_its_own() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert(KEY, "old").await;
    let gate = scene.close_gate().await;
    let early = getting(&zmsg, KEY);
    gate.waited_for_by(1).await;
    // Nothing is cached by it, so the next reader has to ask.
    zmsg.cache_and_store(Some(KEY), None, put(KEY, "new"), WriteOptions::default()).await.unwrap();
    let late = getting(&zmsg, KEY);
    gate.waited_for_by(2).await;
    gate.open().await;
    assert_eq!(early.await.unwrap().unwrap(), some("old"));
    assert_eq!(late.await.unwrap().unwrap(), some("new"));
    assert_eq!(zmsg.stats().source_loads, 2);
    all_see(&scene, &zmsg, "new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_row_does_not_come_back() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert(KEY, "old").await;
    let gate = scene.close_gate().await;
    let early = getting(&zmsg, KEY);
    gate.waited_for_by(1).await;
    let delete = task("DELETE FROM feeds WHERE id = ?", &[KEY.into()]);
    zmsg.del_store(Some(KEY), delete, WriteOptions::default()).await.unwrap();
    gate.open().await;
    early.await.unwrap().unwrap();
    assert_eq!(zmsg.get(KEY).await.unwrap(), None);
    assert_eq!(scene.engine().await.get(KEY).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidated_key_does_not_come_back() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert(KEY, "old").await;
    let gate = scene.close_gate().await;
    let early = getting(&zmsg, KEY);
    gate.waited_for_by(1).await;
    let options = WriteOptions { invalidates: vec![KEY.into()], ..WriteOptions::default() };
    zmsg.cache_and_store(None, None, put(KEY, "new"), options).await.unwrap();
    gate.open().await;
    early.await.unwrap().unwrap();
    all_see(&scene, &zmsg, "new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_value_is_not_replaced_by_an_older_row() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    scene.insert(KEY, "old").await;
    let gate = scene.close_gate().await;
    let early = getting(&zmsg, KEY);
    gate.waited_for_by(1).await;
    zmsg.cache_only(KEY, text("put"), WriteOptions::default()).await.unwrap();
    gate.open().await;
    early.await.unwrap().unwrap();
    all_see(&scene, &zmsg, "put").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_of_another_process_keeps_nothing_either() {
    let scene = Scene::new().await;
    let (reader, writer) = (scene.engine().await, scene.engine().await);
    scene.insert(KEY, "old").await;
    let gate = scene.close_gate().await;
    let slow = getting(&reader, KEY);
    gate.waited_for_by(1).await;
    write(&writer, KEY, "new").await.unwrap();
    gate.open().await;
    assert_eq!(slow.await.unwrap().unwrap(), some("old"));
    assert_eq!(reader.peek_entry(KEY).unwrap(), None, "what it read was not new any more");
    all_see(&scene, &reader, "new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_changes_nothing() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    write(&zmsg, KEY, "good").await.unwrap();
    let (good, bad) = (put(KEY, "bad"), task("SELECT 1 / 0", &[]));
    let error = zmsg
        .cache_and_store(Some(KEY), some("bad"), vec![good, bad], WriteOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"));
    assert_eq!(scene.row(KEY).await.as_deref(), Some("good"));
    assert_eq!(zmsg.peek(KEY).unwrap(), some("good"));
    all_see(&scene, &zmsg, "good").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_writes_of_one_key_end_with_the_row() {
    let scene = Scene::new().await;
    let (zmsg, other, view) = (scene.engine().await, scene.engine().await, scene.redis_view().await);
    for round in 0..15 {
        let calls = (0..24).map(|n| {
            let (zmsg, other) = (zmsg.clone(), other.clone());
            async move {
                let text = format!("{round} {n}");
                match n % 4 {
                    0 => drop(write(&zmsg, "feed_1", &text).await.unwrap()),
                    1 => drop(write(&other, "feed_1", &text).await.unwrap()),
                    2 => drop(zmsg.get("feed_1").await.unwrap()),
                    _ if n == 3 => zmsg.del("feed_1").await.unwrap(),
                    _ => drop(zmsg.get_many(&["feed_1", "feed_2"]).await.unwrap()),
                }
            }
        });
        join_all(calls.map(tokio::spawn)).await.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
        let row = scene.row("feed_1").await;
        let shared = view.get("feed_1").await.unwrap();
        assert!(
            shared.is_none() || shared == row.as_deref().map(text),
            "round {round}: Redis has {shared:?}, the row is {row:?}"
        );
        zmsg.del("feed_1").await.unwrap();
        view.del("feed_1").await.unwrap();
        other.del("feed_1").await.unwrap();
        assert_eq!(zmsg.get("feed_1").await.unwrap(), row.as_deref().map(text));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_writes_of_one_process_leave_it_with_the_row() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    for round in 0..25 {
        let calls = (0..24).map(|n| {
            let zmsg = zmsg.clone();
            async move {
                match n % 3 {
                    0 => drop(write(&zmsg, "feed_1", &format!("{round} {n}")).await.unwrap()),
                    1 => drop(zmsg.get("feed_1").await.unwrap()),
                    _ if n == 11 => zmsg.del("feed_1").await.unwrap(),
                    _ => drop(zmsg.get_many(&["feed_1"]).await.unwrap()),
                }
            }
        });
        join_all(calls.map(tokio::spawn)).await.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
        let row = scene.row("feed_1").await.unwrap();
        let here = zmsg.peek_entry("feed_1").unwrap();
        assert!(
            here.is_none() || here == Some(some(&row)),
            "round {round}: memory has {here:?}, the row is {row}"
        );
        assert_eq!(zmsg.get("feed_1").await.unwrap(), some(&row), "round {round}");
    }
}
