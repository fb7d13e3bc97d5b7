//! Both tiers together, against a real Redis; each test in a namespace of its own.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Clock, Deadline};
use crate::cache::header::L2Entry;
use crate::cache::{CacheSettings, Caches, LifeRules, Lookup, Miss, SourceLife};
use crate::config::Ttl;
use crate::error::ErrorKind;
use crate::redis::testing::{PrivateRedis, connect, namespace};
use crate::redis::{Keyspace, Redis, SetOptions};
use crate::telemetry::Counters;

const MINUTE: Duration = Duration::from_secs(60);

/// One process of several that share a namespace.
struct Process {
    caches: Caches,
    clock: Clock,
    counters: Arc<Counters>,
}

fn process(redis: Option<&Redis>, space: &str) -> Process {
    let (clock, counters) = (Clock::manual(0), Arc::new(Counters::default()));
    let life =
        LifeRules { l1_ttl: MINUTE, default_ttl: Ttl::For(10 * MINUTE), absent_ttl: MINUTE / 2, jitter: 0.0 };
    let settings = CacheSettings { namespace: space.to_owned(), l1_max_cost: 1 << 20, life };
    let caches = Caches::new(settings, redis.cloned(), clock.clone(), counters.clone());
    Process { caches, clock, counters }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn some(text: &'static str) -> Option<Option<Bytes>> {
    Some(Some(bytes(text)))
}

fn hit(lookup: Lookup) -> Option<Option<Bytes>> {
    match lookup {
        Lookup::Hit(data) => Some(data),
        Lookup::Miss(_) => None,
    }
}

impl Process {
    async fn get(&self, key: &str) -> Option<Option<Bytes>> {
        hit(self.caches.get(&key.into(), soon()).await)
    }

    async fn miss(&self, key: &str) -> Miss {
        match self.caches.get(&key.into(), soon()).await {
            Lookup::Miss(miss) => miss,
            Lookup::Hit(data) => panic!("a hit: {data:?}"),
        }
    }

    async fn write(&self, key: &str, data: &'static str, version: u64) {
        self.caches.write(key, bytes(data), None, version, soon()).await.unwrap();
    }

    async fn fill(&self, key: &str, data: Option<&'static str>, miss: &Miss) {
        self.caches.fill(&key.into(), data.map(bytes), SourceLife::default(), miss, soon()).await;
    }
}

#[tokio::test]
async fn a_write_is_read_by_every_process() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("feed_1", "hello", 0).await;
    assert_eq!(one.caches.peek("feed_1"), some("hello"));
    assert_eq!(two.caches.peek("feed_1"), None);
    assert_eq!(two.get("feed_1").await, some("hello"));
    assert_eq!(two.caches.peek("feed_1"), some("hello"), "it entered L1");
    assert_eq!((two.counters.l2_hits.get(), two.counters.l1_hits.get()), (1, 1));

    one.caches.drop_keys(&["feed_1"], soon()).await.unwrap();
    assert_eq!(one.get("feed_1").await, None);
    assert_eq!(
        (one.counters.cache_writes.get(), one.counters.cache_drops.get(), one.counters.misses.get()),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn hostile_keys_and_values_round_trip() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let long = "k".repeat(1_024);
    let keys = ["a\r\nFLUSHALL\r\n", "*", "{x}y", "}", "\0", "zmsg:m:generation", "é\u{10ffff}", " ", &long];
    for (n, key) in keys.iter().enumerate() {
        let data = Bytes::from(vec![n as u8; n]);
        one.caches.write(key, data, Some(Ttl::Never), 0, soon()).await.unwrap();
    }
    let arcs: Vec<Arc<str>> = keys.iter().map(|&key| key.into()).collect();
    let found = two.caches.get_many(&arcs, soon()).await;
    for (n, found) in found.into_iter().enumerate() {
        assert_eq!(hit(found), Some(Some(Bytes::from(vec![n as u8; n]))), "{:?}", keys[n]);
    }
    two.caches.drop_keys(&keys, soon()).await.unwrap();
}

#[tokio::test]
async fn get_many_asks_l2_for_what_l1_lacks() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "1", 0).await;
    one.write("b", "2", 0).await;
    two.write("c", "3", 0).await;
    let keys: Vec<Arc<str>> = ["none", "a", "c", "b", "a"].map(Arc::from).to_vec();
    let found: Vec<_> = two.caches.get_many(&keys, soon()).await.into_iter().map(hit).collect();
    assert_eq!(found, [None, some("1"), some("3"), some("2"), some("1")]);
    assert_eq!(
        (two.counters.l1_hits.get(), two.counters.l2_hits.get(), two.counters.misses.get()),
        (1, 3, 1)
    );
}

#[tokio::test]
async fn an_absence_is_cached_and_ends_with_a_write() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let miss = one.miss("a").await;
    one.fill("a", None, &miss).await;
    assert_eq!(one.caches.peek("a"), Some(None));
    assert_eq!(two.get("a").await, Some(None));
    assert_eq!((one.counters.absent_hits.get(), two.counters.absent_hits.get()), (1, 1));
    one.write("a", "now", 1).await;
    assert_eq!(one.get("a").await, some("now"));
}

#[tokio::test]
async fn an_l2_hit_stays_in_l1_no_longer_than_it_has_left() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.caches.write("short", bytes("x"), Some(Ttl::For(Duration::from_secs(20))), 0, soon()).await.unwrap();
    one.caches.write("long", bytes("x"), Some(Ttl::Never), 0, soon()).await.unwrap();
    for key in ["short", "long"] {
        assert!(two.get(key).await.is_some());
    }
    // The processes' clocks stand still, so Redis' own passing of time is all that may be missing.
    for (seconds, short, long) in [(9, true, true), (11, false, true), (39, false, true), (1, false, false)] {
        two.clock.advance(Duration::from_secs(seconds));
        assert_eq!(two.caches.peek("short").is_some(), short, "after {seconds} s more");
        assert_eq!(two.caches.peek("long").is_some(), long, "after {seconds} s more");
    }
}

#[tokio::test]
async fn a_read_that_began_before_a_write_changes_nothing() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let miss = one.miss("a").await;
    one.write("a", "new", 2).await;
    one.fill("a", Some("old"), &miss).await;
    assert_eq!(one.get("a").await, some("new"));

    let miss = one.miss("b").await;
    one.caches.drop_keys(&["b"], soon()).await.unwrap();
    one.fill("b", Some("old"), &miss).await;
    assert_eq!(one.get("b").await, None);
    assert_eq!(one.counters.l1_refused.get(), 2);
}

#[tokio::test]
async fn a_fill_never_replaces_another_process_write() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let miss = one.miss("a").await;
    two.write("a", "new", 7).await;
    one.fill("a", Some("old"), &miss).await;
    assert_eq!(one.caches.peek("a"), None);
    assert_eq!(one.get("a").await, some("new"));
}

#[tokio::test]
async fn of_two_transactions_the_later_one_stays_in_any_order_of_arrival() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let big = 1 << 53;
    one.write("a", "later", big + 1).await;
    two.write("a", "earlier", big).await;
    assert_eq!(two.caches.peek("a"), None, "it knows that its value is not the last");
    assert_eq!(two.get("a").await, some("later"));
    two.write("a", "latest", u64::MAX).await;
    assert_eq!(process(Some(&redis), &space).get("a").await, some("latest"));
    two.write("a", "unversioned", 0).await;
    two.write("a", "any", 1).await;
    assert_eq!(process(Some(&redis), &space).get("a").await, some("any"));
}

#[tokio::test]
async fn garbage_in_redis_is_a_miss_and_makes_room() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let full = Keyspace::new(&space).value("a");
    one.write("b", "other", 0).await;
    let foreign =
        L2Entry { generation: 1, version: 0, expiry_ms: 0, data: Some(bytes("foreign")) }.encode().unwrap();
    for garbage in [&b""[..], b"{\"json\": true}", &[0xB7; 40], &foreign] {
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        let keys = ["a".into(), "b".into()];
        let found: Vec<_> = one.caches.get_many_shared(&keys, soon()).await.into_iter().map(hit).collect();
        assert_eq!(found, [None, some("other")]);
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        let miss = one.miss("a").await;
        one.fill("a", Some("source"), &miss).await;
        assert_eq!(process(Some(&redis), &space).get("a").await, some("source"));
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        one.write("a", "versioned", 3).await;
        assert_eq!(process(Some(&redis), &space).get("a").await, some("versioned"));
        one.caches.drop_keys(&["a"], soon()).await.unwrap();
    }
    assert_eq!(one.counters.l2_undecodable.get(), 6);
}

#[tokio::test]
async fn a_new_generation_empties_l2_for_everybody_within_a_second() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "old", 0).await;
    assert_eq!(two.get("a").await, some("old"));
    let key = Keyspace::new(&space).engine("generation");
    redis.set(&key, b"77", SetOptions::default(), soon()).await.unwrap();
    two.clock.advance(Duration::from_secs(1));
    two.caches.clear_l1();
    assert_eq!(two.get("a").await, None);
    // One that was lost is put back by those who know it.
    two.write("b", "kept", 0).await;
    redis.delete(std::slice::from_ref(&key), soon()).await.unwrap();
    two.clock.advance(Duration::from_secs(1));
    two.caches.clear_l1();
    assert_eq!(two.get("b").await, some("kept"));
    assert_eq!(redis.get(&key, soon()).await.unwrap(), Some(bytes("77")));
}

#[tokio::test]
async fn a_write_detaches_older_loads() {
    let one = process(None, "unused");
    let key: Arc<str> = "a".into();
    let old = one.caches.loader().begin(std::slice::from_ref(&key)).unwrap().mine.pop().unwrap();
    one.write("a", "new", 0).await;
    assert_eq!(
        one.caches.loader().begin(std::slice::from_ref(&key)).unwrap().mine.len(),
        1,
        "nobody joins the old one"
    );
    let other = one.caches.loader().begin(&["b".into()]).unwrap();
    one.caches.drop_keys(&["b"], soon()).await.unwrap();
    assert_eq!(one.caches.loader().begin(&["b".into()]).unwrap().others.len(), 0);
    drop((old, other));
}

#[tokio::test]
async fn without_redis_l1_works_alone() {
    let one = process(None, "unused");
    one.write("a", "1", 0).await;
    assert_eq!(one.get("a").await, some("1"));
    let miss = one.miss("b").await;
    one.fill("b", Some("2"), &miss).await;
    assert_eq!(one.get("b").await, some("2"));
    one.caches.drop_keys(&["a", "b"], soon()).await.unwrap();
    assert_eq!((one.get("a").await, one.get("b").await), (None, None));
    assert!(one.caches.ping(soon()).await.is_none());
}

#[tokio::test]
async fn a_lost_redis_is_a_miss_for_reads_and_an_error_for_writes() {
    let mut server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_millis(500)).await.unwrap();
    let one = process(Some(&redis), "zmsg");
    one.write("a", "old", 1).await;
    server.kill();
    assert_eq!(one.caches.peek("a"), some("old"));
    let error = one.caches.write("a", bytes("new"), None, 2, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache);
    assert_eq!(one.caches.peek("a"), None, "gone, as Redis may have it or not");
    let miss = one.miss("a").await;
    assert_eq!(miss.error.as_ref().map(|error| error.kind()), Some(ErrorKind::Cache));
    one.fill("a", Some("new"), &miss).await;
    assert_eq!(one.caches.peek("a"), some("new"), "L1 goes on");
    assert!(one.caches.drop_keys(&["a"], soon()).await.is_err());
    assert_eq!(one.caches.peek("a"), None);
    assert_eq!(one.counters.l2_errors.get(), 3);

    server.restart().await;
    one.clock.advance(Duration::from_secs(1));
    one.write("a", "back", 3).await;
    assert_eq!(process(Some(&redis), "zmsg").get("a").await, some("back"));
}

#[tokio::test]
async fn a_write_whose_caller_goes_away_leaves_nothing_old() {
    let server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_secs(5)).await.unwrap();
    let one = process(Some(&redis), "zmsg");
    one.write("a", "old", 0).await;
    server.signal("-STOP");
    let key: Arc<str> = "a".into();
    let load = one.caches.loader().begin(std::slice::from_ref(&key)).unwrap();
    {
        let mut write = std::pin::pin!(one.caches.write("a", bytes("new"), None, 0, soon()));
        let pending = std::future::poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_pending()));
        assert!(pending.await);
        assert_eq!(one.caches.peek("a"), some("old"), "not acknowledged yet");
    }
    assert_eq!(one.caches.peek("a"), None);
    assert_eq!(one.caches.loader().begin(std::slice::from_ref(&key)).unwrap().mine.len(), 1);
    drop(load);
    server.signal("-CONT");
}
