//! Writers, readers and what overlaps: the moves of a key's record, played one by one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::cache::header::HEADER_LEN;
use crate::error::Error;

const LONG: Duration = Duration::from_secs(60);

/// What a process finds in L2 that has nothing in L1. Nobody listens to the bus in these tests.
async fn shared(redis: &Redis, space: &str, key: &str) -> Option<Option<Bytes>> {
    process(Some(redis), space).get(key).await
}

#[tokio::test]
async fn a_lone_writer_leaves_its_value() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    one.write("a", "old").await;
    let fence = one.fence("a", LONG).await;
    assert!(shared(&redis, &space, "a").await.is_none(), "nobody reads what was there");
    one.leave(&fence, "a", "new").await;
    assert_eq!((one.caches.peek("a"), shared(&redis, &space, "a").await), (some("new"), some("new")));
}

#[tokio::test]
async fn a_writer_that_left_nothing_gives_back_what_was_there() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    for ttl in [Ttl::Never, Ttl::For(LONG)] {
        one.try_write("a", bytes("old"), Some(ttl)).await.unwrap();
        let fence = one.fence("a", LONG).await;
        one.lift(&fence, "a").await;
        assert_eq!(shared(&redis, &space, "a").await, some("old"), "{ttl:?}");
    }
    let fence = one.fence("empty", LONG).await;
    one.lift(&fence, "empty").await;
    assert!(shared(&redis, &space, "empty").await.is_none());
    // It may have ended meanwhile.
    one.try_write("short", bytes("old"), Some(Ttl::For(Duration::from_millis(5)))).await.unwrap();
    let fence = one.fence("short", LONG).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    one.lift(&fence, "short").await;
    assert!(shared(&redis, &space, "short").await.is_none());
}

/// What is put aside is copied at each move of the fence, which holds up everybody who uses that Redis.
#[tokio::test]
async fn a_long_value_is_not_put_aside_and_is_gone_if_the_writer_left_nothing() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let full = Keyspace::new(&space).value("a");
    // Its header counts.
    let longest = 262_144 - HEADER_LEN;
    for (length, kept) in [(longest, true), (longest + 1, false), (16 << 20, false)] {
        let old = Bytes::from(vec![b'x'; length]);
        one.try_write("a", old.clone(), None).await.unwrap();
        let fence = one.fence("a", LONG).await;
        let record = redis.get(&full, soon()).await.unwrap().unwrap().len();
        assert_eq!(record, if kept { length + HEADER_LEN + 52 } else { 39 }, "a value of {length} bytes");
        one.lift(&fence, "a").await;
        assert_eq!(shared(&redis, &space, "a").await, kept.then_some(Some(old)), "a value of {length} bytes");
    }
}

#[tokio::test]
async fn who_reads_around_a_fence_finds_nothing_older_afterwards() {
    let (redis, space) = (connect().await, namespace());
    let (one, reader) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("value", "old").await;
    let miss = one.admit("absence").await;
    one.fill("absence", None, &miss).await;
    for key in ["value", "absence"] {
        let fence = one.fence(key, LONG).await;
        // It finds the row that a process has left meanwhile which cannot reach Redis, and so has no fence.
        let miss = reader.admit(key).await;
        reader.fill(key, Some("newer"), &miss).await;
        one.lift(&fence, key).await;
        assert_eq!(shared(&redis, &space, key).await, None, "what was put aside is older");
    }
    // A writer that committed leaves its value all the same.
    let fence = one.fence("a", LONG).await;
    let miss = reader.admit("a").await;
    reader.fill("a", Some("old row"), &miss).await;
    one.leave(&fence, "a", "new").await;
    assert_eq!(shared(&redis, &space, "a").await, some("new"));
}

#[tokio::test]
async fn who_reads_around_a_fence_looks_into_the_outbox_before_it_answers() {
    let (redis, space) = (connect().await, namespace());
    let (one, reader) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let relaying = Arc::new(process(Some(&redis), &space));
    let looks = Arc::new(AtomicU64::new(0));
    reader.caches.before_listening(Arc::new({
        let (relaying, looks) = (relaying.clone(), looks.clone());
        move |_| {
            let (relaying, looks) = (relaying.clone(), looks.clone());
            // What a process has left there that cannot reach Redis.
            Box::pin(async move {
                looks.fetch_add(1, Ordering::SeqCst);
                relaying.drop_keys(&["a", "b"]).await
            })
        }
    }));
    let miss = reader.admit("c").await;
    reader.fill("c", Some("row"), &miss).await;
    assert_eq!(looks.load(Ordering::SeqCst), 0, "it had the right to fill");

    // The fence was there before it read.
    let fence = one.fence("a", LONG).await;
    let miss = reader.admit("a").await;
    reader.fill("a", Some("newer"), &miss).await;
    one.leave(&fence, "a", "older").await;
    assert_eq!((looks.load(Ordering::SeqCst), shared(&redis, &space, "a").await), (1, None));

    // It came while it read.
    let miss = reader.admit("b").await;
    let fence = one.fence("b", LONG).await;
    reader.fill("b", Some("newer"), &miss).await;
    one.leave(&fence, "b", "older").await;
    assert_eq!((looks.load(Ordering::SeqCst), shared(&redis, &space, "b").await), (2, None));
    assert_eq!(reader.get("b").await, None);
}

#[tokio::test]
async fn what_redis_said_before_a_read_that_it_did_not_answer_is_not_kept() {
    let (redis, space) = (connect().await, namespace());
    let (one, reader) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "old").await;
    let key: Arc<str> = "a".into();
    // Its answer is on the way.
    let epoch = reader.caches.epochs.epoch(&key);
    let failed = || {
        let lost = Error::new(ErrorKind::Cache, "lost");
        match reader.caches.failed(reader.caches.epochs.epoch(&key), lost) {
            Lookup::Miss(miss) => miss,
            hit => panic!("a hit: {hit:?}"),
        }
    };
    let (miss, later) = (failed(), failed());
    reader.fill("a", Some("new"), &miss).await;
    assert_eq!(reader.caches.peek("a"), some("new"));
    let l2 = reader.caches.l2.as_ref().unwrap();
    let answer = l2.get("a", soon()).await.unwrap();
    assert_eq!(hit(reader.caches.take_in(&key, answer, epoch)), some("old"), "it began before");
    assert_eq!(reader.caches.peek("a"), some("new"));
    // Of two that went to the source at one time nobody knows which is the newer one.
    reader.fill("a", Some("newer"), &later).await;
    assert_eq!(reader.caches.peek("a"), None);
}

#[tokio::test]
async fn of_writers_that_overlap_none_leaves_a_value_unless_the_others_left_nothing() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "old").await;
    let (first, second) = (one.fence("a", LONG).await, two.fence("a", LONG).await);
    one.leave(&first, "a", "first").await;
    assert!(shared(&redis, &space, "a").await.is_none(), "one is still under way");
    two.leave(&second, "a", "second").await;
    assert!(shared(&redis, &space, "a").await.is_none());

    one.write("b", "old").await;
    let (first, second) = (one.fence("b", LONG).await, two.fence("b", LONG).await);
    one.lift(&first, "b").await;
    assert!(shared(&redis, &space, "b").await.is_none());
    two.leave(&second, "b", "second").await;
    assert_eq!(shared(&redis, &space, "b").await, some("second"));

    one.write("c", "old").await;
    let (first, second) = (one.fence("c", LONG).await, two.fence("c", LONG).await);
    one.leave(&first, "c", "first").await;
    two.lift(&second, "c").await;
    assert!(
        shared(&redis, &space, "c").await.is_none(),
        "what was there before is older than the first one's"
    );
}

#[tokio::test]
async fn what_happens_beside_a_writer_keeps_its_value_out() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    for aborted in [false, true] {
        for what in ["put", "drop", "accept"] {
            one.write("a", "old").await;
            let fence = one.fence("a", LONG).await;
            match what {
                "put" => two.write("a", "put").await,
                "drop" => two.drop_keys(&["a"]).await.unwrap(),
                _ => two.accept("a", "accepted", 7).await,
            }
            assert!(shared(&redis, &space, "a").await.is_none(), "{what} does not end the fence");
            if aborted {
                one.lift(&fence, "a").await;
            } else {
                one.leave(&fence, "a", "new").await;
            }
            assert!(shared(&redis, &space, "a").await.is_none(), "{what} {aborted}");
        }
    }
}

/// RELIABILITY: W1's fence expires, W2 fences, W1 unfences; a reader fills; W2 commits and dies.
#[tokio::test]
async fn a_writer_that_comes_too_late_ends_no_fence_but_its_own() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "old").await;
    let first = one.fence("a", Duration::from_millis(20)).await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    let _second = two.fence("a", Duration::from_millis(300)).await;
    one.leave(&first, "a", "first").await;
    // The second is still under way: what a reader loads now is not kept.
    let miss = one.admit("a").await;
    one.fill("a", Some("old row"), &miss).await;
    assert!(shared(&redis, &space, "a").await.is_none());
    assert_eq!(one.counters.fills_refused.get(), 1);
    // It committed and died: its fence ends by itself, and nothing old is there.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let miss = one.admit("a").await;
    one.fill("a", Some("second's row"), &miss).await;
    assert_eq!(shared(&redis, &space, "a").await, some("second's row"));
}

/// RELIABILITY: W1 killed with its token in; W2 and W3 overlap.
#[tokio::test]
async fn a_killed_writer_keeps_the_values_of_those_beside_it_out() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "old").await;
    let _killed = one.fence("a", Duration::from_millis(30)).await;
    let (second, third) = (one.fence("a", LONG).await, two.fence("a", LONG).await);
    tokio::time::sleep(Duration::from_millis(60)).await;
    two.leave(&third, "a", "third").await;
    one.leave(&second, "a", "second").await;
    assert!(shared(&redis, &space, "a").await.is_none());
    // The next one is alone again.
    let fence = one.fence("a", LONG).await;
    one.leave(&fence, "a", "next").await;
    assert_eq!(shared(&redis, &space, "a").await, some("next"));
}

#[tokio::test]
async fn a_lone_writer_that_was_killed_leaves_nothing_old() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.write("a", "old").await;
    let _killed = one.fence("a", Duration::from_millis(30)).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(shared(&redis, &space, "a").await.is_none());
    let miss = two.admit("a").await;
    two.fill("a", Some("row"), &miss).await;
    assert_eq!(shared(&redis, &space, "a").await, some("row"));
}

/// RELIABILITY: a slow loader against a write.
#[tokio::test]
async fn a_slow_reader_puts_nothing_old_back() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    for what in ["fence", "put", "drop", "accept"] {
        let miss = one.admit(what).await;
        match what {
            "fence" => {
                let fence = two.fence(what, LONG).await;
                two.leave(&fence, what, "new").await;
            }
            "put" => two.write(what, "new").await,
            "drop" => two.drop_keys(&[what]).await.unwrap(),
            _ => two.accept(what, "new", 3).await,
        }
        one.fill(what, Some("old"), &miss).await;
        let there = (what != "drop").then(|| some("new")).flatten();
        assert_eq!(shared(&redis, &space, what).await, there, "{what}");
        assert_eq!(shared(&redis, &space, what).await, there, "{what}");
    }
    assert_eq!(one.counters.fills_refused.get(), 4);
}

#[tokio::test]
async fn one_process_loads_and_the_others_find_it() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    for data in [Some("row"), None] {
        let key = data.unwrap_or("absent");
        let leader = one.admit(key).await;
        let (arc, seen) = (Arc::<str>::from(key), two.miss(key).await);
        let waiting = two.caches.admit(&arc, seen, soon());
        let filling = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            one.fill(key, data, &leader).await;
        };
        let (found, ()) = futures_util::future::join(waiting, filling).await;
        assert_eq!(hit(found), Some(data.map(bytes)));
    }
    assert_eq!(two.counters.lease_waits.get(), 2);
}

#[tokio::test]
async fn a_reader_that_gave_up_or_went_away_is_followed_by_the_next() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let leader = one.admit("a").await;
    one.caches.give_up(&leader, soon()).await;
    let next = two.admit("a").await;
    two.fill("a", Some("row"), &next).await;
    assert_eq!(shared(&redis, &space, "a").await, some("row"));

    // The leader went away without a word; its lease of 200 ms ends by itself.
    let _gone = one.admit("b").await;
    let waited = two.admit("b").await;
    let next = two.admit("b").await;
    two.fill("b", Some("row"), &next).await;
    two.fill("b", Some("not kept"), &waited).await;
    assert_eq!(shared(&redis, &space, "b").await, some("row"));
}

#[tokio::test]
async fn a_load_that_takes_long_keeps_its_lease() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    let (key, leader): (Arc<str>, _) = ("a".into(), one.admit("a").await);
    one.caches.holding(&key, &leader, tokio::time::sleep(Duration::from_millis(500))).await;
    one.fill("a", Some("row"), &leader).await;
    assert_eq!(shared(&redis, &space, "a").await, some("row"));
}

#[tokio::test]
async fn of_two_accepted_values_the_later_one_stays() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let big = 1 << 53;
    one.accept("a", "later", big + 1).await;
    two.accept("a", "earlier", big).await;
    assert_eq!((two.caches.peek("a"), shared(&redis, &space, "a").await), (None, some("later")));
    two.write("a", "put").await;
    two.accept("a", "any", 1).await;
    assert_eq!(process(Some(&redis), &space).get("a").await, some("any"));
    // After its commit it may stay; what is older may not.
    for (since, stays) in [(1, some("any")), (2, None)] {
        let change = one.caches.begin(&["a"]);
        one.caches.drop_unless(change, Stays::Since(since), None, soon()).await.unwrap();
        assert_eq!(process(Some(&redis), &space).get("a").await, stays);
    }
}

/// What a script reads is written by anybody: no record makes it fail, and a fence that is none is overwritten.
#[tokio::test]
async fn records_of_any_shape_are_survived() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let full = Keyspace::new(&space).value("a");
    let fences: [&[u8]; 5] = [
        b"\xB7\x01\x04",
        b"\xB7\x01\x040000000",
        b"\xB7\x01\x040000029",
        b"\xB7\x01\x04x00002900000000000000009999999999999",
        b"\xB7\x01\x040999999aaaaaaaaaaaaaaaa",
    ];
    for garbage in fences {
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        two.fence("a", LONG).await;
        one.drop_keys(&["a"]).await.unwrap();
        one.write("a", "v").await;
        one.accept("a", "w", 1).await;
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        let fence = one.fence("a", LONG).await;
        one.lift(&fence, "a").await;
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        let change = one.caches.begin(&["a"]);
        one.caches.drop_unless(change, Stays::Since(1), None, soon()).await.unwrap();
        redis.set(&full, garbage, SetOptions::default(), soon()).await.unwrap();
        let covered = one.cover("a", Stays::Since(1), LONG).await;
        one.uncover(&covered, "a", Stays::Since(1)).await;
        redis.delete(std::slice::from_ref(&full), soon()).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_may_keep_nothing_leaves_nothing_older_behind() {
    let (redis, space) = (connect().await, namespace());
    let one = process(Some(&redis), &space);
    // Two loads of one key, as the first was detached; the second is quicker.
    let slow = one.miss("a").await;
    let quick = one.admit("a").await;
    one.fill("a", Some("old"), &quick).await;
    let fence = one.fence("a", LONG).await;
    assert_eq!(one.caches.peek("a"), some("old"), "the transaction is not at its COMMIT");
    let older = one.caches.loader().begin(Whose::Engine, &["a".into()]).unwrap();
    // The slow one asks the source after the COMMIT, of which the caches do not know yet.
    let Lookup::Miss(slow) = one.caches.admit(&"a".into(), slow, soon()).await else {
        panic!("nobody fills while the fence is there");
    };
    one.fill("a", Some("new"), &slow).await;
    assert_eq!(one.caches.peek("a"), None);
    assert_eq!(one.caches.loader().flying(), 0, "an older load is joined by nobody");
    drop(older);
    // A write of this process that ended before in Redis, and whose end is heard of here only now.
    one.lift(&fence, "a").await;
    let (fence, change) = (one.fence("a", LONG).await, one.caches.begin(&["a"]));
    one.fill("a", Some("newer"), &slow).await;
    one.caches.leave_value(&fence, change, NewValue::plain(bytes("new"), None), soon()).await.unwrap();
    assert_eq!(one.caches.peek("a"), None);
}
