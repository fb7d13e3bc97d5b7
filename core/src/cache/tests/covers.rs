//! Transactions that commit later than they were accepted: what is kept out around their COMMIT, and what stays.

use super::*;
use crate::cache::Covered;

const LONG: Duration = Duration::from_secs(60);

impl Process {
    pub(super) async fn cover(&self, key: &str, stays: Stays, life: Duration) -> Covered {
        let mut covered = self.caches.new_cover();
        self.caches.cover(&mut covered, &[(key.into(), stays)], life, soon()).await.unwrap();
        covered
    }

    /// The transaction has committed.
    pub(super) async fn uncover(&self, covered: &Covered, key: &str, stays: Stays) {
        let change = self.caches.begin(&[key]);
        self.caches.drop_unless(change, stays, Some(covered), soon()).await.unwrap();
    }

    /// A load that began before whatever comes next, and ends now.
    async fn load(&self, key: &str, row: &'static str) {
        if let Lookup::Miss(miss) = self.caches.admit(&key.into(), self.miss(key).await, soon()).await {
            self.fill(key, Some(row), &miss).await;
        }
    }
}

#[tokio::test]
async fn around_a_commit_nobody_finds_or_keeps_what_is_older() {
    for redis in [Some(connect().await), None] {
        let space = namespace();
        let one = process(redis.as_ref(), &space);
        one.write("a", "old").await;
        let covered = one.cover("a", Stays::Since(1), LONG).await;
        assert_eq!((one.caches.peek("a"), one.get("a").await), (None, None));
        // It reads the row before the COMMIT, and keeps nothing, be it here or for others.
        one.load("a", "old row").await;
        assert_eq!((one.caches.peek("a"), one.get("a").await), (None, None));
        one.uncover(&covered, "a", Stays::Since(1)).await;
        assert_eq!(one.get("a").await, None);
        drop(covered);
        one.load("a", "new row").await;
        assert_eq!(one.get("a").await, some("new row"));
    }
}

#[tokio::test]
async fn the_value_of_the_write_and_later_accepted_ones_stay_readable_all_the_time() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    one.accept("a", "own", 5).await;
    one.write("b", "own").await;
    let own = Stays::Digest(crate::cache::digest(b"own"));
    for (key, stays) in [("a", Stays::Since(5)), ("a", Stays::Since(4)), ("b", own)] {
        let covered = one.cover(key, stays, LONG).await;
        assert_eq!((one.caches.peek(key), two.get(key).await), (some("own"), some("own")));
        one.uncover(&covered, key, stays).await;
        assert_eq!((one.caches.peek(key), two.get(key).await), (some("own"), some("own")));
    }
    let covered = one.cover("a", Stays::Since(6), LONG).await;
    assert_eq!(process(Some(&redis), &space).get("a").await, None, "of an earlier one");
    one.uncover(&covered, "a", Stays::Since(6)).await;
}

#[tokio::test]
async fn a_cover_gives_way_to_values_that_came_later() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let reads = async || process(Some(&redis), &space).get("a").await;
    one.write("a", "old").await;
    let covered = one.cover("a", Stays::Since(5), LONG).await;
    two.accept("a", "later", 6).await;
    assert_eq!(reads().await, some("later"));
    one.uncover(&covered, "a", Stays::Since(5)).await;
    assert_eq!(reads().await, some("later"));
    // One that no transaction writes is readable, and gone after the COMMIT, as nobody knows which of the two came last.
    let covered = one.cover("a", Stays::Since(7), LONG).await;
    two.write("a", "put").await;
    assert_eq!(reads().await, some("put"));
    one.uncover(&covered, "a", Stays::Since(7)).await;
    assert_eq!(reads().await, None);
    // A writer's fence does not give way, whether it came first or last.
    for fence_first in [true, false] {
        let early = if fence_first { Some(two.fence("a", LONG).await) } else { None };
        let covered = one.cover("a", Stays::Since(9), LONG).await;
        let fence = match early {
            Some(fence) => fence,
            None => two.fence("a", LONG).await,
        };
        two.accept("a", "accepted", 9).await;
        assert_eq!(reads().await, None);
        one.uncover(&covered, "a", Stays::Since(9)).await;
        assert_eq!(reads().await, None);
        two.leave(&fence, "a", "written").await;
        assert_eq!(reads().await, None, "of two that overlap neither leaves its value");
    }
}

#[tokio::test]
async fn a_transaction_that_left_nothing_gives_back_what_was_there() {
    for redis in [Some(connect().await), None] {
        let space = namespace();
        let one = process(redis.as_ref(), &space);
        one.write("a", "old").await;
        let covered = one.cover("a", Stays::Nothing, LONG).await;
        assert_eq!(one.get("a").await, None);
        one.caches.lift_all(covered.token(), covered.keys(), soon()).await.unwrap();
        drop(covered);
        // Alone, this process has let go of it.
        assert_eq!(one.get("a").await, redis.as_ref().and_then(|_| some("old")));
        one.load("b", "row").await;
        assert_eq!(one.get("b").await, some("row"));
    }
}

#[tokio::test]
async fn two_covers_of_a_key_end_one_by_one_and_that_of_the_dead_by_itself() {
    let (redis, space) = (connect().await, namespace());
    let (one, two) = (process(Some(&redis), &space), process(Some(&redis), &space));
    let (first, second) =
        (one.cover("a", Stays::Nothing, LONG).await, two.cover("a", Stays::Nothing, LONG).await);
    one.uncover(&first, "a", Stays::Nothing).await;
    drop(first);
    one.load("a", "before the second").await;
    assert_eq!(process(Some(&redis), &space).get("a").await, None, "the second is still under way");
    two.uncover(&second, "a", Stays::Nothing).await;
    drop(second);
    one.load("a", "row").await;
    assert_eq!(process(Some(&redis), &space).get("a").await, some("row"));
    // Its process ended before it could tell.
    drop(two.cover("a", Stays::Nothing, Duration::from_millis(200)).await);
    assert_eq!(process(Some(&redis), &space).get("a").await, None);
    let again = process(Some(&redis), &space);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(again.get("a").await, None, "nothing old comes back");
    again.load("a", "new row").await;
    assert_eq!(process(Some(&redis), &space).get("a").await, some("new row"));
}

#[tokio::test]
async fn alone_in_memory_a_cover_gives_way_as_well() {
    let one = process(None, "unused");
    one.write("a", "old").await;
    let covered = one.cover("a", Stays::Nothing, LONG).await;
    // Accepted while the flush commits.
    one.write("a", "later").await;
    assert_eq!(one.get("a").await, some("later"));
    one.load("b", "row").await;
    assert_eq!(one.get("b").await, some("row"), "another key");
    let later = Stays::Digest(crate::cache::digest(b"later"));
    one.uncover(&covered, "a", later).await;
    drop(covered);
    assert_eq!(one.get("a").await, some("later"));
}

#[tokio::test]
async fn a_load_that_began_before_the_commit_replaces_no_value_that_stays() {
    let (redis, space) = (connect().await, namespace());
    let rules = LifeRules { default_ttl: Ttl::For(Duration::from_secs(2)), refresh_ahead: 0.9, ..NOTHING };
    let (one, two) = (
        process_with(rules, "database", Some(&redis), &space),
        process_with(rules, "database", Some(&redis), &space),
    );
    one.accept("a", "accepted", 5).await;
    let covered = one.cover("a", Stays::Since(5), LONG).await;
    // A reader finds the value near its end, and asks the source before the COMMIT.
    let ahead = loop {
        two.clock.advance(Duration::from_millis(50));
        match two.caches.get_shared(&"a".into(), soon()).await {
            Lookup::Ahead(_, miss) => break miss,
            Lookup::Hit(_) => two.caches.clear_l1(),
            Lookup::Miss(_) => panic!("it has ended"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let Lookup::Miss(lease) = two.caches.ask_once(&"a".into(), &ahead, soon()).await else {
        panic!("nobody else loads it");
    };
    one.uncover(&covered, "a", Stays::Since(5)).await;
    two.fill("a", Some("before the commit"), &lease).await;
    two.caches.clear_l1();
    assert_eq!(two.get("a").await, some("accepted"));
}
