//! The last good value and the mark of who loads it anew, move by move.

use super::*;
use crate::cache::admit::Permit;

const SHORT: Duration = Duration::from_millis(5);

/// Values live for a moment, and are kept for a minute.
const RULES: LifeRules = LifeRules {
    l1_ttl: MINUTE,
    default_ttl: Ttl::For(SHORT),
    stale_ttl: MINUTE,
    absent_ttl: SHORT,
    ..NOTHING
};

fn keeping(redis: Option<&Redis>, space: &str) -> Process {
    process_with(RULES, "database", redis, space)
}

impl Process {
    async fn last_good(&self, key: &str) -> Option<Option<Bytes>> {
        Box::pin(self.caches.last_good(&key.into(), &SourceLife::default(), soon())).await
    }

    /// A process that has a value which is not fresh any more.
    async fn write_and_wait(&self, key: &str, data: &'static str) {
        self.write(key, data).await;
        tokio::time::sleep(SHORT * 2).await;
        self.clock.advance(SHORT * 2);
    }

    /// A read's duty to load.
    async fn lease(&self, key: &str) -> Miss {
        self.caches.clear_l1();
        let miss = Box::pin(self.admit(key)).await;
        assert!(matches!(miss.permit, Permit::Lease(_)), "{miss:?}");
        miss
    }
}

#[tokio::test]
async fn a_value_past_its_life_is_a_miss_that_can_still_be_served_from_any_process() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (keeping(Some(&redis), &space), keeping(Some(&redis), &space));
    one.write_and_wait("a", "old").await;
    assert_eq!((one.get("a").await, two.get("a").await), (None, None));
    // Also while somebody loads it.
    let _loads = one.lease("a").await;
    assert_eq!(two.last_good("a").await, some("old"));
    assert_eq!(two.counters.stale_served.get(), 1);
    assert_eq!(two.caches.peek("a"), some("old"), "for a moment no read asks again");
    two.clock.advance(Duration::from_secs(1));
    assert_eq!(two.caches.peek("a"), None);
    let none = SourceLife { stale_ttl: Some(Duration::ZERO), ..SourceLife::default() };
    assert_eq!(two.caches.last_good(&"a".into(), &none, soon()).await, None, "the source does not want it");
    let brief = SourceLife { stale_ttl: Some(Duration::from_millis(1)), ..SourceLife::default() };
    assert_eq!(two.caches.last_good(&"a".into(), &brief, soon()).await, None, "it is older than that");
}

#[tokio::test]
async fn what_was_dropped_fenced_or_overwritten_is_never_served() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (keeping(Some(&redis), &space), keeping(Some(&redis), &space));
    one.write_and_wait("a", "old").await;
    let fence = two.fence("a", MINUTE).await;
    assert_eq!(one.last_good("a").await, None, "a writer is under way");
    two.lift(&fence, "a").await;
    assert_eq!(one.last_good("a").await, some("old"), "it left nothing: the whole life is there again");
    one.caches.clear_l1();
    two.drop_keys(&["a"]).await.unwrap();
    assert_eq!(one.last_good("a").await, None);

    one.write_and_wait("b", "old").await;
    let fence = two.fence("b", MINUTE).await;
    two.leave(&fence, "b", "new").await;
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(one.last_good("b").await, some("new"), "what is in L1 does not count where L2 was asked");
}

#[tokio::test]
async fn an_absence_is_never_a_last_good_value() {
    let (redis, space) = (connect().await, namespace());
    let one = keeping(Some(&redis), &space);
    one.write_and_wait("a", "old").await;
    let miss = one.lease("a").await;
    one.fill("a", None, &miss).await;
    assert_eq!(one.last_good("a").await, Some(None), "a fresh one is an answer");
    tokio::time::sleep(SHORT * 2).await;
    one.caches.clear_l1();
    assert_eq!(one.last_good("a").await, None);
    let alone = keeping(None, "unused");
    let miss = alone.admit("a").await;
    alone.fill("a", None, &miss).await;
    alone.clock.advance(SHORT);
    assert_eq!(alone.last_good("a").await, None);
}

#[tokio::test]
async fn one_loads_anew_what_can_still_be_read_and_others_wait_for_it() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (keeping(Some(&redis), &space), keeping(Some(&redis), &space));
    one.write_and_wait("a", "old").await;
    let miss = one.lease("a").await;
    assert!(two.miss("a").await.is_busy());
    one.fill("a", Some("new"), &miss).await;
    assert_eq!(shared(&two, "a").await, some("new"));
}

#[tokio::test]
async fn what_one_gave_back_another_loads() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (keeping(Some(&redis), &space), keeping(Some(&redis), &space));
    one.write_and_wait("a", "old").await;
    let miss = one.lease("a").await;
    one.caches.give_up(&miss, soon()).await;
    let next = two.lease("a").await;
    one.fill("a", Some("late"), &miss).await;
    assert_eq!(shared(&two, "a").await, some("old"), "the mark is another one's");
    two.fill("a", Some("newer"), &next).await;
    assert_eq!(shared(&one, "a").await, some("newer"));
}

/// What a process without anything in L1 has read, or is the last good value by now.
async fn shared(process: &Process, key: &str) -> Option<Option<Bytes>> {
    process.caches.clear_l1();
    process.last_good(key).await
}

#[tokio::test]
async fn a_mark_ends_with_anything_that_happens_to_its_entry() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (keeping(Some(&redis), &space), keeping(Some(&redis), &space));
    for happens in ["put", "drop", "fence", "digest"] {
        one.write_and_wait(happens, "old").await;
        let miss = one.lease(happens).await;
        match happens {
            "put" => two.write(happens, "new").await,
            "drop" => two.drop_keys(&[happens]).await.unwrap(),
            "fence" => {
                let fence = two.fence(happens, MINUTE).await;
                two.lift(&fence, happens).await;
            }
            _ => {
                // The entry itself stays, and is known by its value although a mark is behind it.
                let (change, stays) =
                    (two.caches.begin(&[happens]), Stays::Digest(crate::cache::digest(b"old")));
                two.caches.drop_unless(change, stays, None, soon()).await.unwrap();
            }
        }
        one.fill(happens, Some("loaded"), &miss).await;
        let expected = match happens {
            "put" => some("new"),
            "drop" => None,
            // The load began before the COMMIT that this tells of.
            _ => some("old"),
        };
        assert_eq!(shared(&one, happens).await, expected, "{happens}");
    }
}

#[tokio::test]
async fn without_redis_the_last_good_value_is_that_of_l1_until_a_change_or_its_last_moment() {
    let one = keeping(None, "unused");
    one.write("a", "old").await;
    one.clock.advance(SHORT);
    assert_eq!(one.get("a").await, None);
    assert_eq!(one.last_good("a").await, some("old"));
    one.clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(one.last_good("a").await, some("old"), "being served makes it no younger");
    one.clock.advance(Duration::from_millis(1));
    assert_eq!(one.last_good("a").await, None);
    one.write("a", "new").await;
    one.clock.advance(SHORT);
    one.drop_keys(&["a"]).await.unwrap();
    assert_eq!(one.last_good("a").await, None);
}

#[tokio::test]
async fn a_value_that_ends_soon_is_read_at_once_and_loaded_anew_by_one() {
    let (redis, space) = (connect().await, namespace());
    let rules = LifeRules { default_ttl: Ttl::For(Duration::from_secs(2)), refresh_ahead: 0.9, ..RULES };
    let process = || process_with(rules, "database", Some(&redis), &space);
    let (one, two, reader) = (process(), process(), process());
    one.write("a", "old").await;
    let ahead = async |process: &Process| loop {
        process.caches.clear_l1();
        process.clock.advance(Duration::from_millis(50));
        match process.caches.get(&"a".into(), soon()).await {
            Lookup::Ahead(data, miss) => return (data, miss),
            Lookup::Hit(data) => assert_eq!(data, Some(bytes("old"))),
            Lookup::Miss(_) => panic!("it was not loaded anew in time"),
        }
    };
    let ((data, miss), (_, other)) = (ahead(&one).await, ahead(&two).await);
    assert_eq!(data, Some(bytes("old")));
    let granted = one.caches.ask_once(&"a".into(), &miss, soon()).await;
    let Lookup::Miss(granted) = granted else { panic!("a lease") };
    assert!(granted.may_refresh());
    let refused = two.caches.ask_once(&"a".into(), &other, soon()).await;
    assert!(matches!(refused, Lookup::Miss(miss) if !miss.may_refresh()));
    assert_eq!(reader.get("a").await, some("old"), "it can be read all the time");
    one.fill("a", Some("new"), &granted).await;
    reader.caches.clear_l1();
    assert_eq!(reader.get("a").await, some("new"));
}
