//! Both tiers together, against a real Redis; each test in a namespace of its own.

mod covers;
mod fences;
mod replaced;
mod stale;
mod tags;
mod toolbox;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::base::breaker::Breaker;
use crate::base::{Clock, Deadline};
use crate::cache::header::{Content, L2Entry, Span};
use crate::cache::{
    CacheSettings, Caches, Fence, LifeRules, Lookup, Miss, NewValue, SourceLife, Stays, Whose,
};
use crate::config::Ttl;
use crate::error::{ErrorKind, Result};
use crate::redis::testing::{PrivateRedis, SetOptions, connect, namespace};
use crate::redis::{Keyspace, Redis};
use crate::telemetry::Counters;

const MINUTE: Duration = Duration::from_secs(60);
const NOTHING: LifeRules = LifeRules {
    l1_ttl: Duration::ZERO,
    default_ttl: Ttl::Never,
    absent_ttl: Duration::ZERO,
    jitter: 0.0,
    stale_ttl: Duration::ZERO,
    refresh_ahead: 0.0,
};

/// One process of several that share a namespace.
struct Process {
    caches: Caches,
    clock: Clock,
    counters: Arc<Counters>,
}

fn process(redis: Option<&Redis>, space: &str) -> Process {
    process_of("database", redis, space)
}

fn process_of(database: &str, redis: Option<&Redis>, space: &str) -> Process {
    let life =
        LifeRules { l1_ttl: MINUTE, default_ttl: Ttl::For(10 * MINUTE), absent_ttl: MINUTE / 2, ..NOTHING };
    process_with(life, database, redis, space)
}

fn process_with(life: LifeRules, database: &str, redis: Option<&Redis>, space: &str) -> Process {
    let (clock, counters) = (Clock::manual(0), Arc::new(Counters::default()));
    let caches =
        Caches::new(settings_of(space, life), redis.cloned(), never(), clock.clone(), counters.clone());
    caches.belong_to(database);
    caches.trust_forever();
    Process { caches, clock, counters }
}

fn settings_of(space: &str, life: LifeRules) -> CacheSettings {
    CacheSettings {
        namespace: space.to_owned(),
        l1_max_cost: 1 << 20,
        life,
        coherence_bound: Duration::from_secs(2),
        lease_wait: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(2),
    }
}

fn never() -> Breaker {
    Breaker::new(0, Duration::ZERO, Clock::manual(0))
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
        Lookup::Hit(data) | Lookup::Ahead(data, _) => Some(data),
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
            Lookup::Hit(data) | Lookup::Ahead(data, _) => panic!("a hit: {data:?}"),
        }
    }

    async fn write(&self, key: &str, data: &'static str) {
        self.try_write(key, bytes(data), None).await.unwrap();
    }

    async fn try_write(&self, key: &str, data: Bytes, ttl: Option<Ttl>) -> Result<()> {
        self.caches.put(self.caches.begin(&[key]), NewValue::plain(data, ttl), None, soon()).await
    }

    async fn accept(&self, key: &str, data: &'static str, sequence: u64) {
        let change = self.caches.begin(&[key]);
        self.caches.put(change, NewValue::plain(bytes(data), None), Some(sequence), soon()).await.unwrap();
    }

    async fn drop_keys(&self, keys: &[&str]) -> Result<()> {
        self.caches.drop_keys(self.caches.begin(keys), soon()).await
    }

    async fn admit(&self, key: &str) -> Miss {
        match self.caches.admit(&key.into(), self.miss(key).await, soon()).await {
            Lookup::Miss(miss) => miss,
            Lookup::Hit(data) | Lookup::Ahead(data, _) => panic!("a hit: {data:?}"),
        }
    }

    async fn fill(&self, key: &str, data: Option<&'static str>, miss: &Miss) {
        self.caches.fill(&key.into(), data.map(bytes), &SourceLife::default(), miss, soon()).await;
    }

    async fn fence(&self, key: &str, life: Duration) -> Fence {
        let fence = self.caches.new_fence();
        self.caches.put_up(&fence, &[key.into()], life, soon()).await.unwrap();
        fence
    }

    async fn leave(&self, fence: &Fence, key: &str, data: &'static str) {
        let change = self.caches.begin(&[key]);
        self.caches.leave_value(fence, change, NewValue::plain(bytes(data), None), soon()).await.unwrap();
    }

    async fn lift(&self, fence: &Fence, key: &str) {
        self.caches.lift(fence, &[key.into()], soon()).await;
    }
}

#[tokio::test]
async fn a_write_is_read_by_every_process() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("feed_1", "hello").await;
    assert_eq!(one.caches.peek("feed_1"), some("hello"));
    assert_eq!(two.caches.peek("feed_1"), None);
    assert_eq!(two.get("feed_1").await, some("hello"));
    assert_eq!(two.caches.peek("feed_1"), some("hello"), "it entered L1");
    assert_eq!((two.counters.l2_hits.get(), two.counters.l1_hits.get()), (1, 1));

    one.drop_keys(&["feed_1"]).await.unwrap();
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
        one.try_write(key, data, Some(Ttl::Never)).await.unwrap();
    }
    let arcs: Vec<Arc<str>> = keys.iter().map(|&key| key.into()).collect();
    let found = two.caches.get_many(&arcs, soon()).await;
    for (n, found) in found.into_iter().enumerate() {
        assert_eq!(hit(found), Some(Some(Bytes::from(vec![n as u8; n]))), "{:?}", keys[n]);
    }
    two.drop_keys(&keys).await.unwrap();
}

#[tokio::test]
async fn get_many_asks_l2_for_what_l1_lacks() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "1").await;
    one.write("b", "2").await;
    two.write("c", "3").await;
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
    let miss = one.admit("a").await;
    one.fill("a", None, &miss).await;
    assert_eq!(one.caches.peek("a"), Some(None));
    assert_eq!(two.get("a").await, Some(None));
    assert_eq!((one.counters.absent_hits.get(), two.counters.absent_hits.get()), (1, 1));
    one.write("a", "now").await;
    assert_eq!(one.get("a").await, some("now"));
}

#[tokio::test]
async fn an_l2_hit_stays_in_l1_no_longer_than_it_has_left() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.try_write("short", bytes("x"), Some(Ttl::For(Duration::from_secs(20)))).await.unwrap();
    one.try_write("long", bytes("x"), Some(Ttl::Never)).await.unwrap();
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
    let miss = one.admit("a").await;
    one.write("a", "new").await;
    one.fill("a", Some("old"), &miss).await;
    assert_eq!(one.get("a").await, some("new"));

    let miss = one.admit("b").await;
    one.drop_keys(&["b"]).await.unwrap();
    one.fill("b", Some("old"), &miss).await;
    assert_eq!(one.get("b").await, None);
    assert_eq!(one.counters.fills_refused.get(), 2);
}

#[tokio::test]
async fn a_fill_never_replaces_another_process_write() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let miss = one.admit("a").await;
    two.write("a", "new").await;
    one.fill("a", Some("old"), &miss).await;
    assert_eq!(one.caches.peek("a"), None);
    assert_eq!(one.get("a").await, some("new"));
}

#[tokio::test]
async fn garbage_in_redis_is_a_miss_and_makes_room() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let full = Keyspace::new(&space).value("a");
    one.write("b", "other").await;
    let content = Content::Value(bytes("foreign"));
    let foreign =
        L2Entry { generation: 1, sequence: 9, expiry_ms: 0, span: Span::default(), marked_ms: 0, content }
            .encode()
            .unwrap();
    for garbage in [&b""[..], b"{\"json\": true}", &[0xB7, 1, 1, 0, 0], &foreign] {
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        let keys = ["a".into(), "b".into()];
        let found: Vec<_> = one.caches.get_many_shared(&keys, soon()).await.into_iter().map(hit).collect();
        assert_eq!(found, [None, some("other")]);
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        let miss = one.admit("a").await;
        one.fill("a", Some("source"), &miss).await;
        assert_eq!(process(Some(&redis), &space).get("a").await, some("source"));
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        one.write("a", "versioned").await;
        assert_eq!(process(Some(&redis), &space).get("a").await, some("versioned"));
        one.drop_keys(&["a"]).await.unwrap();
    }
    assert_eq!(one.counters.l2_undecodable.get(), 6);
}

#[tokio::test]
async fn a_new_generation_empties_l2_for_everybody_within_a_second() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "old").await;
    assert_eq!(two.get("a").await, some("old"));
    let key = Keyspace::new(&space).engine("generation:database");
    redis.delete(std::slice::from_ref(&key), soon()).await.unwrap();
    two.clock.advance(Duration::from_secs(1));
    two.caches.clear_l1();
    assert_eq!(two.get("a").await, None, "found out beside the read");
    two.write("b", "new").await;
    // One process makes it, the others take it over.
    one.clock.advance(Duration::from_secs(1));
    assert_eq!(one.get("b").await, some("new"));
    let read = redis.get(&key, soon()).await.unwrap();
    one.clock.advance(Duration::from_secs(1));
    one.write("c", "new").await;
    assert_eq!(redis.get(&key, soon()).await.unwrap(), read);
    assert_eq!(two.get("c").await, some("new"));
}

#[tokio::test]
async fn what_another_run_of_the_server_holds_is_a_miss() {
    let mut server = PrivateRedis::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let redis = server.connect(Duration::from_millis(500)).await.unwrap();
    let one = process(Some(&redis), "zmsg");
    one.write("a", "old").await;
    server.kill();
    server.restart().await;
    let full = Keyspace::new("zmsg").value("a");
    // It answers with an error while it loads what it had.
    let deadline = soon();
    while redis.get(&full, deadline).await.ok().flatten().is_none() {
        assert!(!deadline.passed(), "it lost what it had");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let two = process(Some(&redis), "zmsg");
    assert_eq!(two.get("a").await, None);
}

#[tokio::test]
async fn a_write_detaches_older_loads() {
    let one = process(None, "unused");
    let key: Arc<str> = "a".into();
    let old =
        one.caches.loader().begin(Whose::Engine, std::slice::from_ref(&key)).unwrap().mine.pop().unwrap();
    one.write("a", "new").await;
    assert_eq!(
        one.caches.loader().begin(Whose::Engine, std::slice::from_ref(&key)).unwrap().mine.len(),
        1,
        "nobody joins the old one"
    );
    let other = one.caches.loader().begin(Whose::Engine, &["b".into()]).unwrap();
    one.drop_keys(&["b"]).await.unwrap();
    assert_eq!(one.caches.loader().begin(Whose::Engine, &["b".into()]).unwrap().others.len(), 0);
    drop((old, other));
}

#[tokio::test]
async fn without_redis_l1_works_alone() {
    let one = process(None, "unused");
    one.write("a", "1").await;
    assert_eq!(one.get("a").await, some("1"));
    let miss = one.admit("b").await;
    one.fill("b", Some("2"), &miss).await;
    assert_eq!(one.get("b").await, some("2"));
    one.drop_keys(&["a", "b"]).await.unwrap();
    assert_eq!((one.get("a").await, one.get("b").await), (None, None));
    assert!(one.caches.ping(soon()).await.is_none());
}

#[tokio::test]
async fn a_lost_redis_is_a_miss_for_reads_and_an_error_for_writes() {
    let mut server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_millis(500)).await.unwrap();
    let one = process(Some(&redis), "zmsg");
    one.write("a", "old").await;
    server.kill();
    assert_eq!(one.caches.peek("a"), some("old"));
    let error = one.try_write("a", bytes("new"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache);
    assert_eq!(one.caches.peek("a"), None, "gone, as Redis may have it or not");
    let miss = one.admit("a").await;
    assert_eq!(miss.error.as_ref().map(|error| error.kind()), Some(ErrorKind::Cache));
    one.fill("a", Some("new"), &miss).await;
    assert_eq!(one.caches.peek("a"), some("new"), "L1 goes on");
    assert!(one.drop_keys(&["a"]).await.is_err());
    assert_eq!(one.caches.peek("a"), None);
    assert_eq!(one.counters.l2_errors.get(), 3);

    server.restart().await;
    one.clock.advance(Duration::from_secs(1));
    one.write("a", "back").await;
    assert_eq!(process(Some(&redis), "zmsg").get("a").await, some("back"));
}

#[tokio::test]
async fn a_write_whose_caller_goes_away_leaves_nothing_old() {
    let server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_secs(5)).await.unwrap();
    let one = process(Some(&redis), "zmsg");
    one.write("a", "old").await;
    server.signal("-STOP");
    let key: Arc<str> = "a".into();
    let load = one.caches.loader().begin(Whose::Engine, std::slice::from_ref(&key)).unwrap();
    {
        let mut write = std::pin::pin!(one.try_write("a", bytes("new"), None));
        let pending = std::future::poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_pending()));
        assert!(pending.await);
        assert_eq!(one.caches.peek("a"), some("old"), "not acknowledged yet");
    }
    assert_eq!(one.caches.peek("a"), None);
    assert_eq!(one.caches.loader().begin(Whose::Engine, std::slice::from_ref(&key)).unwrap().mine.len(), 1);
    drop(load);
    server.signal("-CONT");
}

#[tokio::test]
async fn a_change_that_was_called_off_leaves_everything_as_it_was() {
    let one = process(None, "unused");
    one.write("a", "old").await;
    one.caches.begin(&["a"]).call_off();
    assert_eq!(one.caches.peek("a"), some("old"));
    one.write("a", "new").await;
    assert_eq!(one.caches.peek("a"), some("new"), "nothing overlaps any more");
}

#[tokio::test]
async fn entries_of_another_database_are_misses() {
    let (redis, space) = (connect().await, namespace());
    process_of("dropped", Some(&redis), &space).write("a", "of another time").await;
    let one = process_of("made anew", Some(&redis), &space);
    let miss = one.admit("a").await;
    one.fill("a", Some("row"), &miss).await;
    assert_eq!(process_of("made anew", Some(&redis), &space).get("a").await, some("row"));
    one.write("a", "first").await;
    assert_eq!(process_of("made anew", Some(&redis), &space).get("a").await, some("first"));
}

#[tokio::test]
async fn before_the_database_is_known_l2_is_as_if_away() {
    let (redis, space) = (connect().await, namespace());
    let known = process(Some(&redis), &space);
    known.write("a", "v").await;
    let one = process(Some(&redis), &space);
    let (clock, counters) = (Clock::manual(0), Arc::new(Counters::default()));
    let settings = settings_of(&space, one.caches.life);
    let early = Process {
        caches: Caches::new(settings, Some(redis), never(), clock.clone(), counters.clone()),
        clock,
        counters,
    };
    let miss = early.miss("a").await;
    assert_eq!(miss.error.as_ref().map(|error| error.kind()), Some(ErrorKind::Cache));
    assert!(early.try_write("a", bytes("w"), None).await.is_err());
    early.caches.belong_to("database");
    early.caches.trust_forever();
    assert_eq!(early.get("a").await, some("v"));
}

#[tokio::test]
async fn what_a_later_release_wrote_is_left_alone_by_reads_and_ends_with_a_write() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let full = Keyspace::new(&space).value("a");
    let mut later = [7; 60];
    later[..2].copy_from_slice(&[0xB7, 2]);
    redis.set(&full, &later, SetOptions::default(), soon()).await.unwrap();
    let miss = one.admit("a").await;
    one.fill("a", Some("row"), &miss).await;
    assert_eq!(redis.get(&full, soon()).await.unwrap(), Some(Bytes::copy_from_slice(&later)));
    one.write("a", "new").await;
    assert_eq!(one.get("a").await, some("new"));
    assert_eq!(one.counters.l2_undecodable.get(), 0);
}

#[tokio::test]
async fn a_write_carries_no_room_for_what_hardly_ever_happens() {
    let one = process(None, "unused");
    let put = one.caches.put(one.caches.begin(&["a"]), NewValue::plain(bytes("v"), None), None, soon());
    let size = size_of_val(&put);
    put.await.unwrap();
    assert!(size <= 3_072, "it is moved and allocated by every write: {size} bytes");
}
