//! The cache toolbox, as several processes see it.

use std::time::Duration;

use futures_util::future::join_all;
use zmsg_core::config::Ttl;
use zmsg_core::engine::{Left, WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, some, text};
use crate::sees;
use crate::support::engine::until;

fn options() -> WriteOptions {
    WriteOptions::default()
}

/// Both hold `old` under `key` in memory.
async fn held(one: &Zmsg, two: &Zmsg, key: &str) {
    one.cache_only(key, text("old"), options()).await.unwrap();
    for zmsg in [one, two] {
        until("old to be held", async || {
            zmsg.get(key).await.unwrap();
            zmsg.peek(key).unwrap() == some("old")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_of_the_toolbox_ends_what_another_process_holds() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    let key = "x";
    held(&one, &two, key).await;
    two.cache_many(vec![(key.into(), text("many"))], options()).await.unwrap();
    sees(&one, key, "old", Some("many")).await;

    held(&one, &two, key).await;
    two.delete_many(&[key]).await.unwrap();
    sees(&one, key, "old", None).await;

    held(&one, &two, key).await;
    assert_eq!(two.clear("x").await.unwrap(), 1);
    sees(&one, key, "old", None).await;

    // An absence in memory.
    two.del("feed_1").await.unwrap();
    until("an absence", async || {
        one.get("feed_1").await.unwrap();
        one.peek_entry("feed_1").unwrap() == Some(None)
    })
    .await;
    assert!(two.add("feed_1", text("added"), options()).await.unwrap());
    until("the absence to end", async || one.get("feed_1").await.unwrap() == some("added")).await;
    assert!(!one.add("feed_1", text("again"), options()).await.unwrap());

    assert_eq!(one.incr("n", 5, None).await.unwrap(), 5);
    assert_eq!(one.get("n").await.unwrap(), some("5"));
    assert_eq!(two.incr("n", -7, None).await.unwrap(), -2);
    sees(&one, "n", "5", Some("-2")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_life_ends_in_the_memory_of_others() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    held(&one, &two, "x").await;
    assert!(two.touch("x", Some(Ttl::For(Duration::from_millis(150)))).await.unwrap());
    until("it to end", async || one.get("x").await.unwrap().is_none()).await;
    assert_eq!(one.ttl("x").await.unwrap(), Left::Nothing);
    assert!(!one.touch("x", None).await.unwrap());
    // A longer one disturbs nobody.
    held(&one, &two, "y").await;
    let before = one.stats().invalidations_received;
    assert!(two.touch("y", Some(Ttl::Never)).await.unwrap());
    assert_eq!(one.ttl("y").await.unwrap(), Left::Forever);
    assert_eq!((one.peek("y").unwrap(), one.stats().invalidations_received), (some("old"), before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_count_together_and_are_told_the_limits() {
    let scene = Scene::new().await;
    let engines = [scene.engine().await, scene.engine().await];
    let counted = join_all((0..200).map(|n| engines[n % 2].incr("n", 1, None))).await;
    let mut sums: Vec<i64> = counted.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=200).collect::<Vec<_>>());
    let one = &engines[0];
    let long = "k".repeat(1_025);
    for refused in [
        one.add("", text("x"), options()).await.err(),
        one.incr(&long, 1, None).await.err(),
        one.keys(&long).await.err(),
        one.add("k", text("x"), WriteOptions { invalidates: vec!["l".into()], ..options() }).await.err(),
    ] {
        assert_eq!(refused.unwrap().kind(), ErrorKind::Task);
    }
    let many = (0..1_500).map(|n| (format!("m{n:04}"), text("x"))).collect();
    one.cache_many(many, options()).await.unwrap();
    assert_eq!(engines[1].keys("m").await.unwrap().len(), 1_500);
    assert_eq!(engines[1].clear("m").await.unwrap(), 1_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_the_toolbox_works_on_process_memory() {
    let scene = Scene::new().await;
    let alone = scene.setup.clone().with("redis_addr", serde_json::Value::Null);
    let zmsg = alone.with("queue", serde_json::json!({})).open().await;
    assert!(zmsg.add("a", text("1"), options()).await.unwrap());
    assert!(!zmsg.add("a", text("2"), options()).await.unwrap());
    let counted = join_all((0..50).map(|_| zmsg.incr("a", 1, None))).await;
    assert_eq!(counted.into_iter().map(Result::unwrap).max(), Some(51));
    assert!(zmsg.touch("a", Some(Ttl::For(Duration::from_secs(5)))).await.unwrap());
    assert!(matches!(zmsg.ttl("a").await.unwrap(), Left::For(left) if left <= Duration::from_secs(6)));
    assert_eq!(zmsg.keys("").await.unwrap(), ["a"]);
    let tagged = WriteOptions { tags: vec!["t".into()], ..options() };
    zmsg.cache_only("b", text("x"), tagged).await.unwrap();
    zmsg.invalidate_tag("t").await.unwrap();
    assert_eq!((zmsg.get("b").await.unwrap(), zmsg.get("a").await.unwrap()), (None, some("51")));
    zmsg.clear("").await.unwrap();
    assert_eq!(zmsg.get("a").await.unwrap(), None);
    assert_eq!(zmsg.lock("l", Default::default()).await.unwrap_err().kind(), ErrorKind::Config);
}
