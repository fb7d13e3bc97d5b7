//! What one process changes leaves the memory of the others, whichever way it came.

use bytes::Bytes;
use futures_util::future::{join_all, join3};
use zmsg_core::engine::{DelayOptions, WriteOptions, Zmsg};
use zmsg_core::sql::Task;
use zmsg_core::value::Value;

use crate::scene::{Scene, insert, put, some, text, write};
use crate::sees;
use crate::support::engine::until;
use crate::support::task;

/// Everybody holds `old` in memory.
async fn held(scene: &Scene, key: &str, engines: &[&Zmsg]) {
    scene.outside.execute("DELETE FROM feeds WHERE id = $1", &[&key]).await.unwrap();
    write(engines[0], key, "old").await.unwrap();
    for zmsg in engines {
        until("old to be held", async || {
            zmsg.get(key).await.unwrap();
            zmsg.peek(key).unwrap() == some("old")
        })
        .await;
    }
}

fn options() -> WriteOptions {
    WriteOptions::default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_ends_what_another_process_holds() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    let key = "feed_1";
    held(&scene, key, &[&one, &two]).await;
    write(&two, key, "stored").await.unwrap();
    sees(&one, key, "old", Some("stored")).await;

    held(&scene, key, &[&one, &two]).await;
    two.cache_and_store(Some(key), None, put(key, "row"), options()).await.unwrap();
    sees(&one, key, "old", Some("row")).await;

    held(&scene, key, &[&one, &two]).await;
    let delete = task("DELETE FROM feeds WHERE id = ?", &[Value::text(key)]);
    two.del_store(Some(key), delete, options()).await.unwrap();
    sees(&one, key, "old", None).await;
    // It may have read the row while the key was still fenced, and kept nothing.
    until("the absence to be held", async || {
        assert_eq!(one.get(key).await.unwrap(), None);
        one.peek_entry(key).unwrap() == Some(None)
    })
    .await;
    write(&two, key, "back").await.unwrap();
    until("the absence to end", async || one.get(key).await.unwrap() == some("back")).await;

    held(&scene, key, &[&one, &two]).await;
    two.cache_only(key, text("cached"), options()).await.unwrap();
    sees(&one, key, "old", Some("cached")).await;

    held(&scene, key, &[&one, &two]).await;
    scene.outside.execute("UPDATE feeds SET content = 'past' WHERE id = $1", &[&key]).await.unwrap();
    two.del(key).await.unwrap();
    sees(&one, key, "old", Some("past")).await;

    held(&scene, key, &[&one, &two]).await;
    let named = WriteOptions { invalidates: vec![key.to_owned()], ..options() };
    two.cache_and_store(None, None, put(key, "named"), named).await.unwrap();
    sees(&one, key, "old", Some("named")).await;
    assert!(one.stats().invalidations_received > 0 && one.stats().bus_losses == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_commit_later_do_too() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    let key = "feed_1";
    let append =
        || -> Task { task("UPDATE feeds SET content = content || '!' WHERE id = ?", &[Value::text(key)]) };
    held(&scene, key, &[&one, &two]).await;
    let receipt = two.cache_and_periodic_store(Some(key), None, append(), options()).await.unwrap();
    two.flush().await.unwrap();
    receipt.done().await.unwrap();
    sees(&one, key, "old", Some("old!")).await;

    held(&scene, key, &[&one, &two]).await;
    let soon = DelayOptions { delay: Some(std::time::Duration::ZERO), ..DelayOptions::default() };
    let receipt = two.cache_and_delay_store(Some(key), None, append(), soon.clone()).await.unwrap();
    receipt.done().await.unwrap();
    sees(&one, key, "old", Some("old!")).await;

    // The accepted value is gone from Redis, and the old row was read again before the commit.
    held(&scene, key, &[&one, &two]).await;
    two.pause_queue().await.unwrap();
    let data = Some(Bytes::from("old!"));
    let receipt = two.cache_and_delay_store(Some(key), data, append(), soon).await.unwrap();
    sees(&one, key, "old", Some("old!")).await;
    scene.forget_in_redis(key).await;
    scene.engine().await.get(key).await.unwrap();
    assert_eq!(scene.redis_view().await.get(key).await.unwrap(), some("old"));
    let three = scene.engine().await;
    assert_eq!(three.get(key).await.unwrap(), some("old"));
    two.resume_queue().await.unwrap();
    receipt.done().await.unwrap();
    sees(&three, key, "old", Some("old!")).await;
    assert_eq!(scene.redis_view().await.get(key).await.unwrap(), some("old!"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_write_leaves_the_caches_as_they_were() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    scene.insert("taken", "row").await;
    one.cache_only("only_cached", text("kept"), options()).await.unwrap();
    let refused = insert("taken", "again");
    let error =
        two.cache_and_store(Some("only_cached"), some("never"), refused, options()).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("23505"));
    for zmsg in [&one, &two, &scene.redis_view().await] {
        assert_eq!(zmsg.get("only_cached").await.unwrap(), some("kept"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_waits_for_a_connection_has_not_fenced_yet() {
    let scene = Scene::new().await;
    let two = scene.engine().await;
    let one = scene.setup.clone().with("pool_size", 1).open().await;
    write(&two, "feed_1", "old").await.unwrap();
    let gate = scene.close_gate().await;
    let busy = tokio::spawn({
        let one = one.clone();
        async move { one.query(task("SELECT gate('x')", &[])).await }
    });
    gate.waited_for_by(1).await;
    let writing = tokio::spawn({
        let one = one.clone();
        async move { write(&one, "feed_1", "new").await }
    });
    let view = scene.redis_view().await;
    for _ in 0..20 {
        assert_eq!(view.get("feed_1").await.unwrap(), some("old"), "Redis has it, for everybody");
        tokio::task::yield_now().await;
    }
    gate.open().await;
    busy.await.unwrap().unwrap();
    assert!(writing.await.unwrap().unwrap().cached);
    sees(&two, "feed_1", "old", Some("new")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_go_to_redis_together_are_heard_one_by_one() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    let keys: Vec<String> = (0..600).map(|n| format!("feed_{n}")).collect();
    two.cache_many(keys.iter().map(|key| (key.clone(), text("old"))).collect(), options()).await.unwrap();
    until("old to be held", async || {
        one.get_many(&keys).await.unwrap();
        keys.iter().all(|key| one.peek(key).unwrap() == some("old"))
    })
    .await;
    let before = one.stats().invalidations_received;
    let (put_again, dropped, stored) = (&keys[..200], &keys[200..400], &keys[400..]);
    let puts = join_all(put_again.iter().map(|key| two.cache_only(key, text("new"), options())));
    let drops = join_all(dropped.iter().map(|key| two.del(key)));
    let stores = join_all(
        stored.iter().map(|key| two.cache_and_store(Some(key), some("row"), put(key, "row"), options())),
    );
    let (puts, drops, stores) = join3(puts, drops, stores).await;
    assert!(puts.into_iter().chain(drops).all(|done| done.is_ok()));
    assert!(stores.into_iter().all(|receipt| receipt.unwrap().cached));
    let view = scene.redis_view().await;
    for (keys, now) in [(put_again, some("new")), (dropped, None), (stored, some("row"))] {
        for key in keys {
            until(&format!("{key} to become {now:?}"), async || one.get(key).await.unwrap() == now).await;
            assert_eq!(view.get(key).await.unwrap(), now);
        }
    }
    // A transaction is told of at its fence and at its end.
    let heard = one.stats().invalidations_received - before;
    assert_eq!(heard, 200 + 200 + 2 * 200);
}
