// What goes into a verb and what comes out.

import type { CallOptions } from "./calls";
import type { Duration, Settings } from "./config";
import type { Logger } from "./log";
import type { TaskLike } from "./sql";
import type { Row } from "./values";

/** What {@link Zmsg.open} takes beside settings. */
export interface OpenOptions extends Settings {
  /**
   * Where the engine's log lines go; `console`, pino and winston fit. Engines of one process share one log: a logger
   * hears the lines of all of them.
   */
  logger?: Logger;
}

/** Options of a read: what it does when the source fails or takes long. */
export interface ReadOptions extends CallOptions {
  /**
   * `false`: this call is never given a last good value, be it from memory. It waits for the source, and is rejected if
   * that fails. `true`, as by default: as the source says, which keeps none without `staleTtl`.
   */
  stale?: boolean;
  /**
   * How long the source is waited for while there is a last good value; 0 is as long as it takes. Default: the source's
   * `softTimeout`.
   */
  softTimeout?: Duration;
}

/** Options of a read of one key. */
export interface GetOptions extends ReadOptions {
  /** Reject with `NotFoundError` where the key is absent. */
  required?: boolean;
}

/** Options of a write to the cache alone. */
export interface CacheOptions extends CallOptions {
  /** Life of the cached value: milliseconds, `"10m"`, or `"never"`. Default: the configuration's `defaultTtl`. */
  ttl?: Duration;
  /** Names under which `invalidateTag` drops the value along with others, at most 64. */
  tags?: readonly string[];
}

/** Options of `touch` and `incr`. */
export interface TouchOptions extends CallOptions {
  /** The new life: milliseconds, `"10m"`, or `"never"`. Default: the configuration's `defaultTtl`. */
  ttl?: Duration;
}

/** Options of `incr`. */
export interface IncrOptions extends TouchOptions {
  /** What to add, of at most 64 bits. Default: 1. */
  by?: bigint | number;
}

/** Options of a lock. */
export interface LockOptions {
  /** After that a holder that is gone has lost it. Default: 30 s. From 100 ms to a day. */
  ttl?: Duration;
  /** How long to wait for it; 0 tries once. Default: the configuration's `timeout`. */
  wait?: Duration;
  /** Gives the waiting up. */
  signal?: AbortSignal;
}

/** Which dead letters to list. */
export interface DeadLettersOptions extends CallOptions {
  /** Those with higher ids: the id of the last letter of the page before. Default: 0, from the oldest on. */
  after?: bigint | number;
  /** How many at most, 1 to 10,000, which is the default. */
  limit?: number;
}

/** Options of a write that a task goes with. */
export interface StoreOptions extends CallOptions {
  /** Further keys that the task changes; they are dropped from every cache after the commit. */
  invalidates?: readonly string[];
  /**
   * Further keys of rows that the task makes, for the Bloom filters of their families, which would say that there is no
   * such row; they are dropped from every cache as well.
   */
  bloomKeys?: readonly string[];
}

/** Options of a write to the database and the cache. */
export interface CacheAndStoreOptions extends CacheOptions, StoreOptions {}

/** Options of an aggregated write. */
export interface PeriodicOptions extends CacheOptions, StoreOptions {}

/** Options of a delayed write that caches nothing. */
export interface DelayOptions extends StoreOptions {
  /** From when on it runs: milliseconds or `"10m"`; 0 is at once. Default: the configuration's `queue.taskDelay`. */
  delay?: Duration;
  /**
   * Names the operation: a second call with the same name finds the first, and there is one effect. 1 to 200 printable
   * ASCII characters without spaces. Default: one is made up.
   */
  opId?: string;
  /** Take the place of the last waiting write of the key, if that one had this option too and has not started. */
  coalesce?: boolean;
  /** The time of one try. Default: the configuration's `queue.taskTimeout`. */
  taskTimeout?: Duration;
}

/** Options of a delayed write. */
export interface CacheAndDelayOptions extends CacheOptions, DelayOptions {}

/**
 * What became of a wish to take a delayed write back. `"cancelled"`: it will not run. `"started"`: a worker has
 * begun it, now or before. `"unknown"`: it is not in the queue; it has ended, or never was.
 */
export type Cancelled = "cancelled" | "started" | "unknown";

/** How long what is loaded lives, and what covers for a load that fails. */
export interface LifeOptions {
  /** Life of a loaded value. Default: the configuration's `defaultTtl`. */
  ttl?: Duration;
  /** Life of an absence. Default: the configuration's `absentTtl`. */
  absentTtl?: Duration;
  /** How long a value is kept past its life, and given if a load fails; 0 is not. Default: the configuration's `staleTtl`. */
  staleTtl?: Duration;
  /**
   * How long a load is waited for while there is a value kept by `staleTtl`; 0 is as long as it takes. Default: the
   * configuration's `sourceSoftTimeout`.
   */
  softTimeout?: Duration;
}

/** Options of a source. */
export interface SourceOptions extends LifeOptions {
  /** In which last part of its life a value is loaded anew, 0 (never) to 0.9. Default: the configuration's `refreshAhead`. */
  refreshAhead?: number;
  /** Give the family a Bloom filter, which answers for keys that do not exist before the database is asked. */
  bloom?: boolean;
  /** With `bloom`: the query that gives every key of the family, whole and as text. */
  keys?: TaskLike;
}

/** Options of a load by a function of one's own. `timeout` is for the wait for another call's loader. */
export interface LoadOptions extends CallOptions, LifeOptions {}

/** What statements did. */
export interface ExecResult<T = Row> {
  /** Rows inserted, updated, deleted or selected, summed over the tasks. */
  rowsAffected: number;
  /** Rows of RETURNING or SELECT, of all tasks in order. */
  rows: T[];
}

/**
 * What an accepted write survives. `"postgres"`: its COMMIT was seen. `"journal"`: a kill of the process;
 * `"journal_fsync"`: a loss of power as well; `"memory"`: neither. `"redis_aof"`, `"redis"`: it is in the queue, of which
 * Redis keeps what its append-only file or its snapshots have.
 */
export type Durability = "postgres" | "redis_aof" | "redis" | "journal_fsync" | "journal" | "memory" | "sqlite";

/** What an accepted write gives back. */
export interface Receipt<T = Row> extends ExecResult<T> {
  /** Identifies the operation in logs and errors. */
  readonly opId: string;
  readonly durability: Durability;
  /** Whether the caches took the value too. A write never fails because the cache did: repeating it would apply it twice. */
  readonly cached: boolean;
  /**
   * Resolves when the effect is committed, or rejects with what became of it. Without options it waits as long as that
   * takes; `timeout` and `signal` end the wait alone: the write stays where it is and will be applied.
   *
   * @throws {@link TimeoutError} with the `opId` if the write was not committed in time; {@link StoreError} if the
   * database refused it, which made a dead letter of it; {@link QueueError} if a delayed write was cancelled or replaced;
   * {@link ClosedError} if the engine was closed before.
   */
  done(options?: CallOptions): Promise<void>;
}

/** What a flush did. */
export interface FlushReport {
  /** Aggregated writes that were applied, dead ones included. */
  operations: number;
  /** Rows changed by composed operations, and statements of the caller that ran. */
  rows: number;
  /** Statements sent that change data. */
  statements: number;
  /** Composed changes that found no row: they are lost, as an UPDATE of a missing row is. `orInsert` makes the row. */
  zeroRowUpdates: number;
  /** Aggregated writes that the database refused; see {@link Zmsg.deadLetters}. */
  dead: number;
  durationMs: number;
}

/** A write that the database refused after it had been accepted. */
export interface DeadLetter {
  /** For `retryDead`, `dropDead` and `after`. Later letters have higher ones. */
  id: bigint;
  /** Which way it came. */
  path: "batch" | "queue";
  /** As its receipt had it. */
  opId: string;
  /** Its cache key, if it had one. */
  key: string | null;
  /** What would run, without its parameters. */
  statement: string;
  /** Why the database refused. */
  sqlstate: string | null;
  /** The same in words. */
  message: string;
  /** When, as PostgreSQL writes a `timestamptz`. */
  deadAt: string;
}

/** What running all dead letters again did. */
export interface RetryReport {
  /** Letters that had their effect and are gone. */
  retried: number;
  /** Letters that the database refused again; they stay. */
  refused: number;
}

/** Reachability of one server. */
export interface TierHealth {
  name: "postgres" | "redis";
  ok: boolean;
  /** Round trip in milliseconds, if it answered. */
  latencyMs: number | null;
  /** Why it did not answer. */
  error: string | null;
}

/** Reachability of every server. */
export interface Health {
  ok: boolean;
  tiers: TierHealth[];
}

/** The Bloom filter of one source. */
export interface BloomFigures {
  /** The pattern of the source. */
  pattern: string;
  /**
   * `"building"`: there is none yet, every key may exist. `"serving"`: it answers. `"open"`: a writer could not reach it,
   * every key may exist until it is built anew. `"lost"`: Redis does not have it as it should be; it is built anew.
   */
  state: "building" | "serving" | "open" | "lost";
  /** Counts the times that it was built. */
  generation: number;
  /** Keys that it is made for. */
  capacity: number;
  /** The part of its bits that are set, as last seen. */
  fill: number;
  /** Of keys that do not exist, the part that is "maybe", as the fill says. */
  errorRate: number;
  /** Questions that this process answered with "no". */
  noes: number;
}

/** The engine's own figures since it was opened. Counts only grow; those from `pendingCells` on are of this moment. */
export interface Stats {
  /** Reads and peeks answered by process memory, cached absences included. */
  l1Hits: number;
  /** Reads answered by Redis, cached absences included. */
  l2Hits: number;
  /** Reads answered by a cached absence in either tier. */
  absentHits: number;
  /** Reads that neither tier could answer. */
  misses: number;
  /** Source queries sent to PostgreSQL. */
  sourceLoads: number;
  /** Source queries that failed. */
  sourceErrors: number;
  /** Values from a source that were longer than `max_value_bytes`: given to the caller, not cached. */
  oversizedLoads: number;
  /** Reads that waited for another caller's load of the same key. */
  joinedLoads: number;
  /** Misses of keys that no source covers. */
  unsourcedMisses: number;
  /** Misses of keys that a source covers but whose parts do not parse; such keys are absent. */
  unparsableMisses: number;
  /** Values and absences that were cached after a source was read. */
  cacheFills: number;
  /**
   * Values and absences of a source that were not cached: the key was being written, or another process was
   * loading it.
   */
  fillsRefused: number;
  /** Reads that waited for another process's load of the same key. */
  leaseWaits: number;
  /** Changes of a key that the other processes were told of. */
  invalidationsSent: number;
  /** Keys of which other processes said that they have changed. */
  invalidationsReceived: number;
  /** Times that the connection on which this process hears the others was lost. */
  busLosses: number;
  /** Keys that this process dropped for transactions which had been committed while Redis was away. */
  outboxRelayed: number;
  /** Whether the other processes are heard, so that the caches are read. */
  coherent: boolean;
  /** From the sending of a message on the bus to its coming back, in milliseconds: half of them took no longer. */
  busP50Ms: number;
  /** The same for 999 of a thousand. */
  busP999Ms: number;
  /** How long Redis took to answer a read, in milliseconds: half of them took no longer. Quantiles are right to a quarter. */
  l2P50Ms: number;
  /** The same for 99 of a hundred. */
  l2P99Ms: number;
  /** How long PostgreSQL took to answer a source query, in milliseconds: half of them took no longer. */
  sourceP50Ms: number;
  /** The same for 99 of a hundred. */
  sourceP99Ms: number;
  /** How long a read waited for another process's load of its key, in milliseconds: half of them waited no longer. */
  leaseWaitP50Ms: number;
  /** The same for 99 of a hundred. */
  leaseWaitP99Ms: number;
  /** Reads that were given the last good value: the source or loader failed, or took longer than its soft timeout. */
  staleServed: number;
  /** Values that were loaded anew before they ended. */
  refreshes: number;
  /** Loads that callers of `getOrLoad` ran. */
  callerLoads: number;
  /** Times that a server was left alone because it had failed `breakerFailures` times in a row. */
  breakerOpenings: number;
  /** Whether the cache's Redis is asked: it is, it is left alone, or it is being tried. */
  redisBreaker: "closed" | "open" | "half_open";
  /** The same of PostgreSQL, for sources. */
  sourceBreaker: "closed" | "open" | "half_open";
  /** Values put into the caches by a write. */
  cacheWrites: number;
  /** Keys dropped from the caches. */
  cacheDrops: number;
  /** Redis commands that failed. */
  l2Errors: number;
  /** Redis entries that could not be understood and were treated as misses. */
  l2Undecodable: number;
  /** Values that process memory gave up for room. */
  l1Evictions: number;
  /** Values that process memory did not take in because their key, or one beside it, was written meanwhile. */
  l1Refused: number;
  /** Aggregated writes that were applied, dead ones included. */
  batchOperations: number;
  /** Rows that they changed. */
  batchRows: number;
  /** Statements that changed them. */
  batchStatements: number;
  /** Flushes that were committed. */
  flushes: number;
  /** Tries to flush that failed; the same batch was sent again. */
  flushFailures: number;
  /** Milliseconds that the committed flushes took, summed. */
  flushMs: number;
  /** Aggregated changes that found no row. */
  zeroRowUpdates: number;
  /** Aggregated writes that the database refused; see the dead letters. */
  batchDead: number;
  /** Aggregated writes that waited for room. */
  batchWaits: number;
  /** Aggregated writes that were not accepted, because there was no room in time. */
  batchOverloads: number;
  /** Journals of ended processes that this one applied. */
  journalsAdopted: number;
  /** Journals that this process leaves alone: damaged, or of another database. */
  journalsRefused: number;
  /** Aggregated writes that were applied for each row changed; 0 before the first flush. */
  aggregationRatio: number;
  /** Distinct rows with pending aggregated writes. */
  pendingCells: number;
  /** Memory of pending aggregated writes. */
  pendingBytes: number;
  /** Disk space of this process's journal; memory in class `memory`. */
  journalBytes: number;
  /** Age of the oldest pending aggregated write in milliseconds. */
  oldestPendingMs: number;
  /** Duration of the last committed flush in milliseconds. */
  lastFlushMs: number;
  /**
   * Delayed writes whose time is still to come. These figures of the queue are of all processes, and a second old at most
   * while this process uses it.
   */
  queueScheduled: number;
  /** Delayed writes that could run now. */
  queueDue: number;
  /** Delayed writes in line behind an earlier one of their key. */
  queueWaiting: number;
  /** Delayed writes that a worker has. */
  queueLeased: number;
  /** For how long the oldest due one could have run, in milliseconds. */
  queueOldestDueMs: number;
  /** Whether the queue is paused. */
  queuePaused: boolean;
  /** Delayed writes that had their effect, since the queue was made. */
  queueDone: number;
  /** Tries of delayed writes that failed and were repeated. */
  queueRetried: number;
  /** Delayed writes that became dead letters. */
  queueDead: number;
  /** Delayed writes that a later one of their key replaced. */
  queueReplaced: number;
  /** Delayed writes that were taken back. */
  queueCancelled: number;
  /** Delayed writes whose content was gone when it was their turn: somebody has been at the keys in Redis. */
  queueDamaged: number;
  /** Times that this process found that Redis had lost accepted writes. */
  queueLosses: number;
  /**
   * From the time that a delayed write was due to its end, in milliseconds: half of those that this process ran took no
   * longer.
   */
  queueP50Ms: number;
  /** The same for 99 of a hundred. */
  queueP99Ms: number;
  /** Keys that a Bloom filter said "no" to in this process, for `get`, `getMany` and `dbHit`. */
  bloomNoes: number;
  /** The Bloom filters of the declared sources. */
  bloom: BloomFigures[];
  /** Values and absences in process memory. */
  l1Entries: number;
  /** Bytes in process memory, keys and overhead counted. */
  l1Bytes: number;
  /** Open PostgreSQL connections. */
  poolSize: number;
  /** Open PostgreSQL connections that nobody uses. */
  poolIdle: number;
  /** Callers that wait for a PostgreSQL connection. */
  poolWaiting: number;
}

/** What `migrate` did. */
export interface MigrationReport {
  /** Names applied now, in order. */
  applied: string[];
  /** Names that had been applied before. */
  skipped: string[];
}
