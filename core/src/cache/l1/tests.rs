//! The tier alone, against a model and under threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

const LIFE: Duration = Duration::from_secs(60);
const STAY: Stay = Stay { read: LIFE, fresh: LIFE, last: LIFE };

fn tier(max_cost: u64) -> (L1, Clock, Arc<Counters>) {
    let (clock, counters) = (Clock::manual(0), Arc::new(Counters::default()));
    let l1 = L1::new(
        max_cost,
        Arc::new(Epochs::new()),
        Arc::new(Trust::always()),
        clock.clone(),
        counters.clone(),
    );
    (l1, clock, counters)
}

fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn write(l1: &L1, key: &Arc<str>, data: Option<Bytes>) {
    l1.begin(key);
    l1.commit(key, data, STAY, None);
}

fn data(l1: &L1, key: &str) -> Option<Option<Bytes>> {
    l1.get(key)
}

#[test]
fn an_entry_ends_by_the_engines_clock() {
    let (l1, clock, _) = tier(1 << 20);
    let key: Arc<str> = "a".into();
    assert!(l1.insert_gated(&key, None, STAY, l1.epochs.epoch(&key), None));
    clock.advance(LIFE - Duration::from_millis(1));
    assert_eq!(data(&l1, "a"), Some(None));
    clock.advance(Duration::from_millis(1));
    assert_eq!(data(&l1, "a"), None);
    let none = Stay { read: Duration::ZERO, fresh: Duration::ZERO, last: Duration::ZERO };
    assert!(!l1.insert_gated(&key, None, none, l1.epochs.epoch(&key), None));
}

#[test]
fn what_has_ended_is_swept_and_nothing_else() {
    let (l1, clock, counters) = tier(1 << 20);
    let [short, long] = ["short", "long"].map(Arc::<str>::from);
    let brief = Stay { read: LIFE / 4, fresh: LIFE / 4, last: LIFE / 2 };
    assert!(l1.insert_gated(&short, bytes("v"), brief, l1.epochs.epoch(&short), None));
    assert!(l1.insert_gated(&long, bytes("v"), STAY, l1.epochs.epoch(&long), None));
    clock.advance(LIFE / 2 - Duration::from_millis(1));
    l1.sweep();
    assert_eq!(l1.stats().entries, 2, "its last moment is not over");
    clock.advance(Duration::from_millis(1));
    l1.sweep();
    assert_eq!((l1.stats().entries, data(&l1, "long")), (1, Some(bytes("v"))));
    assert_eq!(counters.l1_evictions.get(), 0, "nothing was pushed out");
    clock.advance(LIFE);
    l1.sweep();
    assert_eq!(l1.stats(), L1Stats { entries: 0, bytes: 0 });
}

#[test]
fn what_does_not_fit_takes_what_was_under_its_key_along() {
    let (l1, _, counters) = tier(100 * 1_024);
    let key: Arc<str> = "a".into();
    for size in [l1.largest as usize + 1, 200 * 1_024] {
        write(&l1, &key, bytes("old"));
        assert_eq!(data(&l1, "a"), Some(bytes("old")));
        write(&l1, &key, Some(vec![0; size].into()));
        assert_eq!(data(&l1, "a"), None);
        // The cache itself would refuse it as well.
        write(&l1, &key, bytes("old"));
        let large = l1.entry(Some(vec![0; size].into()), STAY, None);
        l1.cache.insert(key.clone(), large);
        assert_eq!(l1.cache.get(&*key), None);
    }
    assert_eq!(counters.l1_evictions.get(), 2, "those of the cache itself");
    let fits = vec![0; l1.largest as usize - ENTRY_OVERHEAD - 1];
    write(&l1, &key, Some(fits.clone().into()));
    assert_eq!(data(&l1, "a"), Some(Some(fits.into())));
}

#[test]
fn an_entry_that_answers_no_reads_is_kept_until_its_last_moment_or_a_change() {
    let (l1, clock, _) = tier(1 << 20);
    let key: Arc<str> = "a".into();
    let stay = Stay { read: LIFE / 2, fresh: LIFE, last: 2 * LIFE };
    assert!(l1.insert_gated(&key, bytes("v"), stay, l1.epochs.epoch(&key), None));
    clock.advance(LIFE / 2);
    assert_eq!(data(&l1, "a"), None);
    assert_eq!(
        l1.kept("a"),
        Some(Kept { data: bytes("v"), left: LIFE / 2, last: LIFE * 3 / 2, marks: None })
    );
    clock.advance(LIFE);
    assert_eq!(
        l1.kept("a"),
        Some(Kept { data: bytes("v"), left: Duration::ZERO, last: LIFE / 2, marks: None })
    );
    l1.hear("a");
    assert_eq!(l1.kept("a"), None, "changed elsewhere");
    assert!(l1.insert_gated(&key, bytes("v"), stay, l1.epochs.epoch(&key), None));
    clock.advance(2 * LIFE);
    assert_eq!(l1.kept("a"), None);
}

#[test]
fn a_read_that_began_before_a_write_keeps_nothing() {
    let (l1, _, _) = tier(1 << 20);
    let key: Arc<str> = "a".into();
    let before = l1.epochs.epoch(&key);
    write(&l1, &key, bytes("new"));
    assert!(!l1.insert_gated(&key, bytes("old"), STAY, before, None));
    assert_eq!(data(&l1, "a"), Some(bytes("new")));

    let before = l1.epochs.epoch(&key);
    l1.remove(&key);
    assert!(!l1.insert_gated(&key, bytes("old"), STAY, before, None));
    assert_eq!(data(&l1, "a"), None);

    let before = l1.epochs.epoch(&key);
    l1.clear();
    assert!(!l1.insert_gated(&key, bytes("old"), STAY, before, None));
}

#[test]
fn an_insert_in_time_is_replaced_by_the_write() {
    let (l1, _, _) = tier(1 << 20);
    let key: Arc<str> = "a".into();
    assert!(l1.insert_gated(&key, bytes("old"), STAY, l1.epochs.epoch(&key), None));
    write(&l1, &key, bytes("new"));
    assert_eq!(data(&l1, "a"), Some(bytes("new")));
}

#[test]
fn of_two_overlapping_changes_none_stays() {
    let (l1, _, _) = tier(1 << 20);
    let key: Arc<str> = "a".into();
    write(&l1, &key, bytes("old"));
    l1.begin(&key);
    l1.begin(&key);
    assert_eq!(data(&l1, "a"), Some(bytes("old")), "neither is acknowledged");
    l1.commit(&key, bytes("one"), STAY, None);
    assert_eq!(data(&l1, "a"), None);
    l1.commit(&key, bytes("other"), STAY, None);
    assert_eq!(data(&l1, "a"), None);
    write(&l1, &key, bytes("next"));
    assert_eq!(data(&l1, "a"), Some(bytes("next")));
    l1.begin(&key);
    l1.abandon(&key);
    assert_eq!(data(&l1, "a"), None);
}

#[test]
fn bytes_are_bounded_and_evictions_counted() {
    let (l1, _, counters) = tier(100 * 1_024);
    for n in 0..1_000 {
        write(&l1, &format!("key{n}").into(), Some(vec![0; 1_024 - ENTRY_OVERHEAD - 6].into()));
    }
    let stats = l1.stats();
    assert!(stats.bytes <= 100 * 1_024 && stats.entries <= 101 && stats.entries > 80, "{stats:?}");
    assert_eq!(counters.l1_evictions.get() + stats.entries, 1_000);
    // Larger than the whole tier: not kept, nobody hurt.
    write(&l1, &"big".into(), Some(vec![0; 200 * 1_024].into()));
    assert_eq!(data(&l1, "big"), None);
    l1.clear();
    assert_eq!(l1.stats(), L1Stats { entries: 0, bytes: 0 });
}

/// One writer raises a number, first in the "store", then in L1; readers copy the store into L1 in the way a miss
/// does. Once a write is acknowledged nobody may see an older number.
#[test]
#[allow(clippy::disallowed_methods)]
fn no_interleaving_of_threads_leaves_an_old_value() {
    let (l1, _, _) = tier(1 << 20);
    let key: Arc<str> = "a".into();
    let (store, acknowledged, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let number = |data: &Option<Bytes>| u64::from_be_bytes(data.as_deref().unwrap().try_into().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let floor = acknowledged.load(Ordering::SeqCst);
                    if let Some(data) = l1.get(&key) {
                        let number = number(&data);
                        assert!(number >= floor, "{number} after {floor} was acknowledged");
                        continue;
                    }
                    let seen = l1.epochs.epoch(&key);
                    let value = store.load(Ordering::SeqCst);
                    std::thread::yield_now();
                    l1.insert_gated(&key, Some(value.to_be_bytes().to_vec().into()), STAY, seen, None);
                }
            });
        }
        for next in 1..=20_000_u64 {
            store.store(next, Ordering::SeqCst);
            if next % 2 == 0 {
                l1.remove(&key);
            } else {
                write(&l1, &key, Some(next.to_be_bytes().to_vec().into()));
            }
            acknowledged.store(next, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
}

/// What a random history may do to one of a few keys.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Overlap(usize),
    Abandon(usize),
    Remove(usize),
    Fill(usize),
    FillOfBefore(usize),
    Evict(usize),
    Advance(u64),
    Get(usize, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..4_usize;
    let step = prop_oneof![
        2 => key().prop_map(Step::Write),
        1 => key().prop_map(Step::Overlap),
        1 => key().prop_map(Step::Abandon),
        1 => key().prop_map(Step::Remove),
        2 => key().prop_map(Step::Fill),
        2 => key().prop_map(Step::FillOfBefore),
        2 => key().prop_map(Step::Evict),
        1 => (1..40_000_u64).prop_map(Step::Advance),
        8 => (key(), 1..40_u8).prop_map(|(key, times)| Step::Get(key, times)),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever was written, dropped, filled, evicted or ended before: a hit is the last thing that L1 was given
    /// under the key, be it from the front or from behind it; and so is what was hit before, while its warrant holds.
    #[test]
    fn a_hit_is_the_last_thing_that_came_in(steps in steps()) {
        let (l1, clock, _) = tier(100 << 20);
        let keys: Vec<Arc<str>> = (0..4).map(|n| format!("key{n}").into()).collect();
        let mut model: Vec<Option<(Option<Bytes>, u64)>> = vec![None; 4];
        let mut seen: Vec<Epoch> = keys.iter().map(|key| l1.epochs.epoch(key)).collect();
        let mut copies: Vec<Option<(Option<Bytes>, Warrant)>> = vec![None; 4];
        for (number, step) in steps.into_iter().enumerate() {
            let value = (number % 5 > 0).then(|| Bytes::from(number.to_string()));
            let ends = clock.mono_ms() + LIFE.as_millis() as u64;
            match step {
                Step::Write(at) => {
                    write(&l1, &keys[at], value.clone());
                    model[at] = Some((value, ends));
                }
                Step::Overlap(at) => {
                    l1.begin(&keys[at]);
                    write(&l1, &keys[at], value);
                    l1.abandon(&keys[at]);
                    model[at] = None;
                }
                Step::Abandon(at) => {
                    l1.begin(&keys[at]);
                    l1.abandon(&keys[at]);
                    model[at] = None;
                }
                Step::Remove(at) => {
                    l1.remove(&keys[at]);
                    model[at] = None;
                }
                Step::Fill(at) => {
                    seen[at] = l1.epochs.epoch(&keys[at]);
                    prop_assert!(l1.insert_gated(&keys[at], value.clone(), STAY, seen[at], None));
                    model[at] = Some((value, ends));
                }
                Step::FillOfBefore(at) => {
                    if l1.insert_gated(&keys[at], value.clone(), STAY, seen[at], None) {
                        model[at] = Some((value, ends));
                    }
                }
                // As the cache does it by itself, of which nobody is told.
                Step::Evict(at) => drop(l1.cache.remove(&*keys[at])),
                Step::Advance(ms) => clock.advance(Duration::from_millis(ms)),
                Step::Get(at, times) => {
                    for _ in 0..times {
                        let now_ms = clock.mono_ms();
                        let wanted = model[at].clone().filter(|(_, ends)| *ends > now_ms);
                        if let Some((found, warrant)) = l1.get_warranted(&keys[at]) {
                            prop_assert_eq!(Some(&found), wanted.as_ref().map(|(data, _)| data));
                            copies[at] = warrant.map(|warrant| (found, warrant));
                        }
                    }
                }
            }
            let now_ms = clock.mono_ms();
            for (copy, kept) in copies.iter().zip(&model).filter_map(|(copy, kept)| Some((copy.as_ref()?, kept))) {
                let (data, Warrant { stripe, turn, deadline_ms }) = copy;
                let holds = l1.epochs.turns()[usize::from(*stripe)].load(Ordering::Acquire) == *turn;
                if holds && *deadline_ms > now_ms {
                    let ends = kept.as_ref().map(|(data, ends)| (data, *ends > now_ms));
                    prop_assert_eq!(ends, Some((data, true)));
                }
            }
        }
    }
}

fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn fill_and_measure(size: usize) {
    const MAX: u64 = 100 << 20;
    let before = rss();
    let (l1, clock, _) = tier(MAX);
    let (mut peak, mut grown) = (0, 0);
    // Thrice what fits.
    for n in 0..3 * MAX / (size as u64 + 500) {
        let key: Arc<str> = format!("feed_{:019}", n * 7_919).into();
        write(&l1, &key, Some(vec![1_u8; size].into()));
        // The first clone of a Bytes makes its shared counter.
        let _ = l1.get(&key);
        if n % 10_000 == 0 {
            clock.advance(Duration::from_micros(1));
            grown = rss().saturating_sub(before);
            peak = peak.max(grown);
        }
    }
    let stats = l1.stats();
    let beside = grown / stats.entries - (size as u64 + 24);
    let ratio = peak as f64 / MAX as f64;
    println!("{size} B: {stats:?}, {beside} B per entry beside key and value, peak {ratio:.3} of the bound");
    assert!(ratio <= 1.15);
}

// `cargo nextest run -p zmsg-core memory_stays --run-ignored all --no-capture`, which gives each a process.
#[test]
#[ignore = "measures the process's memory, so it must run alone"]
fn memory_stays_below_the_bound_with_values_of_100_bytes() {
    fill_and_measure(100);
}

#[test]
#[ignore = "measures the process's memory, so it must run alone"]
fn memory_stays_below_the_bound_with_values_of_1_kib() {
    fill_and_measure(1_024);
}
