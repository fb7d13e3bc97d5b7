// Configuration: reading it is native, here is only its shape.

import { inspect } from "node:util";

import { ConfigError, throwing } from "./errors";
import { native, type SettingsHandle } from "./native";

/** A duration: milliseconds, or `"500ms"`, `"5s"`, `"10m"`, `"24h"`. */
export type Duration = number | string;

/** Settings of an engine. Every one has a default except `postgresDsn`; environment variables `ZMSG_…` come second. */
export interface Settings {
  /** PostgreSQL as a URL: `"postgresql://user:password@host/database?sslmode=verify-full"`. */
  postgresDsn?: string;
  /** Cache Redis: `"host:6379"`, `redis://`, `rediss://`, `unix://`, or the nodes of a cluster; `null` runs without. Default `"localhost:6379"`. */
  redisAddr?: string | readonly string[] | null;
  /** Bytes held by process memory, keys and overhead counted. Default 104857600. */
  l1MaxCost?: number;
  /** Longest stay of a value in process memory. Default `"60s"`. */
  l1Ttl?: Duration;
  /** Life of a cached value whose call names none; `"never"` has no end. Default `"24h"`. */
  defaultTtl?: Duration;
  /** Life of a cached absence. Default `"30s"`. */
  absentTtl?: Duration;
  /** TTLs are moved by up to ± this fraction. Default 0.05. */
  ttlJitter?: number;
  /** How long a value is kept past its life, to be served if its source fails. Default 0, which is not at all. */
  staleTtl?: Duration;
  /** How long a read waits for the source while there is a kept value. Default 0, which is as long as it takes. */
  sourceSoftTimeout?: Duration;
  /** In which last part of its life a value is loaded anew, 0 to 0.9. Default 0, which is never. */
  refreshAhead?: number;
  /** Failures in a row after which a server is left alone. Default 0, which is never. */
  breakerFailures?: number;
  /** How long a server that keeps failing is left alone. Default `"5s"`. */
  breakerPause?: Duration;
  /** Longest time that a cut-off process serves what another one has overwritten. Default `"2s"`. */
  coherenceBound?: Duration;
  /** How long a read waits for another process that loads the same key. Default `"2s"`. */
  leaseWait?: Duration;
  /** What a write to the database does while Redis cannot be told of it. Default `"available"`. */
  onCacheDown?: "available" | "strict";
  /** Prefix of every Redis key. Default `"zmsg"`. */
  namespace?: string;
  /** Longest key in bytes. Default 1 KiB. */
  maxKeyBytes?: number;
  /** Largest cached value in bytes. Default 16 MiB. */
  maxValueBytes?: number;
  /** Time to reach a server. Default `"5s"`. */
  connectTimeout?: Duration;
  /** Time of a call that names none. Default `"30s"`. */
  timeout?: Duration;
  /** Time of one Redis command before the tier counts as away. Default `"1s"`. */
  redisTimeout?: Duration;
  /** PostgreSQL connections. Default 10. */
  poolSize?: number;
  /** Source queries in flight at once. Default 32. */
  sourceConcurrency?: number;
  /** Keys that a Bloom filter is first made for. Default 1,000,000. */
  bloomCapacity?: number;
  /** Of the keys that do not exist, the part that a Bloom filter lets through. Default 0.01. */
  bloomErrorRate?: number;
  /** Whether `open` succeeds when a server is away. Default false. */
  startDegraded?: boolean;
  /** Whether the engine's own tables migrate themselves at open. Default true. */
  autoMigrate?: boolean;
  /** Time that a granted node id is good for. Default `"10m"`. */
  idGrant?: Duration;
  /** PEM file of the CA that signed the servers' certificates. Default: the system's. */
  tlsCa?: string;
  /** PEM file of the client certificate. */
  tlsCert?: string;
  /** PEM file of the client key. */
  tlsKey?: string;
  /** How often aggregated writes go out. Default `"5s"`. */
  batchInterval?: Duration;
  /** Distinct rows that trigger an early flush. Default 1000. */
  batchSize?: number;
  /** Memory for aggregated writes that wait for PostgreSQL; at the bound calls wait. Default 256 MiB. */
  batchMaxBytes?: number;
  /** How long an aggregated write may fail with what usually passes (a lock, a conflict) before it is a dead letter. Default `"10m"`. */
  batchGiveUpAfter?: Duration;
  /** How long an aggregated write waits for room before it fails with `OverloadedError`. Default `"5s"`. */
  overloadTimeout?: Duration;
  /** What acknowledged aggregated writes survive: a kill -9, a loss of power as well, or nothing. Default `"journal"`. */
  journal?: "journal" | "journal_fsync" | "memory";
  /** Folder of the journals, one for each database. Default: under the user's state directory, named after the database. */
  journalDir?: string;
  /** Disk space in bytes of this process's journal; at the bound calls wait. Default 1 GiB. */
  journalMaxBytes?: number;
  /** How long applied parts of the journal are kept, should the database lose them. Default `"10m"`. */
  journalRetain?: Duration;
  /** The delay queue. */
  queue?: {
    /** Its Redis. Default: `redisAddr`. */
    addr?: string | readonly string[];
    /** Delayed writes that run at once in this process. Default 10. */
    concurrency?: number;
    /** Delay of a write whose call names none. Default `"1s"`. */
    taskDelay?: Duration;
    /** Whether this process runs delayed writes; without, it only accepts them. Default true. */
    worker?: boolean;
    /** After how long the delayed writes of a process that went away run elsewhere. Default `"10s"`. */
    lease?: Duration;
    /** Time of one try of a write whose call names none. Default `"30s"`. */
    taskTimeout?: Duration;
    /** How often a write is tried again before it is a dead letter; an absent server does not count. Default 20. */
    retryMax?: number;
    /** Whether the Redis may be one that evicts keys, and so loses delayed writes without a word. Default false. */
    allowEviction?: boolean;
    /** What a write does that Redis did not accept: fail, or run at once, out of order. Default `"error"`. */
    fallback?: "error" | "sync";
  };
  /** How long PostgreSQL remembers which delayed writes were done; older ones are dead letters. Default `"168h"`. */
  doneRetention?: Duration;
  /** How int8 columns come back; a number that is not exact raises. Default `"bigint"`. */
  int8?: "bigint" | "string" | "number";
  /** How timestamps come back; strings keep microseconds. Default `"date"`. */
  timestamps?: "date" | "string";
}

// An own enumerable property, so that { ...config, poolSize: 5 } keeps the settings that were read.
const handleOf = Symbol.for("zmsg.settings");

/** Settings that were read and checked; {@link loadConfig} makes one. Spread it to change some: `{ ...config, poolSize: 5 }`. */
export class Config {
  /** @internal */
  readonly [handleOf]: SettingsHandle;

  /** @internal */
  constructor(handle: SettingsHandle) {
    this[handleOf] = handle;
  }

  /** Every setting, for people: passwords are left out. */
  describe(): Record<string, unknown> {
    const described = throwing(() => native.configDescribe(this[handleOf]));
    return camelKeys(JSON.parse(described)) as Record<string, unknown>;
  }

  /** {@link describe}. */
  toJSON(): Record<string, unknown> {
    return this.describe();
  }

  /** @internal */
  [inspect.custom](): unknown {
    return { Config: this.describe() };
  }
}

/**
 * Reads a YAML file and the environment, and checks both.
 *
 * @throws {@link ConfigError} naming the key, where it came from and what would be right.
 */
export function loadConfig(path: string): Config {
  return new Config(readSettings(path));
}

/** @internal The settings that `Zmsg.open` was given: a path, an object, a {@link Config} or nothing. */
export function readSettings(given: unknown): SettingsHandle {
  if (given === undefined) return throwing(() => native.configRead(undefined, undefined, "{}"));
  if (typeof given === "string") return throwing(() => native.configRead(given, undefined, "{}"));
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    const shown = given === null ? "null" : Array.isArray(given) ? "an array" : typeof given;
    throw new ConfigError(`a configuration is a path or an object of settings, not ${shown}`);
  }
  const base = (given as Partial<Config>)[handleOf];
  let args: string;
  try {
    args = JSON.stringify(given instanceof Config ? {} : given, refuseSilentLoss);
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError("the configuration holds what JSON cannot", { cause });
  }
  return throwing(() => native.configRead(undefined, base, args));
}

/** Refuses what JSON would turn into something else without a word. */
function refuseSilentLoss(key: string, value: unknown): unknown {
  if (typeof value === "function" || typeof value === "symbol" || typeof value === "bigint") {
    throw new ConfigError(`the setting ${key} is a ${typeof value}`);
  }
  if (typeof value === "number" && !Number.isFinite(value)) throw new ConfigError(`the setting ${key} is ${value}`);
  return value;
}

/** @internal The same with camelCase keys, all the way down. */
export function camelKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelKeys);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [camelCase(key), camelKeys(inner)] as const);
  return Object.fromEntries(entries);
}

const camelCase = (name: string) => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
