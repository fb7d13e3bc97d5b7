//! Processes that share a Redis Cluster of three masters.

use std::time::Duration;

use futures_util::future::join_all;
use zmsg_core::engine::{LockOptions, WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, some, text, write};
use crate::support::engine::{until, within};
use crate::support::servers::{RedisCluster, ask};
use crate::{BOUND, sees};

/// Enough keys for each master to have some.
const KEYS: usize = 24;

fn keys() -> Vec<String> {
    (0..KEYS).map(|n| format!("feed_{n}")).collect()
}

/// A scene whose engines share the cluster.
async fn on(cluster: &RedisCluster) -> Scene {
    let mut scene = Scene::new().await;
    let bound = format!("{}ms", BOUND.as_millis());
    scene.setup = scene.setup.with("redis_addr", cluster.addrs()).with("coherence_bound", bound);
    scene
}

async fn coherent(engines: &[&Zmsg]) {
    for zmsg in engines {
        until("it hears all masters", async || zmsg.stats().coherent).await;
    }
}

async fn write_all(zmsg: &Zmsg, value: &str) {
    for key in keys() {
        assert!(write(zmsg, &key, value).await.unwrap().cached, "{key}");
    }
}

async fn holds_all(zmsg: &Zmsg, value: &str) {
    for key in keys() {
        until("it is held", async || {
            zmsg.get(&key).await.unwrap();
            zmsg.peek(&key).unwrap() == some(value)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_not_heard_ends_the_trust_in_all() {
    let mut cluster = RedisCluster::start().await;
    let scene = on(&cluster).await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    coherent(&[&one, &two]).await;
    write_all(&one, "old").await;
    holds_all(&two, "old").await;
    for stopped in 0..3 {
        cluster.masters[stopped].freeze();
        within(BOUND + Duration::from_secs(1), "noticing it", async {
            until("trust to end", async || !two.stats().coherent).await;
        })
        .await;
        for key in keys() {
            assert_eq!(two.peek(&key).unwrap(), None, "{key}");
            assert_eq!(two.get(&key).await.unwrap(), some("old"), "{key}, as the row is");
        }
        cluster.masters[stopped].thaw();
        coherent(&[&one, &two]).await;
        let new = format!("new {stopped}");
        write_all(&one, &new).await;
        holds_all(&two, &new).await;
        write_all(&two, "old").await;
        holds_all(&two, "old").await;
    }
}

/// A message that a master sends to the others is lost where two of them are not connected. Each is heard all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_need_no_way_from_master_to_master() {
    let cluster = RedisCluster::start_with(&["--cluster-require-full-coverage", "no"]).await;
    let scene = on(&cluster).await;
    let engines = [scene.engine().await, scene.engine().await, scene.engine().await];
    coherent(&engines.each_ref()).await;
    write_all(&engines[0], "old").await;
    for zmsg in &engines {
        holds_all(zmsg, "old").await;
    }
    // Nobody sends anything to anybody any more.
    let names: Vec<String> =
        cluster.masters.iter().map(|node| ask(node, &["CLUSTER", "MYID"]).trim().to_owned()).collect();
    for (at, node) in cluster.masters.iter().enumerate() {
        for (_, name) in names.iter().enumerate().filter(|(other, _)| *other != at) {
            assert_eq!(ask(node, &["CLUSTER", "FORGET", name]).trim(), "OK");
        }
    }
    for key in keys() {
        assert!(write(&engines[0], &key, "new").await.unwrap().cached, "{key}");
        for zmsg in &engines {
            sees(zmsg, &key, "old", Some("new")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_master_had_before_its_restart_is_read_by_nobody() {
    let mut cluster = RedisCluster::start().await;
    let scene = on(&cluster).await;
    let (one, two) = (scene.engine().await, scene.redis_view().await);
    coherent(&[&one, &two]).await;
    for restarted in 0..3 {
        write_all(&one, "old").await;
        assert_eq!(ask(&cluster.masters[restarted], &["SAVE"]).trim(), "OK");
        write_all(&one, "new").await;
        cluster.masters[restarted].kill();
        cluster.masters[restarted].start_again().await;
        // Before anybody could have noticed it, and until it is read again.
        until("all of it is read, and nothing old", async || {
            let found = join_all(keys().iter().map(|key| two.get(key))).await;
            assert!(!found.iter().flatten().any(|found| *found == some("old")), "of {restarted}");
            found.iter().all(Result::is_ok) && two.stats().coherent
        })
        .await;
        until("it serves", async || {
            coherent(&[&one, &two]).await;
            write(&one, "feed_0", "new").await.unwrap().cached
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_promoted_is_listened_to_and_is_another_generation() {
    let cluster = RedisCluster::start_with_replica().await;
    let scene = on(&cluster).await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    coherent(&[&one, &two]).await;
    write_all(&one, "old").await;
    holds_all(&two, "old").await;
    let view = scene.redis_view().await;
    coherent(&[&view]).await;
    assert_eq!(view.get("feed_0").await.unwrap(), some("old"));
    // Without asking the master, so that what it had and did not hand on is lost.
    assert_eq!(ask(cluster.replica.as_ref().unwrap(), &["CLUSTER", "FAILOVER", "TAKEOVER"]).trim(), "OK");
    let fresh = scene.redis_view().await;
    until("another generation", async || {
        fresh.stats().coherent && fresh.get("feed_0").await.is_ok_and(|found| found.is_none())
    })
    .await;
    coherent(&[&one, &two]).await;
    for key in keys() {
        until("it serves", async || write(&one, &key, "new").await.unwrap().cached).await;
        sees(&two, &key, "old", Some("new")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_takes_slots_over_is_listened_to() {
    let mut cluster = RedisCluster::start().await;
    let scene = on(&cluster).await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    coherent(&[&one, &two]).await;
    write_all(&one, "old").await;
    holds_all(&two, "old").await;
    // All that the first one has.
    cluster.grow(5_461).await;
    // Each key is held when it is written, wherever it lies by now.
    for (old, new) in [("old", "new"), ("new", "newer")] {
        coherent(&[&one, &two]).await;
        holds_all(&two, old).await;
        write_all(&one, new).await;
        for key in keys() {
            sees(&two, &key, old, Some(new)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_every_master_are_listed_and_cleared() {
    let cluster = RedisCluster::start().await;
    let scene = on(&cluster).await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    coherent(&[&one, &two]).await;
    // More than one step of a walk over one master.
    let many: Vec<String> = (0..3_000).map(|n| format!("page_{n:04}")).collect();
    let entries = many.iter().map(|key| (key.clone(), text("x"))).collect();
    one.cache_many(entries, WriteOptions::default()).await.unwrap();
    one.cache_only("other", text("stays"), WriteOptions::default()).await.unwrap();
    assert_eq!(two.keys("page_").await.unwrap(), many);
    assert!(two.get("page_0000").await.unwrap().is_some() && two.peek("page_0000").unwrap().is_some());
    assert_eq!(one.clear("page_").await.unwrap(), 3_000);
    assert!(one.keys("page_").await.unwrap().is_empty());
    until("the memory of the other to be empty", async || two.peek("page_0000").unwrap().is_none()).await;
    assert_eq!(two.keys("").await.unwrap(), ["other"]);
    // A slot that is on its way may have its keys here, there, or seen by nobody.
    let [from, to] = [0, 1].map(|at| &cluster.masters[at]);
    let names = [from, to].map(|node| ask(node, &["CLUSTER", "MYID"]).trim().to_owned());
    assert_eq!(ask(from, &["CLUSTER", "SETSLOT", "0", "MIGRATING", &names[1]]).trim(), "OK");
    let refused = two.keys("").await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Cache && refused.message().contains("moved"), "{refused}");
    for node in [to, from] {
        assert_eq!(ask(node, &["CLUSTER", "SETSLOT", "0", "NODE", &names[1]]).trim(), "OK");
    }
    assert_eq!(two.keys("").await.unwrap(), ["other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_and_locks_hold_wherever_they_lie() {
    let cluster = RedisCluster::start().await;
    let scene = on(&cluster).await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    coherent(&[&one, &two]).await;
    for n in 0..9 {
        let tag = format!("user:{n}");
        let options = || WriteOptions { tags: vec![tag.clone()], ..WriteOptions::default() };
        // Of the tag and its entries each may lie on another master.
        for key in keys() {
            one.cache_only(&key, text("old"), options()).await.unwrap();
        }
        holds_all(&two, "old").await;
        one.invalidate_tag(&tag).await.unwrap();
        for key in keys() {
            assert_eq!(one.get(&key).await.unwrap(), None, "{key} of {tag}");
            sees(&two, &key, "old", None).await;
        }
    }
    let at_once = LockOptions { wait: Some(Duration::ZERO), ..LockOptions::default() };
    let patient = LockOptions { wait: Some(Duration::from_secs(20)), ..LockOptions::default() };
    for n in 0..9 {
        let name = format!("report {n}");
        let first = one.lock(&name, at_once).await.unwrap();
        let refused = two.lock(&name, at_once).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
        let (next, given) = tokio::join!(two.lock(&name, patient), first.release());
        let next = next.unwrap();
        assert!(given.unwrap() && next.token() > first.token());
        assert!(next.release().await.unwrap());
    }
}

/// With those of the guide and nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_few_rights_may_do_all_of_it() {
    let cluster = RedisCluster::start().await;
    let mut scene = on(&cluster).await;
    let guide = include_str!("../../../docs/guides/coherence.md");
    let (_, rights) = guide.split_once("ACL SETUSER app on >password ").unwrap();
    let (rights, rest) = rights.split_once("```").unwrap();
    let rights = rights.replace("NAMESPACE", scene.setup.namespace());
    let more: Vec<&str> = rest.split('`').filter(|word| word.starts_with("+cluster|")).collect();
    assert_eq!(more, ["+cluster|slots", "+cluster|nodes"]);
    for node in &cluster.masters {
        let user = ["ACL", "SETUSER", "app", "on", ">password"];
        let words: Vec<&str> =
            user.into_iter().chain(rights.split_whitespace()).chain(more.clone()).collect();
        assert_eq!(ask(node, &words).trim(), "OK");
    }
    let addrs: Vec<String> =
        cluster.masters.iter().map(|node| format!("redis://app:password@{}", node.addr)).collect();
    scene.setup = scene.setup.with("redis_addr", addrs);
    let (one, two) = (scene.engine().await, scene.engine().await);
    coherent(&[&one, &two]).await;
    write_all(&one, "old").await;
    holds_all(&two, "old").await;
    assert_eq!(two.keys("feed_").await.unwrap().len(), KEYS);
    write_all(&one, "new").await;
    for key in keys() {
        sees(&two, &key, "old", Some("new")).await;
    }
    assert_eq!(two.clear("feed_").await.unwrap(), KEYS as u64);
}
