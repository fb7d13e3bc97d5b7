//! Process memory: what the last reads and writes left, bounded by bytes.
//!
//! The only file that knows quick_cache ([why that](../../../docs/adr/0019-another-cache-in-process-memory.md)). Whether an entry
//! has ended is decided by the engine's own clock at the read, so that a test's clock moves it; [`L1::sweep`] only takes back
//! the memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use smallvec::SmallVec;

use crate::base::Clock;
use crate::base::service::StopSignal;
use crate::cache::epochs::{Epoch, Epochs};
use crate::cache::front::Front;
use crate::cache::life::Stay;
use crate::cache::tags::Marks;
use crate::cache::trust::Trust;
use crate::cache::warrant::Warrant;
use crate::telemetry::Counters;

/// What an entry costs beside the bytes of its key and value: its place in the cache, those that wait for others to come
/// back, two reference counters, and what the allocator rounds up. Measured as growth of the process (glibc, 100 MiB full):
/// 209 B with values of 100 B, 330 B with values of 1 KiB, which then fill the bound exactly.
pub(crate) const ENTRY_OVERHEAD: usize = 240;

/// How often what has ended is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// A part of the tier that is locked at once is no smaller, as no value may be larger, ...
const SMALLEST_SHARD: u64 = 4 << 20;
/// ... and no larger where there is room for more of them, as a sweep holds it up.
const LARGEST_SHARD: u64 = 16 << 20;
/// How much of a part may be what was read again; the rest is for what is new. No entry may be larger than that.
const HOT: f64 = 0.97;
/// What an entry costs on average, roughly: from this the cache guesses how many keys it remembers that it had to let go.
const USUAL_COST: u64 = 1_024;

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
    cache: Arc<Cache<Arc<str>, L1Entry, Cost, RandomState, Evictions>>,
    /// What an entry may cost.
    largest: u64,
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
        let room = max_cost - front.max_cost();
        let options = OptionsBuilder::new()
            .weight_capacity(room)
            .estimated_items_capacity(usize::try_from(room / USUAL_COST).unwrap_or(usize::MAX).max(1))
            .shards(shards(room))
            .hot_allocation(HOT)
            .build();
        // Nothing is left out above, which is the only thing that it refuses.
        let options = options.unwrap_or_else(|_| unreachable!("the options of L1 are complete"));
        let cache = Cache::with_options(options, Cost, RandomState::default(), Evictions(counters));
        let cache = Arc::new(cache);
        let largest = (cache.shard_capacity() as f64 * HOT) as u64;
        L1 { front, cache, largest, epochs, trust, clock }
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
            self.put(key, self.entry(data, stay, marks));
        }
        accepted
    }

    /// Replaces what is under a key. What is too large takes its place and is not kept.
    fn put(&self, key: &Arc<str>, entry: L1Entry) {
        if Cost.weight(key, &entry) <= self.largest {
            self.cache.insert(key.clone(), entry);
        } else {
            self.cache.remove(&**key);
        }
    }

    /// No read that has begun puts anything under a key any more; what is there stays.
    pub(crate) fn refuse_older(&self, key: &str) {
        self.epochs.lock(key).bump();
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
        self.cache.remove(&**key);
    }

    /// Its end.
    pub(crate) fn uncover(&self, key: &str) {
        self.epochs.lock(key).uncover(key);
    }

    /// A write ends well: its value is kept, unless another change of the key overlapped.
    pub(crate) fn commit(&self, key: &Arc<str>, data: Option<Bytes>, stay: Stay, marks: Option<Marks>) {
        let mut stripe = self.epochs.lock(key);
        if stripe.leave(key) {
            self.put(key, self.entry(data, stay, marks));
        } else {
            self.cache.remove(&**key);
        }
    }

    /// A drop ends, or a write of which nothing is known: the key is gone.
    pub(crate) fn abandon(&self, key: &str) {
        let mut stripe = self.epochs.lock(key);
        stripe.leave(key);
        self.cache.remove(key);
    }

    /// A change ends that did not happen: what is there stays.
    pub(crate) fn call_off(&self, key: &str) {
        self.epochs.lock(key).leave(key);
    }

    /// Takes an entry out at once.
    pub(crate) fn remove(&self, key: &str) {
        let stripe = self.epochs.lock(key);
        stripe.bump();
        self.cache.remove(key);
    }

    /// Another process has changed a key: it is gone, and no change that is under way here leaves its value.
    pub(crate) fn hear(&self, key: &str) {
        let mut stripe = self.epochs.lock(key);
        stripe.overlap(key);
        self.cache.remove(key);
    }

    /// Takes everything out and moves every epoch; no change that is under way leaves its value.
    pub(crate) fn clear(&self) {
        self.epochs.bump_all();
        self.cache.clear();
        // Once more: who asked between the two may have taken a copy of what is gone now.
        self.epochs.bump_all();
    }

    /// What it holds, with what has ended since the last sweep.
    pub(crate) fn stats(&self) -> L1Stats {
        L1Stats { entries: self.cache.len() as u64, bytes: self.cache.weight() }
    }

    /// Takes back the memory of what has ended. Each part of the tier is locked for as long as a look at its entries takes.
    pub(crate) fn sweep(&self) {
        let now_ms = self.clock.mono_ms();
        self.cache.retain(|_, entry| entry.last_ms > now_ms);
    }

    /// Sweeps until it is told to stop.
    pub(crate) async fn sweep_on(self, mut stop: StopSignal) {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => self.sweep(),
            }
        }
    }

    fn entry(&self, data: Option<Bytes>, stay: Stay, marks: Option<Marks>) -> L1Entry {
        let now_ms = self.clock.mono_ms();
        let at = |life: Duration| now_ms.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        let (deadline_ms, fresh_ms, last_ms) = (at(stay.read), at(stay.fresh), at(stay.last));
        L1Entry { data, deadline_ms, fresh_ms, last_ms, marks: marks.map(Box::new) }
    }
}

/// Into how many parts the tier is divided: enough for every core to find one free, if they are not too small for that.
fn shards(max_cost: u64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let count = (4 * cores).min(max_cost / SMALLEST_SHARD).max(max_cost / LARGEST_SHARD).max(1);
    // It takes the next power of two, and this is the one before.
    1 << count.ilog2()
}

/// What an entry counts for.
#[derive(Clone)]
struct Cost;

impl Weighter<Arc<str>, L1Entry> for Cost {
    fn weight(&self, key: &Arc<str>, entry: &L1Entry) -> u64 {
        let marks = entry.marks.as_ref().map_or(0, |marks| marks.cost());
        (key.len() + entry.data.as_ref().map_or(0, Bytes::len) + marks + ENTRY_OVERHEAD) as u64
    }
}

/// Counts what is pushed out, and lets it go where no lock is held.
#[derive(Clone)]
struct Evictions(Arc<Counters>);

impl Lifecycle<Arc<str>, L1Entry> for Evictions {
    type RequestState = SmallVec<[(Arc<str>, L1Entry); 2]>;

    fn begin_request(&self) -> Self::RequestState {
        SmallVec::new()
    }

    fn before_evict(&self, _: &mut Self::RequestState, _: &Arc<str>, _: &mut L1Entry) {
        self.0.l1_evictions.inc();
    }

    // Also of what is replaced.
    fn on_evict(&self, gone: &mut Self::RequestState, key: Arc<str>, entry: L1Entry) {
        gone.push((key, entry));
    }
}

#[cfg(test)]
mod tests;
