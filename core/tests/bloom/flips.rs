//! A new generation answers in the place of another: from the flip on writers add to the new one alone, while readers may
//! know of it up to two seconds later.

use zmsg_core::engine::Zmsg;

use crate::scene::{Scene, built_after, declare, figures, serving, shared_redis, store};
use crate::support::engine::until;

/// A flip, which alone lets answer what was being built, waits for a lock that the test holds.
const GATE: &str = "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$; \
     CREATE TRIGGER gate BEFORE UPDATE ON zmsg_bloom FOR EACH ROW \
     WHEN (OLD.building IS NOT NULL AND NEW.serving = OLD.building) EXECUTE FUNCTION gate(); \
     SELECT pg_advisory_lock(7)";
const WAITING: &str = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// An engine that wants a larger filter than there is, and so builds one.
async fn grower(scene: &Scene) -> Zmsg {
    let zm = scene.setup.clone().with("bloom_capacity", 5_000).open().await;
    declare(&zm);
    zm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_another_generation_answers_the_one_before_says_no_to_nothing() {
    let scene = Scene::new().await;
    let reader = scene.open().await;
    assert!(!reader.db_hit("feed_nobody").await.unwrap());
    scene.client.batch_execute(GATE).await.unwrap();
    let grower = grower(&scene).await;
    until("the flip waits", async || !scene.client.query(WAITING, &[]).await.unwrap().is_empty()).await;
    // So that it does not matter when the reader hears of the flip.
    let before = figures(&reader);
    assert!(
        reader.db_hit("feed_nobody").await.unwrap(),
        "it is asked as before, and answers nothing: {before:?}"
    );
    assert_eq!((before.generation, before.state), (1, "serving"));
    // Writers may know as little, and still add to both.
    store(&reader, "feed_at_the_flip").await;
    scene.client.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
    serving(&reader).await;
    built_after(&reader, 1).await;
    assert!(reader.db_hit("feed_at_the_flip").await.unwrap());
    assert!(!reader.db_hit("feed_nobody").await.unwrap());
    assert_eq!(scene.row("opened").await, 0, "nobody had to open it");
    reader.close().await.unwrap();
    grower.close().await.unwrap();
}

#[tokio::test]
async fn a_generation_does_not_follow_another_one_than_its_builder_has_silenced() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let grower = grower(&scene).await;
    until("it is being built", async || scene.row("building IS NOT NULL").await == 1).await;
    scene.client.batch_execute("UPDATE zmsg_bloom SET serving = NULL").await.unwrap();
    built_after(&grower, 2).await;
    store(&zm, "feed_since").await;
    assert!(zm.db_hit("feed_since").await.unwrap());
    zm.close().await.unwrap();
    grower.close().await.unwrap();
}

#[tokio::test]
async fn a_generation_that_cannot_be_silenced_is_followed_only_once_the_family_was_open() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let grower = grower(&scene).await;
    until("it is being built", async || scene.row("building IS NOT NULL").await == 1).await;
    // A server that is out of reach may still have it.
    let mut redis = shared_redis().await;
    let strings = scene.strings(&mut redis).await;
    let marker = strings.iter().find(|name| name.contains("}:1-")).expect("the marker of the first");
    let () = redis::cmd("DEL").arg(marker).query_async(&mut redis).await.unwrap();
    assert_eq!(scene.row("opened").await, 0);
    built_after(&grower, 2).await;
    assert!(scene.row("opened").await > 0, "it was opened, so that everybody knew");
    store(&zm, "feed_since").await;
    assert!(zm.db_hit("feed_since").await.unwrap());
    zm.close().await.unwrap();
    grower.close().await.unwrap();
}
