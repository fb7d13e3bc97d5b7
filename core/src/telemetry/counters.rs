//! Counters, one cache line pair each, so that threads that count different things do not slow one another.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Histogram;

/// One figure that only grows.
// 128: x86 fetches lines in pairs, and some ARM cores have lines of that size.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The figure now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A figure that all threads move all the time: each has a part of its own, as far as there are parts.
#[derive(Debug, Default)]
pub struct SharedCounter([Counter; PARTS]);

const PARTS: usize = 8;

thread_local! {
    static PART: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PARTS
    };
}

impl SharedCounter {
    /// One more.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// `count` more.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0[PART.try_with(|part| *part).unwrap_or(0)].add(count);
    }

    /// The figure now.
    pub fn get(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// Everything that is counted, from the opening of the engine on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reads answered by process memory, absences included.
    pub l1_hits: SharedCounter,
    /// Reads answered by Redis, absences included.
    pub l2_hits: Counter,
    /// Hits of either tier that were a cached absence.
    pub absent_hits: Counter,
    /// Reads that neither tier could answer.
    pub misses: Counter,
    /// Source queries sent.
    pub source_loads: Counter,
    /// Source queries that failed.
    pub source_errors: Counter,
    /// Values from a source that were longer than `max_value_bytes` and so not kept.
    pub oversized_loads: Counter,
    /// Reads that joined a load which another read had begun.
    pub waits: Counter,
    /// Misses of keys that no source covers.
    pub unsourced_misses: Counter,
    /// Misses of keys that a source covers but whose parts do not parse; no query was sent.
    pub unparsable_misses: Counter,
    /// Entries that left process memory to make room.
    pub l1_evictions: Counter,
    /// Entries that were not put into process memory because their key's stripe had been written meanwhile.
    pub l1_refused: Counter,
    /// Redis commands of the cache that failed.
    pub l2_errors: Counter,
    /// Redis entries that were not zmsg's or were damaged; each was a miss.
    pub l2_undecodable: Counter,
    /// Values and absences written by a caller.
    pub cache_writes: Counter,
    /// Keys dropped by a caller.
    pub cache_drops: Counter,
    /// Values and absences kept after a source was read.
    pub cache_fills: Counter,
    /// Values and absences of a source that were not kept: the key was written meanwhile, or another process loads it.
    pub fills_refused: Counter,
    /// Reads that waited for another process's load of their key.
    pub lease_waits: Counter,
    /// How long they waited.
    pub(crate) lease_wait_times: Histogram,
    /// How long Redis took to answer reads.
    pub(crate) l2_reads: Histogram,
    /// How long PostgreSQL took to answer source queries, without the wait for a place.
    pub(crate) source_queries: Histogram,
    /// Reads that were given the last good value because the source failed or took too long.
    pub stale_served: Counter,
    /// Times that a server was left alone because it kept failing.
    pub breaker_openings: Counter,
    /// Loads that callers ran with a loader of their own.
    pub caller_loads: Counter,
    /// Values that were loaded anew before they ended.
    pub refreshes: Counter,
    /// Changes of a key that the other processes were told of.
    pub invalidations_sent: Counter,
    /// Keys of which other processes said that they have changed.
    pub invalidations_received: Counter,
    /// Times that the connection on which this process hears the others was lost.
    pub bus_losses: Counter,
    /// Keys that were dropped for transactions which had been committed while Redis was away.
    pub outbox_relayed: Counter,
    /// Aggregated writes that waited for room.
    pub batch_waits: Counter,
    /// Aggregated writes that were not accepted because there was no room in time.
    pub batch_overloads: Counter,
    /// Aggregated writes that were applied, dead ones included.
    pub batch_operations: Counter,
    /// Rows that they changed.
    pub batch_rows: Counter,
    /// Statements that changed them.
    pub batch_statements: Counter,
    /// Composed changes that found no row.
    pub zero_row_updates: Counter,
    /// Operations that became dead letters.
    pub batch_dead: Counter,
    /// Flushes that were committed.
    pub flushes: Counter,
    /// Tries to flush that failed.
    pub flush_failures: Counter,
    /// Milliseconds that the committed flushes took, summed.
    pub flush_ms: Counter,
    /// Journals of other processes that were adopted and applied.
    pub journals_adopted: Counter,
    /// Journals that cannot be applied: damaged, or not of this database.
    pub journals_refused: Counter,
    /// Times that the queue's Redis turned out to have lost accepted writes.
    pub queue_losses: Counter,
}
