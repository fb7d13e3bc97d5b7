//! Process memory: what the last reads and writes left, bounded by bytes.
//!
//! The only file that knows moka. Whether an entry has ended is decided by the engine's own clock at the read, so that a
//! test's clock moves it; moka's timer only takes back the memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::RandomState;
use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use crate::base::Clock;
use crate::cache::epochs::{Epoch, Epochs};
use crate::cache::front::Front;
use crate::cache::life::Stay;
use crate::cache::tags::Marks;
use crate::cache::trust::Trust;
use crate::cache::warrant::Warrant;
use crate::telemetry::Counters;

/// What an entry costs beside the bytes of its key and value: moka's nodes for order, expiry and frequency, two reference
/// counters, and what the allocator rounds up. Measured as growth of the process (glibc, 100 MiB full): 525 B with values
/// of 100 B, 571 B with values of 1 KiB.
pub(crate) const ENTRY_OVERHEAD: usize = 540;

/// One entry. Clones share the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct L1Entry {
    /// The value; `None` is a known absence.
    pub(crate) data: Option<Bytes>,
    /// Until when it answers reads, on the engine's monotonic clock.
    pub(crate) deadline_ms: u64,
    /// Until when it is fresh.
    pub(crate) fresh_ms: u64,
    /// When it is gone.
    pub(crate) last_ms: u64,
    /// If it has tags: it counts while these hold.
    pub(crate) marks: Option<Box<Marks>>,
}

impl L1Entry {
    fn counts(&self, now_ms: u64) -> bool {
        self.deadline_ms > now_ms && self.hold()
    }

    fn hold(&self) -> bool {
        self.marks.as_ref().is_none_or(|marks| marks.hold())
    }
}

/// An entry that may have ceased to answer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The value; `None` is a known absence.
    pub(crate) data: Option<Bytes>,
    /// What is left of its freshness; nothing if it is not fresh any more.
    pub(crate) left: Duration,
    /// What is left until it is gone.
    pub(crate) last: Duration,
    /// If it has tags: it counts while these hold.
    pub(crate) marks: Option<Marks>,
}

/// What L1 holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct L1Stats {
    /// Entries.
    pub(crate) entries: u64,
    /// Their cost in bytes.
    pub(crate) bytes: u64,
}

/// The tier. Clones share it.
#[derive(Clone)]
pub(crate) struct L1 {
    front: Arc<Front>,
    cache: Cache<Arc<str>, L1Entry, RandomState>,
    epochs: Arc<Epochs>,
    trust: Arc<Trust>,
    clock: Clock,
}

impl L1 {
    /// An empty tier of at most `max_cost` bytes, which is read while there is trust.
    pub(crate) fn new(
        max_cost: u64,
        epochs: Arc<Epochs>,
        trust: Arc<Trust>,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> L1 {
        let front = Arc::new(Front::new(max_cost));
        let cache = Cache::builder()
            .max_capacity(max_cost - front.max_cost())
            .weigher(cost)
            .expire_after(Timer(clock.clone()))
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counters.l1_evictions.inc();
                }
            })
            .build_with_hasher(RandomState::default());
        L1 { front, cache, epochs, trust, clock }
    }

    /// What is under a key, if it has not ended: a value, or `None` for a known absence.
    #[inline]
    pub(crate) fn get(&self, key: &str) -> Option<Option<Bytes>> {
        self.get_warranted(key).map(|(data, _)| data)
    }

    /// The same, with leave to answer further reads by it. What has tags comes without: no word tells of them.
    #[inline]
    pub(crate) fn get_warranted(&self, key: &str) -> Option<(Option<Bytes>, Option<Warrant>)> {
        let (hash, now_ms) = (self.epochs.hash(key), self.clock.mono_ms());
        if !self.trust.holds(now_ms) {
            return None;
        }
        // Before the front and the cache are asked, so that what they say is at least that new.
        let turn = self.epochs.turn(hash);
        let Some(hit) = self.front.get(hash, key, turn, now_ms) else {
            return self.get_behind(hash, key, turn, now_ms);
        };
        if hit.repeat {
            self.note_hit(key);
        }
        Some((hit.data, Some(self.warrant(hash, turn, hit.deadline_ms))))
    }

    /// What is under a key and fresh: not a last good value. The front, whose copies do not say which they are, is passed
    /// by.
    pub(crate) fn get_fresh(&self, key: &str) -> Option<Option<Bytes>> {
        let now_ms = self.clock.mono_ms();
        if !self.trust.holds(now_ms) {
            return None;
        }
        let fresh = |entry: &L1Entry| entry.fresh_ms > now_ms && entry.counts(now_ms);
        Some(self.cache.get(key).filter(fresh)?.data)
    }

    fn get_behind(
        &self,
        hash: u64,
        key: &str,
        turn: u64,
        now_ms: u64,
    ) -> Option<(Option<Bytes>, Option<Warrant>)> {
        let entry = self.cache.get(key).filter(|entry| entry.counts(now_ms))?;
        let warrant = entry.marks.is_none().then(|| self.warrant(hash, turn, entry.deadline_ms));
        if warrant.is_some() {
            self.front.offer(hash, key, &entry.data, entry.deadline_ms, turn);
        }
        Some((entry.data, warrant))
    }

    fn warrant(&self, hash: u64, turn: u64, deadline_ms: u64) -> Warrant {
        Warrant { stripe: self.epochs.stripe_at(hash) as u16, turn, deadline_ms }
    }

    /// A copy of an entry was hit: else it would look as if nobody wanted the entry any more.
    pub(crate) fn note_hit(&self, key: &str) {
        drop(self.cache.get(key));
    }

    /// What is under a key, although it may have ceased to answer reads: the last that is known of it here.
    pub(crate) fn kept(&self, key: &str) -> Option<Kept> {
        let now_ms = self.clock.mono_ms();
        let entry = self.cache.get(key).filter(|entry| entry.last_ms > now_ms && entry.hold())?;
        let until = |end_ms: u64| Duration::from_millis(end_ms.saturating_sub(now_ms));
        let (left, last) = (until(entry.fresh_ms), until(entry.last_ms));
        // After it was found, so that it is no older than that.
        self.trust.holds(self.clock.mono_ms()).then_some(Kept {
            data: entry.data,
            left,
            last,
            marks: entry.marks.map(|marks| *marks),
        })
    }

    /// A value with what is left of its stay here, and its marks.
    pub(crate) fn value(&self, key: &str) -> Option<(Bytes, Option<Duration>, Option<Marks>)> {
        let now_ms = self.clock.mono_ms();
        let counts = |entry: &L1Entry| self.trust.holds(now_ms) && entry.fresh_ms > now_ms && entry.hold();
        let entry = self.cache.get(key).filter(counts)?;
        let left = Duration::from_millis(entry.fresh_ms - now_ms);
        let left = (entry.fresh_ms != u64::MAX).then_some(left);
        Some((entry.data?, left, entry.marks.map(|marks| *marks)))
    }

    /// The keys under a prefix that have a value, in order.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let now_ms = self.clock.mono_ms();
        let live = self
            .cache
            .iter()
            .filter(|(key, entry)| key.starts_with(prefix) && entry.data.is_some() && entry.counts(now_ms));
        let mut keys: Vec<String> = live.map(|(key, _)| key.to_string()).collect();
        keys.sort_unstable();
        keys
    }

    /// Keeps what a read found, unless the key's stripe was written since `seen`, or the key is being changed; says whether
    /// it did.
    pub(crate) fn insert_gated(
        &self,
        key: &Arc<str>,
        data: Option<Bytes>,
        stay: Stay,
        seen: Epoch,
        marks: Option<Marks>,
    ) -> bool {
        let stripe = self.epochs.lock(key);
        // A life of nothing ends before anybody could read it.
        let accepted = stripe.is_at(seen) && !stripe.is_changing(key) && !stay.last.is_zero();
        if accepted {
            self.cache.insert(key.clone(), self.entry(data, stay, marks));
        }
        accepted
    }

    /// A write or drop of a key begins: reads that have begun keep nothing. It ends with [`L1::commit`],
    /// [`L1::abandon`] or [`L1::call_off`].
    pub(crate) fn begin(&self, key: &Arc<str>) {
        self.epochs.lock(key).enter(key);
    }

    /// What a transaction is about to change is gone, and until [`L1::uncover`] no read puts anything there. A write may.
    pub(crate) fn cover(&self, key: &Arc<str>) {
        let mut stripe = self.epochs.lock(key);
        stripe.cover(key);
        self.cache.invalidate(&**key);
    }

    /// Its end.
    pub(crate) fn uncover(&self, key: &str) {
        self.epochs.lock(key).uncover(key);
    }

    /// A write ends well: its value is kept, unless another change of the key overlapped.
    pub(crate) fn commit(&self, key: &Arc<str>, data: Option<Bytes>, stay: Stay, marks: Option<Marks>) {
        let mut stripe = self.epochs.lock(key);
        if stripe.leave(key) {
            self.cache.insert(key.clone(), self.entry(data, stay, marks));
        } else {
            self.cache.invalidate(&**key);
        }
    }

    /// A drop ends, or a write of which nothing is known: the key is gone.
    pub(crate) fn abandon(&self, key: &str) {
        let mut stripe = self.epochs.lock(key);
        stripe.leave(key);
        self.cache.invalidate(key);
    }

    /// A change ends that did not happen: what is there stays.
    pub(crate) fn call_off(&self, key: &str) {
        self.epochs.lock(key).leave(key);
    }

    /// Takes an entry out at once.
    pub(crate) fn remove(&self, key: &str) {
        let stripe = self.epochs.lock(key);
        stripe.bump();
        self.cache.invalidate(key);
    }

    /// Another process has changed a key: it is gone, and no change that is under way here leaves its value.
    pub(crate) fn hear(&self, key: &str) {
        let mut stripe = self.epochs.lock(key);
        stripe.overlap(key);
        self.cache.invalidate(key);
    }

    /// Takes everything out and moves every epoch; no change that is under way leaves its value.
    pub(crate) fn clear(&self) {
        self.epochs.bump_all();
        self.cache.invalidate_all();
        // Once more: who asked between the two may have taken a copy of what is gone now.
        self.epochs.bump_all();
    }

    /// What it holds.
    pub(crate) fn stats(&self) -> L1Stats {
        // moka counts behind the writes; without this a quiet cache would stay wrong for ever.
        self.cache.run_pending_tasks();
        L1Stats { entries: self.cache.entry_count(), bytes: self.cache.weighted_size() }
    }

    fn entry(&self, data: Option<Bytes>, stay: Stay, marks: Option<Marks>) -> L1Entry {
        let now_ms = self.clock.mono_ms();
        let at = |life: Duration| now_ms.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        let (deadline_ms, fresh_ms, last_ms) = (at(stay.read), at(stay.fresh), at(stay.last));
        L1Entry { data, deadline_ms, fresh_ms, last_ms, marks: marks.map(Box::new) }
    }
}

fn cost(key: &Arc<str>, entry: &L1Entry) -> u32 {
    let marks = entry.marks.as_ref().map_or(0, |marks| marks.cost());
    let bytes = key.len() + entry.data.as_ref().map_or(0, Bytes::len) + marks + ENTRY_OVERHEAD;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Tells moka when it may take an entry's memory back.
struct Timer(Clock);

impl Timer {
    fn left(&self, entry: &L1Entry) -> Option<Duration> {
        Some(Duration::from_millis(entry.last_ms.saturating_sub(self.0.mono_ms())))
    }
}

impl Expiry<Arc<str>, L1Entry> for Timer {
    fn expire_after_create(&self, _: &Arc<str>, entry: &L1Entry, _: Instant) -> Option<Duration> {
        self.left(entry)
    }

    fn expire_after_update(
        &self,
        _: &Arc<str>,
        entry: &L1Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.left(entry)
    }
}

#[cfg(test)]
mod tests {
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
            write(&l1, &format!("key{n}").into(), Some(vec![0; 544 - 6].into()));
        }
        l1.cache.run_pending_tasks();
        let stats = l1.stats();
        assert!(stats.bytes <= 100 * 1_024 && stats.entries <= 101 && stats.entries > 80, "{stats:?}");
        assert_eq!(counters.l1_evictions.get() + stats.entries, 1_000);
        // Larger than the whole tier: not kept, nobody hurt.
        write(&l1, &"big".into(), Some(vec![0; 200 * 1_024].into()));
        l1.cache.run_pending_tasks();
        assert_eq!(data(&l1, "big"), None);
        l1.clear();
        l1.cache.run_pending_tasks();
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
                    // As moka does it, of which nobody is told.
                    Step::Evict(at) => l1.cache.invalidate(&keys[at]),
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
        l1.cache.run_pending_tasks();
        let stats = l1.stats();
        let beside = grown / stats.entries - (size as u64 + 24);
        let ratio = peak as f64 / MAX as f64;
        println!(
            "{size} B: {stats:?}, {beside} B per entry beside key and value, peak {ratio:.3} of the bound"
        );
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
}
