//! Whether every server answers, and the engine's own figures.

use serde::Serialize;

use super::Zmsg;
use super::state::State;
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
        let _call = self.state.calls.enter()?;
        let deadline = self.deadline().at_most(self.state.config.connect_timeout);
        let (postgres, redis) =
            tokio::join!(self.state.store.ping(deadline), self.state.caches.ping(deadline));
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
        Stats {
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
            cache_writes: counters.cache_writes.get(),
            cache_drops: counters.cache_drops.get(),
            l2_errors: counters.l2_errors.get(),
            l2_undecodable: counters.l2_undecodable.get(),
            l1_evictions: counters.l1_evictions.get(),
            l1_refused: counters.l1_refused.get(),
            l1_entries: l1.entries,
            l1_bytes: l1.bytes,
            pool_size: pool.size as u64,
            pool_idle: pool.idle as u64,
            pool_waiting: pool.waiting as u64,
        }
    }
}
