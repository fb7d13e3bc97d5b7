//! Add, touch, what is left, count, keys and clear, against a real Redis and without one.

use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::cache::Left;
use crate::cache::header::checksum;
use crate::redis::Script;

impl Process {
    async fn add(&self, key: &str, data: &'static str) -> bool {
        let value = NewValue::plain(bytes(data), None);
        self.caches.add(self.caches.begin(&[key]), value, soon()).await.unwrap()
    }

    async fn touch(&self, key: &str, ttl: Ttl) -> bool {
        self.caches.touch(self.caches.begin(&[key]), Some(ttl), soon()).await.unwrap()
    }

    async fn incr(&self, key: &str, by: i64) -> Result<i64> {
        self.caches.incr(self.caches.begin(&[key]), by, None, soon()).await
    }

    async fn left(&self, key: &str) -> Left {
        self.caches.left(key, soon()).await.unwrap()
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        self.caches.keys(prefix, soon()).await.unwrap()
    }

    async fn absent(&self, key: &str) {
        self.fill(key, None, &self.admit(key).await).await;
        assert_eq!(self.get(key).await, Some(None));
    }
}

/// A process over Redis, and one alone.
async fn both() -> Vec<Process> {
    let (redis, space) = (connect().await, namespace());
    vec![process(Some(&redis), &space), process(None, &space)]
}

fn seconds(left: Left) -> u64 {
    match left {
        Left::For(left) => left.as_secs_f64().round() as u64,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn add_sets_what_is_not_there() {
    for one in both().await {
        assert!(one.add("a", "first").await);
        assert!(!one.add("a", "second").await);
        assert_eq!(one.get("a").await, some("first"));
        one.absent("b").await;
        assert!(one.add("b", "after an absence").await);
        assert_eq!(one.get("b").await, some("after an absence"));
        one.drop_keys(&["a"]).await.unwrap();
        assert!(one.add("a", "third").await);
    }
}

#[tokio::test]
async fn of_many_who_add_one_succeeds() {
    let (redis, space) = (connect().await, namespace());
    let processes: Vec<_> = (0..8).map(|_| process(Some(&redis), &space)).collect();
    let added = join_all(processes.iter().map(|one| one.add("a", "x"))).await;
    assert_eq!(added.into_iter().filter(|added| *added).count(), 1);
}

#[tokio::test]
async fn add_leaves_a_writer_alone_and_ends_a_lease() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let fence = one.fence("a", MINUTE).await;
    assert!(!two.add("a", "added").await);
    one.leave(&fence, "a", "written").await;
    assert_eq!(two.get("a").await, some("written"), "the fence was not dirty");

    let load = one.admit("b").await;
    assert!(two.add("b", "added").await);
    one.fill("b", Some("older"), &load).await;
    assert_eq!(process(Some(&redis), &space).get("b").await, some("added"));
}

#[tokio::test]
async fn touch_moves_the_end_of_what_is_there() {
    for one in both().await {
        assert!(!one.touch("a", Ttl::Never).await);
        one.absent("none").await;
        assert!(!one.touch("none", Ttl::Never).await);
        assert_eq!((one.left("a").await, one.left("none").await), (Left::Nothing, Left::Nothing));
        one.try_write("a", bytes("value"), Some(Ttl::For(MINUTE / 4))).await.unwrap();
        assert_eq!(seconds(one.left("a").await), 15);
        for seconds_to_live in [50, 20] {
            assert!(one.touch("a", Ttl::For(Duration::from_secs(seconds_to_live))).await);
            assert_eq!(seconds(one.left("a").await), seconds_to_live);
            assert_eq!(one.get("a").await, some("value"));
        }
        assert!(one.touch("a", Ttl::Never).await);
        // Alone, a stay in memory is what there is, and that is bounded.
        assert!(one.left("a").await == Left::Forever || !one.caches.has_shared());
        one.clock.advance(10 * MINUTE);
        let there = one.get("a").await;
        assert_eq!(there.is_some(), one.caches.has_shared());
    }
}

#[tokio::test]
async fn a_counter_is_exact_to_the_last_of_64_bits() {
    for one in both().await {
        assert_eq!(one.incr("a", 5).await.unwrap(), 5);
        assert_eq!(one.incr("a", -7).await.unwrap(), -2);
        assert_eq!(one.get("a").await, some("-2"));
        for (start, by) in [(i64::MAX - 1, 1), (i64::MIN + 1, -1), ((1 << 53) + 1, 2), (-(1 << 62) - 1, -2)] {
            one.try_write("n", Bytes::from(start.to_string()), None).await.unwrap();
            assert_eq!(one.incr("n", by).await.unwrap(), start + by);
        }
        for (start, by) in [(i64::MAX, 1), (i64::MIN, -1)] {
            one.try_write("n", Bytes::from(start.to_string()), Some(Ttl::For(MINUTE / 2))).await.unwrap();
            let error = one.incr("n", by).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Task);
            assert!(error.message().contains("64 bits"), "{error}");
            assert_eq!(one.get("n").await, Some(Some(start.to_string().into())), "nothing has changed");
            assert_eq!(seconds(one.left("n").await), 30);
        }
        for other in ["", "x", "1.5", " 1", "+1", "007", "-0", "9223372036854775808", "1\n"] {
            one.try_write("text", bytes(other), None).await.unwrap();
            let error = one.incr("text", 1).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Task, "{other:?}");
            assert!(error.message().contains("\"text\""), "{error}");
            assert_eq!(one.get("text").await, some(other));
        }
        one.absent("none").await;
        assert_eq!(one.incr("none", 1).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_counter_keeps_the_end_that_it_began_with() {
    for one in both().await {
        one.try_write("a", bytes("1"), Some(Ttl::For(MINUTE / 2))).await.unwrap();
        one.incr("a", 1).await.unwrap();
        assert_eq!(seconds(one.left("a").await), 30);
        one.incr("new", 1).await.unwrap();
        let expected = if one.caches.has_shared() { 600 } else { 60 };
        assert_eq!(seconds(one.left("new").await), expected);
    }
}

#[tokio::test]
async fn counts_of_many_processes_add_up() {
    let (redis, space) = (connect().await, namespace());
    let processes: Vec<_> = (0..4).map(|_| process(Some(&redis), &space)).collect();
    let counts = (0..100).map(|n| processes[n % 4].incr("a", 1));
    let mut seen: Vec<i64> = join_all(counts).await.into_iter().map(|sum| sum.unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_counter_that_is_being_written_is_to_be_tried_again() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    one.write("a", "1").await;
    let fence = one.fence("a", MINUTE).await;
    let error = one.incr("a", 1).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Cache, true));
    one.lift(&fence, "a").await;
    assert_eq!(one.incr("a", 1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_counter_ends_a_lease_and_what_is_nobodys() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let load = one.admit("a").await;
    assert_eq!(one.incr("a", 3).await.unwrap(), 3);
    one.fill("a", Some("older"), &load).await;
    assert_eq!(process(Some(&redis), &space).get("a").await, some("3"));
    redis.set(&Keyspace::new(&space).value("b"), b"rubbish", SetOptions::default(), soon()).await.unwrap();
    assert_eq!(one.incr("b", 3).await.unwrap(), 3);
    assert_eq!(one.get("b").await, some("3"));
}

#[tokio::test]
async fn keys_are_those_with_a_value_under_the_very_prefix() {
    let hostile = ["a*", "a*b", "ab", "a[b]c", "a?", "a\\", "a}b", "a\0", "b"];
    for one in both().await {
        for key in hostile {
            one.write(key, "x").await;
        }
        one.absent("a-absent").await;
        let mut sorted = hostile.to_vec();
        sorted.sort_unstable();
        assert_eq!(one.keys("").await, sorted);
        for prefix in ["a", "a*", "a[", "a\\", "a?", "}", "a}", "c"] {
            let expected: Vec<&str> = sorted.iter().copied().filter(|key| key.starts_with(prefix)).collect();
            assert_eq!(one.keys(prefix).await, expected, "{prefix:?}");
        }
        assert_eq!(one.caches.clear("a", soon()).await.unwrap(), if one.caches.has_shared() { 9 } else { 8 });
        assert_eq!(one.keys("").await, if one.caches.has_shared() { vec!["b"] } else { vec![] });
        assert_eq!(one.get("ab").await, None);
    }
}

#[tokio::test]
async fn a_walk_over_many_keys_sees_each_once() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let keys: Vec<String> = (0..2_500).map(|n| format!("key{n:04}")).collect();
    for some in keys.chunks(250) {
        join_all(some.iter().map(|key| one.write(key, "x"))).await;
    }
    assert_eq!(one.keys("key").await, keys);
    assert_eq!(one.caches.clear("key", soon()).await.unwrap(), 2_500);
    assert_eq!(one.keys("key").await, Vec::<String>::new());
}

/// What a script computes as the checksum of a text.
async fn checksum_in_redis(redis: &Redis, script: &Script, text: &[u8]) -> u64 {
    let sum = redis.eval_bytes(script, &["x"], &[text], soon()).await.unwrap();
    u64::from_be_bytes(sum[..].try_into().unwrap())
}

#[test]
fn a_script_computes_the_same_checksum() {
    const TEXT: &str = concat!(include_str!("../scripts/checksum.lua"), "return checksum(ARGV[1])");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (redis, script) = (runtime.block_on(connect()), Script::new(TEXT));
    proptest!(ProptestConfig::with_cases(500), |(text in proptest::collection::vec(any::<u8>(), 0..64))| {
        let theirs = runtime.block_on(checksum_in_redis(&redis, &script, &text));
        prop_assert_eq!(theirs, checksum(&text));
    });
    for text in [vec![0; 32], vec![255; 32]] {
        assert_eq!(runtime.block_on(checksum_in_redis(&redis, &script, &text)), checksum(&text));
    }
}
