// What goes into a verb and what comes out.

import type { CallOptions } from "./calls";
import type { Duration, Settings } from "./config";
import type { Logger } from "./log";
import type { Row } from "./values";

/** What {@link Zmsg.open} takes beside settings. */
export interface OpenOptions extends Settings {
  /**
   * Where the engine's log lines go; `console`, pino and winston fit. Engines of one process share one log: a logger
   * hears the lines of all of them.
   */
  logger?: Logger;
}

/** Options of a read. */
export interface GetOptions extends CallOptions {
  /** Reject with `NotFoundError` where the key is absent. */
  required?: boolean;
}

/** Options of a write to the cache alone. */
export interface CacheOptions extends CallOptions {
  /** Life of the cached value: milliseconds, `"10m"`, or `"never"`. Default: the configuration's `defaultTtl`. */
  ttl?: Duration;
}

/** Options of a write that a task goes with. */
export interface StoreOptions extends CallOptions {
  /** Further keys that the task changes; they are dropped from every cache after the commit. */
  invalidates?: readonly string[];
}

/** Options of a write to the database and the cache. */
export interface CacheAndStoreOptions extends CacheOptions, StoreOptions {}

/** Options of an aggregated write. */
export interface PeriodicOptions extends CacheOptions, StoreOptions {}

/** Options of a source. */
export interface SourceOptions {
  /** Life of a value read from the database. Default: the configuration's `defaultTtl`. */
  ttl?: Duration;
  /** Life of an absence. Default: the configuration's `absentTtl`. */
  absentTtl?: Duration;
}

/** What statements did. */
export interface ExecResult<T = Row> {
  /** Rows inserted, updated, deleted or selected, summed over the tasks. */
  rowsAffected: number;
  /** Rows of RETURNING or SELECT, of all tasks in order. */
  rows: T[];
}

/**
 * What an accepted write survives. `"postgres"`: its COMMIT was seen. `"journal"`: a kill of the process;
 * `"journal_fsync"`: a loss of power as well; `"memory"`: neither.
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
   * Resolves when the effect is committed, or rejects with what became of it. Without options it waits for the flush as
   * long as that takes; `timeout` and `signal` end the wait alone: the write stays where it is and will be applied.
   *
   * @throws {@link TimeoutError} with the `opId` if the write was not flushed in time.
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

/** An aggregated write that the database refused after it had been accepted. */
export interface DeadLetter {
  /** For `retryDead` and `dropDead`. */
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
