//! Entries that are dropped by a name that they share.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

impl Process {
    async fn tagged(&self, data: &'static str, tags: &[&str]) -> NewValue {
        let names: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
        NewValue {
            tags: self.caches.tags(&names, soon()).await.unwrap(),
            ..NewValue::plain(bytes(data), None)
        }
    }

    async fn put_tagged(&self, key: &str, value: NewValue) {
        self.caches.put(self.caches.begin(&[key]), value, None, soon()).await.unwrap();
    }

    async fn write_tagged(&self, key: &str, data: &'static str, tags: &[&str]) {
        self.put_tagged(key, self.tagged(data, tags).await).await;
    }

    async fn drop_tag(&self, tag: &str) {
        self.caches.drop_tag(tag, soon()).await.unwrap();
    }
}

async fn forget(redis: &Redis, space: &str, tag: &str) {
    assert_eq!(redis.delete(&[Keyspace::new(space).tag(tag)], soon()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_dropped_tag_takes_its_entries_along_and_no_others() {
    let (redis, space) = (connect().await, namespace());
    for one in [process(Some(&redis), &space), process(None, &space)] {
        one.write_tagged("a", "1", &["user:7"]).await;
        one.write_tagged("b", "2", &["user:7", "feed"]).await;
        one.write_tagged("c", "3", &["feed"]).await;
        one.write("d", "4").await;
        assert_eq!((one.get("a").await, one.get("b").await), (some("1"), some("2")));
        one.drop_tag("user:7").await;
        assert_eq!((one.caches.peek("a"), one.caches.peek("b")), (None, None));
        assert_eq!((one.get("a").await, one.get("b").await), (None, None));
        assert_eq!((one.get("c").await, one.get("d").await), (some("3"), some("4")));
        one.write_tagged("a", "again", &["user:7"]).await;
        assert_eq!(one.get("a").await, some("again"));
    }
}

#[tokio::test]
async fn another_process_misses_what_it_would_read_from_redis() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    one.write_tagged("a", "1", &["t"]).await;
    assert_eq!(process(Some(&redis), &space).get("a").await, some("1"));
    one.drop_tag("t").await;
    assert_eq!(process(Some(&redis), &space).get("a").await, None);
    // What it knows is from before, and it hears nothing here: a fill from it is a miss for the others, and heals.
    let two = process(Some(&redis), &space);
    one.write_tagged("a", "2", &["t"]).await;
    assert_eq!(two.get("a").await, some("2"));
}

#[tokio::test]
async fn a_write_that_began_before_is_dropped_too() {
    let (redis, space) = (connect().await, namespace());
    for one in [process(Some(&redis), &space), process(None, &space)] {
        let value = one.tagged("old", &["t"]).await;
        one.drop_tag("t").await;
        one.put_tagged("a", value).await;
        assert_eq!((one.caches.peek("a"), one.get("a").await), (None, None));
    }
}

#[tokio::test]
async fn a_write_from_before_the_bus_was_lost_stays_out_of_memory() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let value = one.tagged("1", &["t"]).await;
    one.caches.tags.forget_all();
    one.put_tagged("a", value).await;
    assert_eq!(one.caches.peek("a"), None, "a drop of the tag may have been missed");
    assert_eq!(one.get("a").await, some("1"), "Redis knows better");
    assert_eq!(one.caches.peek("a"), some("1"));
}

#[tokio::test]
async fn a_version_that_redis_gave_up_makes_misses_and_then_heals() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write_tagged("a", "1", &["t"]).await;
    assert_eq!(two.get("a").await, some("1"));
    forget(&redis, &space, "t").await;
    assert_eq!(process(Some(&redis), &space).get("a").await, None, "another version was made");
    // The others still know the old one, and read what has the new one all the same.
    process(Some(&redis), &space).write_tagged("a", "2", &["t"]).await;
    two.caches.clear_l1();
    assert_eq!(two.get("a").await, some("2"));
    one.write_tagged("a", "3", &["t"]).await;
    two.caches.clear_l1();
    assert_eq!(two.get("a").await, some("3"));
}

#[tokio::test]
async fn a_stale_entry_gives_way_to_a_load_an_add_and_a_count() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    for key in ["load", "add", "count"] {
        one.try_write(key, bytes("plain"), None).await.unwrap();
        let value = NewValue { ttl: Some(Ttl::Never), ..one.tagged("5", &["t"]).await };
        one.put_tagged(key, value).await;
    }
    let refused = one.caches.incr(one.caches.begin(&["count"]), 1, None, soon()).await.unwrap_err();
    assert!(refused.message().contains("tags"), "{refused}");
    assert_eq!(one.caches.keys("", soon()).await.unwrap(), ["add", "count", "load"]);
    one.drop_tag("t").await;
    assert!(one.caches.keys("", soon()).await.unwrap().is_empty());
    one.fill("load", Some("filled"), &one.admit("load").await).await;
    let added = NewValue::plain(bytes("added"), None);
    assert!(one.caches.add(one.caches.begin(&["add"]), added, soon()).await.unwrap());
    assert_eq!(one.caches.incr(one.caches.begin(&["count"]), 2, None, soon()).await.unwrap(), 2);
    for (key, data) in [("load", "filled"), ("add", "added"), ("count", "2")] {
        assert_eq!(process(Some(&redis), &space).get(key).await, some(data), "{key}");
    }
}

#[tokio::test]
async fn a_tagged_value_lives_through_fences_touches_and_later_commits() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    one.write_tagged("a", "1", &["t"]).await;
    let fence = one.fence("a", MINUTE).await;
    one.lift(&fence, "a").await;
    assert_eq!(process(Some(&redis), &space).get("a").await, some("1"), "given back");
    assert!(one.caches.touch(one.caches.begin(&["a"]), Some(Ttl::Never), soon()).await.unwrap());
    let kept = Stays::Digest(crate::cache::digest(b"1"));
    one.caches.drop_unless(one.caches.begin(&["a"]), kept, None, soon()).await.unwrap();
    assert_eq!(process(Some(&redis), &space).get("a").await, some("1"), "it is the value of the write");
    let fence = one.fence("a", MINUTE).await;
    let value = one.tagged("2", &["t"]).await;
    one.caches.leave_value(&fence, one.caches.begin(&["a"]), value, soon()).await.unwrap();
    assert_eq!(process(Some(&redis), &space).get("a").await, some("2"));
    // Of two accepted ones the later stays, whichever has tags.
    let change = || one.caches.begin(&["b"]);
    let value = one.tagged("later", &["t"]).await;
    one.caches.put(change(), value, Some(9), soon()).await.unwrap();
    one.caches.put(change(), NewValue::plain(bytes("earlier"), None), Some(8), soon()).await.unwrap();
    assert_eq!(process(Some(&redis), &space).get("b").await, some("later"));
    one.drop_tag("t").await;
    for key in ["a", "b"] {
        assert_eq!(process(Some(&redis), &space).get(key).await, None, "{key}");
    }
}

#[tokio::test]
async fn many_tagged_keys_are_judged_together() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write_tagged("a", "1", &["x", "y"]).await;
    one.write_tagged("b", "2", &["y"]).await;
    one.write("c", "3").await;
    one.drop_tag("x").await;
    let keys: Vec<Arc<str>> = ["a", "b", "c", "d"].map(Arc::from).to_vec();
    let found: Vec<_> = two.caches.get_many(&keys, soon()).await.into_iter().map(hit).collect();
    assert_eq!(found, [None, some("2"), some("3"), None]);
    assert_eq!(two.caches.tags.known(), 2);
}

#[tokio::test]
async fn a_warmed_read_of_a_tagged_entry_is_one_command() {
    let server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_millis(500)).await.unwrap();
    let space = namespace();
    let one = process(Some(&redis), &space);
    one.write_tagged("a", "1", &["x", "y"]).await;
    let processed = async || -> u64 {
        let told = redis.info("stats", "total_commands_processed", MINUTE).await.unwrap();
        told.unwrap().parse().unwrap()
    };
    let before = processed().await;
    for _ in 0..20 {
        one.caches.clear_l1();
        assert_eq!(one.get("a").await, some("1"));
    }
    assert_eq!(processed().await - before, 20 + 1, "and the question itself");
}

/// One writer raises a number under a tag and drops the tag each time; readers fill memory from Redis meanwhile. Once a drop
/// is acknowledged nobody sees what was dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods)]
async fn no_interleaving_of_reads_and_drops_leaves_an_old_value() {
    let (redis, space) = (connect().await, namespace());
    let one = Arc::new(process(Some(&redis), &space));
    let (dropped, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (one, dropped, done) = (one.clone(), dropped.clone(), done.clone());
            tokio::spawn(async move {
                while done.load(Ordering::SeqCst) == 0 {
                    // A hit in memory awaits nothing.
                    tokio::task::yield_now().await;
                    let floor = dropped.load(Ordering::SeqCst);
                    let Some(Some(data)) = one.get("a").await else { continue };
                    let number: u64 = std::str::from_utf8(&data).unwrap().parse().unwrap();
                    assert!(number > floor, "{number} after {floor} was dropped");
                }
            })
        })
        .collect();
    for number in 1..=300_u64 {
        let value = one.tagged("", &["t"]).await;
        one.put_tagged("a", NewValue { data: number.to_string().into(), ..value }).await;
        one.get("a").await;
        one.drop_tag("t").await;
        dropped.store(number, Ordering::SeqCst);
    }
    done.store(1, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}
