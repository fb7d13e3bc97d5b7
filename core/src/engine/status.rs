//! Whether every server answers, and the engine's own figures.

use serde::Serialize;

use super::Zmsg;
use super::state::State;
use crate::cache::BloomFigures;
use crate::error::Result;

/// Reachability of one server.
#[derive(Debug, Clone, Serialize)]
pub struct TierHealth {
    /// `"postgres"` or `"redis"`.
    pub name: &'static str,
    /// Whether it answered.
    pub ok: bool,
    /// Round trip in milliseconds, if it answered.
    pub latency_ms: Option<f64>,
    /// Why not, if it did not.
    pub error: Option<String>,
}

/// Reachability of every server that the configuration names.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Whether all of them answered.
    pub ok: bool,
    /// One entry per server.
    pub tiers: Vec<TierHealth>,
}

/// The engine's own figures since it was opened. Counts only ever grow; the gauges at the end are of this moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Reads and peeks answered by process memory, cached absences included.
    pub l1_hits: u64,
    /// Reads answered by Redis, cached absences included.
    pub l2_hits: u64,
    /// Reads answered by a cached absence in either tier.
    pub absent_hits: u64,
    /// Reads that neither tier could answer.
    pub misses: u64,
    /// Source queries sent to PostgreSQL.
    pub source_loads: u64,
    /// Source queries that failed.
    pub source_errors: u64,
    /// Values from a source that were longer than `max_value_bytes`: given to the caller, not cached.
    pub oversized_loads: u64,
    /// Reads that waited for another caller's load of the same key.
    pub joined_loads: u64,
    /// Misses of keys that no source covers.
    pub unsourced_misses: u64,
    /// Misses of keys that a source covers but whose parts do not parse; such keys are absent.
    pub unparsable_misses: u64,
    /// Values and absences that were cached after a source was read.
    pub cache_fills: u64,
    /// Values and absences of a source that were not cached: the key was being written, or another process was loading it.
    pub fills_refused: u64,
    /// Reads that waited for another process's load of the same key.
    pub lease_waits: u64,
    /// Reads that were given the last good value, because the source failed or took longer than its soft timeout.
    pub stale_served: u64,
    /// Values that were loaded anew before they ended.
    pub refreshes: u64,
    /// Loads that callers of `get_or_load` ran.
    pub caller_loads: u64,
    /// Times that a server was left alone because it had failed `breaker_failures` times in a row.
    pub breaker_openings: u64,
    /// Whether the cache's Redis is asked: "closed" if it is, "open" if it is left alone, "half_open" during the trial.
    pub redis_breaker: &'static str,
    /// The same of PostgreSQL, for sources.
    pub source_breaker: &'static str,
    /// Changes of a key that the other processes were told of.
    pub invalidations_sent: u64,
    /// Keys of which other processes said that they have changed.
    pub invalidations_received: u64,
    /// Times that the connection on which this process hears the others was lost.
    pub bus_losses: u64,
    /// Keys that this process dropped for transactions which had been committed while Redis was away.
    pub outbox_relayed: u64,
    /// Whether the other processes are heard, so that the caches are read.
    pub coherent: bool,
    /// From the sending of a message on the bus to its coming back, in milliseconds: half of them took no longer.
    pub bus_p50_ms: f64,
    /// The same for 999 of a thousand.
    pub bus_p999_ms: f64,
    /// How long Redis took to answer a read, in milliseconds: half of them took no longer. Quantiles are right to a quarter.
    pub l2_p50_ms: f64,
    /// The same for 99 of a hundred.
    pub l2_p99_ms: f64,
    /// How long PostgreSQL took to answer a source query, in milliseconds: half of them took no longer.
    pub source_p50_ms: f64,
    /// The same for 99 of a hundred.
    pub source_p99_ms: f64,
    /// How long a read waited for another process's load of its key, in milliseconds: half of them waited no longer.
    pub lease_wait_p50_ms: f64,
    /// The same for 99 of a hundred.
    pub lease_wait_p99_ms: f64,
    /// Values put into the caches by a write.
    pub cache_writes: u64,
    /// Keys dropped from the caches.
    pub cache_drops: u64,
    /// Redis commands that failed.
    pub l2_errors: u64,
    /// Redis entries that could not be understood and were treated as misses.
    pub l2_undecodable: u64,
    /// Values that L1 gave up for room.
    pub l1_evictions: u64,
    /// Values that L1 did not take in because their key, or one beside it, was written meanwhile.
    pub l1_refused: u64,
    /// Aggregated writes that were applied, dead ones included.
    pub batch_operations: u64,
    /// Rows that they changed.
    pub batch_rows: u64,
    /// Statements that changed them.
    pub batch_statements: u64,
    /// Flushes that were committed.
    pub flushes: u64,
    /// Tries to flush that failed; the same batch was sent again.
    pub flush_failures: u64,
    /// Milliseconds that the committed flushes took, summed.
    pub flush_ms: u64,
    /// Aggregated changes that found no row.
    pub zero_row_updates: u64,
    /// Aggregated writes that the database refused; see the dead letters.
    pub batch_dead: u64,
    /// Aggregated writes that waited for room.
    pub batch_waits: u64,
    /// Aggregated writes that were not accepted, because there was no room in time.
    pub batch_overloads: u64,
    /// Journals of ended processes that this one applied.
    pub journals_adopted: u64,
    /// Journals that this process leaves alone: damaged, or of another database.
    pub journals_refused: u64,
    /// Aggregated writes that were applied for each row changed, since the engine was opened; 0 before the first flush.
    pub aggregation_ratio: f64,
    /// Distinct rows with pending aggregated writes, and pending statements.
    pub pending_cells: u64,
    /// Memory of pending aggregated writes.
    pub pending_bytes: u64,
    /// Disk space of this process's journal; memory in class `memory`.
    pub journal_bytes: u64,
    /// Age of the oldest pending aggregated write in milliseconds.
    pub oldest_pending_ms: u64,
    /// Duration of the last committed flush in milliseconds.
    pub last_flush_ms: u64,
    /// Delayed writes whose time is still to come. These figures of the queue are of all processes, and a second old at most
    /// while this process uses it.
    pub queue_scheduled: u64,
    /// Delayed writes that could run now.
    pub queue_due: u64,
    /// Delayed writes in line behind an earlier one of their key.
    pub queue_waiting: u64,
    /// Delayed writes that a worker has.
    pub queue_leased: u64,
    /// For how long the oldest due one could have run, in milliseconds.
    pub queue_oldest_due_ms: u64,
    /// Whether the queue is paused.
    pub queue_paused: bool,
    /// Delayed writes that had their effect, since the queue was made.
    pub queue_done: u64,
    /// Tries of delayed writes that failed and were repeated.
    pub queue_retried: u64,
    /// Delayed writes that became dead letters.
    pub queue_dead: u64,
    /// Delayed writes that a later one of their key replaced.
    pub queue_replaced: u64,
    /// Delayed writes that were taken back.
    pub queue_cancelled: u64,
    /// Delayed writes whose content was gone when it was their turn: somebody has been at the keys in Redis.
    pub queue_damaged: u64,
    /// Times that this process found that Redis had lost accepted writes.
    pub queue_losses: u64,
    /// From the time that a delayed write was due to its end, in milliseconds: half of those that this process ran took no
    /// longer.
    pub queue_p50_ms: f64,
    /// The same for 99 of a hundred.
    pub queue_p99_ms: f64,
    /// Keys that this process was told a "no" for by a Bloom filter, by `get`, `get_many` and `db_hit`.
    pub bloom_noes: u64,
    /// The Bloom filters of the declared sources.
    pub bloom: Vec<BloomFigures>,
    /// Values and absences in L1.
    pub l1_entries: u64,
    /// Bytes in L1, keys and overhead counted.
    pub l1_bytes: u64,
    /// Open PostgreSQL connections.
    pub pool_size: u64,
    /// Open PostgreSQL connections that nobody uses.
    pub pool_idle: u64,
    /// Callers that wait for a PostgreSQL connection.
    pub pool_waiting: u64,
}

impl Zmsg {
    /// Asks every server for a round trip.
    ///
    /// # Errors
    /// `Closed`. A server that does not answer is no error here: it is what the result says.
    pub async fn health(&self) -> Result<Health> {
        let _call = self.enter()?;
        let deadline = self.deadline().at_most(self.state.config.connect_timeout);
        let (postgres, redis) =
            tokio::join!(self.state.store.ping(deadline), self.state.caches.ping(deadline));
        let postgres = self.state.check_usable().and(postgres);
        let mut tiers = vec![tier("postgres", postgres)];
        tiers.extend(redis.map(|answer| tier("redis", answer)));
        Ok(Health { ok: tiers.iter().all(|tier| tier.ok), tiers })
    }

    /// The engine's own figures. No I/O; also after `close`.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }
}

fn tier(name: &'static str, answer: Result<std::time::Duration>) -> TierHealth {
    match answer {
        Ok(took) => TierHealth { name, ok: true, latency_ms: Some(took.as_secs_f64() * 1e3), error: None },
        Err(error) => TierHealth { name, ok: false, latency_ms: None, error: Some(error.to_string()) },
    }
}

impl State {
    fn stats(&self) -> Stats {
        let (counters, pool, l1) = (&self.counters, self.store.pool_stats(), self.caches.l1_stats());
        let batch = self.batcher.stats();
        let bloom = self.filters.figures();
        let queue = self.queue.as_ref().map(crate::queue::Queue::stats).unwrap_or_default();
        let (operations, rows) = (counters.batch_operations.get(), counters.batch_rows.get());
        Stats {
            batch_operations: operations,
            batch_rows: rows,
            batch_statements: counters.batch_statements.get(),
            flushes: counters.flushes.get(),
            flush_failures: counters.flush_failures.get(),
            flush_ms: counters.flush_ms.get(),
            zero_row_updates: counters.zero_row_updates.get(),
            batch_dead: counters.batch_dead.get(),
            batch_waits: counters.batch_waits.get(),
            batch_overloads: counters.batch_overloads.get(),
            journals_adopted: counters.journals_adopted.get(),
            journals_refused: counters.journals_refused.get(),
            aggregation_ratio: if rows == 0 { 0.0 } else { operations as f64 / rows as f64 },
            pending_cells: batch.cells,
            pending_bytes: batch.bytes,
            journal_bytes: batch.journal_bytes,
            oldest_pending_ms: batch.oldest_ms,
            last_flush_ms: batch.last_flush_ms,
            queue_scheduled: queue.scheduled,
            queue_due: queue.due,
            queue_waiting: queue.waiting,
            queue_leased: queue.leased,
            queue_oldest_due_ms: queue.oldest_due_ms,
            queue_paused: queue.paused,
            queue_done: queue.done,
            queue_retried: queue.retried,
            queue_dead: queue.dead,
            queue_replaced: queue.replaced,
            queue_cancelled: queue.cancelled,
            queue_damaged: queue.damaged,
            queue_losses: counters.queue_losses.get(),
            queue_p50_ms: queue.p50.as_secs_f64() * 1e3,
            queue_p99_ms: queue.p99.as_secs_f64() * 1e3,
            l1_hits: counters.l1_hits.get(),
            l2_hits: counters.l2_hits.get(),
            absent_hits: counters.absent_hits.get(),
            misses: counters.misses.get(),
            source_loads: counters.source_loads.get(),
            source_errors: counters.source_errors.get(),
            oversized_loads: counters.oversized_loads.get(),
            joined_loads: counters.waits.get(),
            unsourced_misses: counters.unsourced_misses.get(),
            unparsable_misses: counters.unparsable_misses.get(),
            cache_fills: counters.cache_fills.get(),
            fills_refused: counters.fills_refused.get(),
            lease_waits: counters.lease_waits.get(),
            stale_served: counters.stale_served.get(),
            refreshes: counters.refreshes.get(),
            caller_loads: counters.caller_loads.get(),
            breaker_openings: counters.breaker_openings.get(),
            redis_breaker: self.caches.breaker().word(),
            source_breaker: self.source_breaker.state().word(),
            invalidations_sent: counters.invalidations_sent.get(),
            invalidations_received: counters.invalidations_received.get(),
            bus_losses: counters.bus_losses.get(),
            outbox_relayed: counters.outbox_relayed.get(),
            coherent: self.caches.is_coherent(),
            bus_p50_ms: self.caches.bus_lag(0.5).as_secs_f64() * 1e3,
            bus_p999_ms: self.caches.bus_lag(0.999).as_secs_f64() * 1e3,
            l2_p50_ms: counters.l2_reads.quantile_ms(0.5),
            l2_p99_ms: counters.l2_reads.quantile_ms(0.99),
            source_p50_ms: counters.source_queries.quantile_ms(0.5),
            source_p99_ms: counters.source_queries.quantile_ms(0.99),
            lease_wait_p50_ms: counters.lease_wait_times.quantile_ms(0.5),
            lease_wait_p99_ms: counters.lease_wait_times.quantile_ms(0.99),
            cache_writes: counters.cache_writes.get(),
            cache_drops: counters.cache_drops.get(),
            l2_errors: counters.l2_errors.get(),
            l2_undecodable: counters.l2_undecodable.get(),
            l1_evictions: counters.l1_evictions.get(),
            l1_refused: counters.l1_refused.get(),
            bloom_noes: bloom.iter().map(|figures| figures.noes).sum(),
            bloom,
            l1_entries: l1.entries,
            l1_bytes: l1.bytes,
            pool_size: pool.size as u64,
            pool_idle: pool.idle as u64,
            pool_waiting: pool.waiting as u64,
        }
    }
}
