//! Points at which a process can be killed by name, so that what a crash leaves behind is tested where it matters.
//!
//! `crash!("flush.after_commit")` marks a point. It is nothing at all unless the feature `crash-points` is on, which it
//! is in this crate's own tests. Then `ZMSG_CRASH=flush.after_commit:3` makes the process send itself SIGKILL when it
//! comes to that point for the third time: no destructor runs, no buffer is written, as with `kill -9`. Every hit is
//! counted, so that a test can say which points it never came to.
//!
//! Invariants: a name that is not in [`CRASH_POINTS`] does not compile, with the feature or without it; each name marks
//! one place (`core/tests/rig/crash_points.rs` reads the sources).

#[cfg(feature = "crash-points")]
pub use armed::hits;
#[cfg(feature = "crash-points")]
pub(crate) use armed::pass;

/// One line of the registry.
#[derive(Debug, Clone, Copy)]
pub struct CrashPoint {
    /// What `ZMSG_CRASH` and `crash!` call it.
    pub name: &'static str,
    /// What has happened by then and what has not.
    #[cfg_attr(not(feature = "crash-points"), expect(dead_code, reason = "only tests read it"))]
    pub what: &'static str,
}

const fn point(name: &'static str, what: &'static str) -> CrashPoint {
    CrashPoint { name, what }
}

/// Every point.
pub const CRASH_POINTS: &[CrashPoint] = &[
    point("journal.before_append", "an operation was accepted and is not in the journal"),
    point("journal.after_append", "an operation is in the journal and was not acknowledged"),
    point("journal.mid_group", "a record with a group of operations is half-way in the journal"),
    point("journal.before_roll", "a segment is full and the next one does not exist"),
    point("flush.before_begin", "a batch is frozen and its transaction has not begun"),
    point("flush.after_watermark", "the watermark is moved in a transaction that has no data yet"),
    point("flush.mid_transaction", "some of the data of a batch were sent"),
    point("flush.after_burial", "the dead letters of a batch were sent and its COMMIT was not"),
    point("flush.before_commit", "everything of a batch was sent but its COMMIT"),
    point("flush.after_commit", "the COMMIT of a batch was answered and the process does not know it yet"),
    point("flush.after_invalidation", "the caches know of a batch and its segments are still there"),
    point("journal.before_retire", "a segment is below the watermark and still there"),
    point("journal.mid_retire", "some of the segments below the watermark are gone"),
    point("adopt.before_apply", "the journal of another process is locked and nothing of it is applied"),
    point("adopt.after_apply", "the journal of another process is applied and still there"),
    point("close.before_finish", "everything is flushed and the journal does not say that it is finished"),
    point("close.after_rename", "the journal is marked as finished and still there"),
    point("queue.before_enqueue", "a delayed write was accepted by its verb and Redis does not know it"),
    point("queue.after_enqueue", "Redis has a delayed write and its caller was not told"),
    point("queue.after_claim", "delayed writes are leased and none of them has begun"),
    point("queue.after_begin", "Redis knows that delayed writes are begun and their transaction is not"),
    point("queue.after_effect", "the statements of delayed writes were sent and their COMMIT was not"),
    point("queue.covered", "nobody reads the keys of delayed writes in Redis and their COMMIT was not sent"),
    point("queue.after_commit", "delayed writes are committed and nobody knows yet"),
    point("bloom.before_publish", "a new generation of a filter is in Redis and nobody knows it"),
    point("bloom.after_publish", "writers add to a generation that has nothing of the rows before"),
    point("bloom.mid_scan", "a page of the keys of a family was read and nothing of it is in Redis"),
    point("bloom.after_merge", "a generation has every key and does not answer yet"),
    point("bloom.after_flip", "a generation answers and the one before is still in Redis"),
    point("queue.before_ack", "the caches know of committed delayed writes and the queue does not"),
    point("write.fenced", "the keys of a write are fenced in Redis and none of its tasks was sent"),
    point("write.before_commit", "the tasks of a write were sent and its COMMIT was not"),
    point("write.after_commit", "a write is committed, and its keys are still fenced"),
    point("write.after_unfence", "the caches know of a committed write and its caller does not"),
    point("read.before_fill", "a reader has the lease of a key and its value, and the caches have not"),
];

/// Where a name is in the registry. For constants: an unknown name ends the compilation.
pub(crate) const fn index(name: &str) -> usize {
    let mut at = 0;
    while at < CRASH_POINTS.len() {
        if same(CRASH_POINTS[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no crash point has this name; CRASH_POINTS in base/crash.rs lists them");
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Marks a crash point.
macro_rules! crash {
    ($name:literal) => {{
        const POINT: usize = $crate::base::crash::index($name);
        #[cfg(feature = "crash-points")]
        $crate::base::crash::pass(POINT);
        #[cfg(not(feature = "crash-points"))]
        let _ = POINT;
    }};
}
pub(crate) use crash;

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::CRASH_POINTS;

    static HITS: [AtomicU64; CRASH_POINTS.len()] = [const { AtomicU64::new(0) }; CRASH_POINTS.len()];

    /// How often this process came to each point.
    pub fn hits() -> Vec<(&'static str, u64)> {
        let counts = HITS.iter().map(|hits| hits.load(Ordering::Relaxed));
        CRASH_POINTS.iter().map(|point| point.name).zip(counts).collect()
    }

    /// Comes to a point.
    pub(crate) fn pass(point: usize) {
        static ARMED: OnceLock<Option<(usize, u64)>> = OnceLock::new();
        let hit = HITS[point].fetch_add(1, Ordering::Relaxed) + 1;
        let armed = ARMED.get_or_init(|| std::env::var("ZMSG_CRASH").ok().map(|text| parse(&text)));
        if *armed == Some((point, hit)) {
            die();
        }
    }

    /// `name:n`. A test that names no point would pass without a crash, so this is an error that cannot be overlooked.
    pub(super) fn parse(text: &str) -> (usize, u64) {
        let parsed = text.rsplit_once(':').and_then(|(name, hit)| {
            let point = CRASH_POINTS.iter().position(|point| point.name == name)?;
            Some((point, hit.parse().ok().filter(|hit| *hit > 0)?))
        });
        parsed.unwrap_or_else(|| {
            panic!("ZMSG_CRASH={text} is not the name of a crash point, a colon and a count")
        })
    }

    fn die() -> ! {
        let sent = kill_process(getpid(), Signal::KILL);
        // Not reached: the signal is there before the call returns.
        panic!("a process can send itself a signal: {sent:?}");
    }
}

#[cfg(all(test, feature = "crash-points"))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn names_are_told_apart_and_their_hits_counted() {
        assert_eq!(CRASH_POINTS[index("flush.after_commit")].name, "flush.after_commit");
        assert!(
            CRASH_POINTS.iter().enumerate().all(|(at, point)| index(point.name) == at),
            "no name is there twice"
        );
        let count = || hits().iter().find(|(name, _)| *name == "close.after_rename").expect("listed").1;
        let before = count();
        crash!("close.after_rename");
        assert!(count() > before);
    }

    #[test]
    fn an_order_that_names_no_point_is_refused() {
        assert_eq!(armed::parse("journal.after_append:7"), (1, 7));
        for wrong in
            ["", "journal.after_append", "journal.after_append:", "journal.after_append:0", "nowhere:1"]
        {
            assert!(std::panic::catch_unwind(|| armed::parse(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_process_dies_at_the_hit_that_was_ordered() {
        for (order, killed) in [("journal.mid_group:3", true), ("journal.mid_group:4", false)] {
            let status = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "base::crash::tests::comes_by_three_times", "--ignored"])
                .env("ZMSG_CRASH", order)
                .status()
                .expect("it runs");
            assert_eq!(status.signal(), killed.then_some(9), "{order}");
        }
    }

    #[test]
    #[ignore = "the process of the test above"]
    fn comes_by_three_times() {
        for _ in 0..3 {
            crash!("journal.mid_group");
        }
    }
}
