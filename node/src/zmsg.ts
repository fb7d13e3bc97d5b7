import { isUtf8 } from "node:buffer";

import { CALL, calls, checkedTime, checkOptions, start, type CallOptions } from "./calls";
import { camelKeys, readSettings, type Config } from "./config";
import { checkedText, checkedTexts, encodeData, type Data } from "./data";
import { CacheError, ConfigError, revived, TaskError, throwing } from "./errors";
import { Front, own } from "./front";
import { renew, runSoftly, type Loaded } from "./loading";
import { Lock } from "./locks";
import { addLogger, type Logger } from "./log";
import { Migrations } from "./migrations";
import {
  native,
  type EngineHandle,
  type LockHandle,
  type NativeAccepted,
  type NativeBegun,
  type NativeCall,
  type NativeDelay,
  type NativeExec,
  type NativeLife,
  type NativeLists,
  type NativeOpened,
  type NativeRead,
  type NativeReceipt,
  type NativeRows,
  type NativeValues,
} from "./native";
import { Accepted, committed } from "./receipts";
import { cellHandle, taskHandle, tasksHandle, type TaskLike, type Tasks } from "./sql";
import type {
  CacheAndDelayOptions,
  CacheAndStoreOptions,
  CacheOptions,
  Cancelled,
  DeadLetter,
  DeadLettersOptions,
  DelayOptions,
  Durability,
  ExecResult,
  FlushReport,
  GetOptions,
  Health,
  IncrOptions,
  LifeOptions,
  LoadOptions,
  LockOptions,
  OpenOptions,
  PeriodicOptions,
  ReadOptions,
  Receipt,
  RetryReport,
  SourceOptions,
  Stats,
  StoreOptions,
  TouchOptions,
} from "./types";
import { decodeOne, decodeRows, type Int8Format, type Row } from "./values";

// The options that each kind of verb knows.
const READ = new Set([...CALL, "stale", "softTimeout"]);
const GET = new Set([...READ, "required"]);
const TOUCH = new Set([...CALL, "ttl"]);
const CACHE = new Set([...TOUCH, "tags"]);
const INCR = new Set([...TOUCH, "by"]);
const LOCK = new Set(["ttl", "wait", "signal"]);
const STORE = new Set([...CALL, "invalidates", "bloomKeys"]);
const CACHE_AND_STORE = new Set([...CACHE, ...STORE]);
const DELAY = new Set([...STORE, "delay", "opId", "coalesce", "taskTimeout"]);
const CACHE_AND_DELAY = new Set([...DELAY, "ttl", "tags"]);
const DEAD_LETTERS = new Set([...CALL, "after", "limit"]);
const LIFE = ["ttl", "absentTtl", "staleTtl", "softTimeout"];
const LOAD = new Set([...CALL, ...LIFE]);
const SOURCE = new Set([...LIFE, "refreshAhead", "bloom", "keys"]);

/**
 * An open engine: reads from process memory, then Redis, then PostgreSQL; writes to PostgreSQL and the caches, at once,
 * delayed or aggregated.
 *
 * ```ts
 * await using zm = await Zmsg.open({ postgresDsn, redisAddr });
 * zm.source("feed_*", sql("SELECT content FROM feeds WHERE id = ?"));
 * const id = zm.nextId("feed");
 * await zm.cacheAndStore(id, "hello", sql("INSERT INTO feeds (id, content) VALUES (?, ?)", id, "hello"));
 * await zm.getText(id); // "hello"
 * ```
 * Methods that do I/O return promises and never throw by themselves; the others throw. Every error is a `ZmsgError`,
 * except the reason of an aborted signal. An engine that was not closed does not keep the process alive.
 */
export class Zmsg implements AsyncDisposable {
  readonly #engine: EngineHandle;
  readonly #front: Front;
  readonly #int8: Int8Format;
  readonly #journal: Durability;
  readonly #removeLogger: () => void;

  /** @internal */
  private constructor(opened: NativeOpened, removeLogger: () => void) {
    this.#engine = opened.engine;
    this.#front = new Front(opened);
    this.#int8 = opened.int8;
    this.#journal = opened.journal;
    this.#removeLogger = removeLogger;
  }

  /**
   * Connects to the servers, migrates the engine's own tables and takes a node id.
   *
   * @param config Path of a YAML file, an object of settings, or what `loadConfig` gave. Settings win over the
   * environment (`ZMSG_POSTGRES_DSN` …), the environment over the file.
   * @throws {@link ConfigError} for a setting; {@link StoreError} or {@link CacheError} naming host and port for a
   * server that cannot be reached within `connectTimeout`.
   */
  static async open(config?: string | OpenOptions | Config, options?: CallOptions): Promise<Zmsg> {
    const { logger, settings } = withoutLogger(config);
    const handle = readSettings(settings);
    const removeLogger = logger ? addLogger(calls, logger) : () => undefined;
    try {
      const opened = await start<NativeOpened>(options, (call) => native.open(calls, call, handle));
      return new Zmsg(opened, removeLogger);
    } catch (error) {
      removeLogger();
      throw error;
    }
  }

  /**
   * Refuses new calls, lets those in flight end, flushes aggregated writes, and gives the node id back. Closing twice is
   * fine; calls on a closed engine are rejected with `ClosedError`. Aggregated writes of a process that ends without it
   * stay in the journal, and the next process that opens the same database applies them. Delayed writes stay in the queue,
   * for any process with a worker.
   */
  async close(options?: CallOptions): Promise<void> {
    try {
      await this.#start<void>(options, CALL, (call) => {
        this.#front.end();
        native.close(this.#engine, call);
      });
    } finally {
      this.#removeLogger();
    }
  }

  /** {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return native.isClosed(this.#engine);
  }

  /**
   * Reads a key: process memory, Redis, then the source declared for its family. Gives exactly the bytes that were
   * written, in a Buffer that is yours to change; `undefined` if the key is absent. The memory of a small one is a part of
   * 32 KiB that others lie in: it cannot be transferred to another thread, and who keeps it for long keeps those as well,
   * unless it is copied with `Buffer.from`.
   */
  get(key: string, options: GetOptions & { required: true }): Promise<Buffer>;
  get(key: string, options?: GetOptions): Promise<Buffer | undefined>;
  get(key: string, options?: GetOptions): Promise<Buffer | undefined> {
    if (options === undefined) {
      try {
        const hit = this.#hit(key);
        if (hit !== null) return Promise.resolve(hit);
      } catch (error) {
        return Promise.reject(revived(error));
      }
    }
    return this.#start(options, GET, (call) =>
      native.get(this.#engine, call, checkedText(key, "key"), options?.required === true, readOf(options)),
    );
  }

  /** {@link get}, decoded from JSON. The type is what you say: nothing checks it. */
  getJson<T = unknown>(key: string, options: GetOptions & { required: true }): Promise<T>;
  getJson<T = unknown>(key: string, options?: GetOptions): Promise<T | undefined>;
  async getJson<T>(key: string, options?: GetOptions): Promise<T | undefined> {
    const found = await this.get(key, options);
    if (found === undefined) return undefined;
    try {
      return JSON.parse(found.toString("utf8")) as T;
    } catch {
      // Without a cause: its message quotes the value.
      throw new TaskError(`the value of ${JSON.stringify(key)} is not JSON; read it with get() or getText()`);
    }
  }

  /** {@link get}, as text. */
  getText(key: string, options: GetOptions & { required: true }): Promise<string>;
  getText(key: string, options?: GetOptions): Promise<string | undefined>;
  async getText(key: string, options?: GetOptions): Promise<string | undefined> {
    const found = await this.get(key, options);
    if (found !== undefined && !isUtf8(found)) {
      throw new TaskError(`the value of ${JSON.stringify(key)} is not UTF-8 text; read it with get()`);
    }
    return found?.toString("utf8");
  }

  /**
   * The bytes under a key; if nobody has them, what the loader gives, which is cached. Of all calls for a key at the same
   * time, in all processes on one Redis, one runs its loader, and the others get what it gave.
   *
   * ```ts
   * const profile = await zm.getOrLoad(`user:${id}`, () => fetchProfile(id), { ttl: "10m", staleTtl: "1h" });
   * ```
   * `null` and `undefined` are an absence, and cached as one. Nothing is cached if the key is written or dropped while the
   * loader runs, be it by the loader itself. A loader must not load its own key. With `staleTtl` the last good value is
   * given if the loader fails or takes longer than `softTimeout`; it goes on then.
   *
   * @throws what the loader threw, in the call that ran it; a {@link StoreError} with its text in those that waited. A
   * call whose `signal` fires leaves the load to one of them.
   */
  async getOrLoad(
    key: string,
    loader: () => Promise<Loaded> | Loaded,
    options?: LoadOptions,
  ): Promise<Buffer | undefined> {
    if (typeof loader !== "function") throw new TaskError(`the loader is a function, not ${typeof loader}`);
    const begun = await this.#start<NativeBegun>(options, LOAD, (call) =>
      native.getOrBegin(this.#engine, call, checkedText(key, "key"), lifeOf(options)),
    );
    if (begun.load === undefined) return begun.value;
    if (!begun.found) return runSoftly(this.#engine, begun.load, begun.softMs, loader, options?.signal);
    renew(this.#engine, begun.load, loader);
    return begun.value;
  }

  /** Reads many keys with one trip per tier. Absent keys are not in the map; the others are in the order given. */
  async getMany(keys: Iterable<string>, options?: ReadOptions): Promise<Map<string, Buffer>> {
    const wanted = listOfKeys(keys);
    const found = await this.#start<(Buffer | undefined)[]>(options, READ, (call) =>
      native.getMany(this.#engine, call, wanted, readOf(options)),
    );
    const map = new Map<string, Buffer>();
    wanted.forEach((key, index) => {
      const value = found[index];
      if (value !== undefined) map.set(key, value);
    });
    return map;
  }

  /**
   * Whether the database may have the key. `false` is certain: no committed write of zmsg has made such a row. `true` is
   * not: the key's family has no Bloom filter, or it is being built, or cannot be reached, or the key is one of the
   * `bloomErrorRate`.
   */
  dbHit(key: string, options?: CallOptions): Promise<boolean> {
    return this.#start<boolean>(options, CALL, (call) => native.dbHit(this.#engine, call, checkedText(key, "key")));
  }

  /**
   * The value if process memory has it right now, without I/O. Treat the Buffer as read-only: today it is a copy, and
   * a later version may hand out shared memory.
   */
  peek(key: string): Buffer | undefined {
    return throwing(() => this.#hit(key)) ?? undefined;
  }

  /** What process memory has: a Buffer of the caller's own, `undefined` for a known absence, `null` for nothing. */
  #hit(key: string): Buffer | undefined | null {
    const copy = this.#front.find(key);
    if (copy !== null) return copy && own(copy);
    const found = native.peek(this.#engine, checkedText(key, "key"));
    if (found === null) return null;
    const data = found || undefined;
    return this.#front.offer(key, data) && data ? own(data) : data;
  }

  /** Puts a value into the caches, and nowhere else. */
  cacheOnly(key: string, data: Data, options?: CacheOptions): Promise<void> {
    return this.#start(options, CACHE, (call) => {
      const [name, bytes, ttl] = [checkedText(key, "key"), neededData(data), checkedTime(options?.ttl, "ttl")];
      native.cacheOnly(this.#engine, call, name, bytes, ttl, tagsOf(options));
    });
  }

  /**
   * Runs the tasks in PostgreSQL, then caches `data` under `key`. A failed statement leaves no trace in any cache.
   *
   * @param key `null` if the tasks concern no cached key.
   * @param data `null` caches nothing: the key is dropped from every cache, since what they hold is older than the row.
   */
  async cacheAndStore<T = Row>(
    key: string | null,
    data: Data | null,
    tasks: Tasks,
    options?: CacheAndStoreOptions,
  ): Promise<Receipt<T>> {
    const done = await this.#start<NativeReceipt>(options, CACHE_AND_STORE, (call) =>
      native.cacheAndStore(
        this.#engine,
        call,
        keyOrNull(key),
        encodeData(data),
        tasksHandle(tasks),
        checkedTime(options?.ttl, "ttl"),
        listsOf(options),
      ),
    );
    return committed<T>(done, this.#int8);
  }

  /**
   * Accepts the tasks for the next flush, and caches `data` under `key` now. Operations of builders on one cell are
   * composed: five hundred `inc(1)` become one `+ 500`. What is acknowledged survives what the setting `journal` says.
   *
   * ```ts
   * const view = counter("feed_meta", "view_count").inc(1).where("id = ?", bind).prepare();
   * await zm.cacheAndPeriodicStore(null, null, view(id));
   * ```
   * Flushes come every `batchInterval`, with `batchSize` distinct rows, and at `close`. Tasks that read or return rows
   * are refused; a list is accepted and applied as one.
   *
   * @param key `null` if the tasks concern no cached key.
   * @param data `null` leaves the caches as they are until the flush; after its COMMIT the key is dropped from all of
   * them, unless they still hold the value cached with it.
   * @throws {@link OverloadedError} if there was no room within `overloadTimeout`; nothing was accepted then.
   */
  cacheAndPeriodicStore(
    key: string | null,
    data: Data | null,
    tasks: Tasks,
    options?: PeriodicOptions,
  ): Promise<Receipt> {
    if (data === null && options === undefined) {
      try {
        const accepted = native.periodicNow(this.#engine, keyOrNull(key), tasksHandle(tasks));
        if (accepted) return Promise.resolve(new Accepted(this.#engine, accepted, this.#journal, true));
      } catch (error) {
        return Promise.reject(revived(error));
      }
    }
    return this.#periodic(key, data, tasks, options);
  }

  /**
   * Accepts the tasks for the queue in Redis, and caches `data` under `key` now. They run in one transaction after the
   * delay, once, in whichever process has a worker; writes of one key in the order in which they were accepted.
   *
   * ```ts
   * const publish = sql("UPDATE posts SET published = true WHERE id = ?", id);
   * const { opId } = await zm.cacheAndDelayStore(id, null, publish, { delay: "10m" });
   * await zm.cancelDelayed(opId); // "cancelled"
   * ```
   * @param key `null` if the tasks concern no cached key; such writes have no order.
   * @param data `null` leaves the caches as they are until then; after the COMMIT the key is dropped from all of them,
   * unless they hold the value of this write or of a later one.
   * @throws {@link QueueError} if Redis did not accept it, or nobody knows: a call with the same `opId` finds out.
   */
  async cacheAndDelayStore(
    key: string | null,
    data: Data | null,
    tasks: Tasks,
    options?: CacheAndDelayOptions,
  ): Promise<Receipt> {
    const accepted = await this.#start<NativeAccepted>(options, CACHE_AND_DELAY, (call) =>
      native.cacheAndDelayStore(
        this.#engine,
        call,
        keyOrNull(key),
        encodeData(data),
        tasksHandle(tasks),
        delayOf(options),
      ),
    );
    return this.#accepted(accepted);
  }

  /** {@link cacheAndDelayStore} for a key that is dropped from every cache, now and again after the COMMIT. */
  async delDelayStore(key: string | null, tasks: Tasks, options?: DelayOptions): Promise<Receipt> {
    const accepted = await this.#start<NativeAccepted>(options, DELAY, (call) =>
      native.delDelayStore(this.#engine, call, keyOrNull(key), tasksHandle(tasks), delayOf(options)),
    );
    return this.#accepted(accepted);
  }

  /** Takes back a delayed write that no worker has begun, and says whether that was so. */
  cancelDelayed(opId: string, options?: CallOptions): Promise<Cancelled> {
    return this.#start(options, CALL, (call) => native.cancelDelayed(this.#engine, call, checkedText(opId, "opId")));
  }

  /** Keeps the workers of all processes from beginning a delayed write. Writes are accepted all the same. */
  pauseQueue(options?: CallOptions): Promise<void> {
    return this.#start(options, CALL, (call) => native.pauseQueue(this.#engine, call));
  }

  /** Lets the workers go on. */
  resumeQueue(options?: CallOptions): Promise<void> {
    return this.#start(options, CALL, (call) => native.resumeQueue(this.#engine, call));
  }

  /** Flushes the aggregated writes that were accepted so far, and says what that did. */
  async flush(options?: CallOptions): Promise<FlushReport> {
    const report = await this.#start<string>(options, CALL, (call) => native.flush(this.#engine, call));
    return camelKeys(JSON.parse(report)) as FlushReport;
  }

  /**
   * The value of the cell that a builder is about, as it will be once everything pending in this process is flushed. The
   * builder needs no operation; those that it has are not applied. `undefined` if the row is missing and nothing pending
   * makes it.
   *
   * It comes as {@link query} gives a column, but that integers of every width are as the setting `int8` says.
   */
  async pending<T = unknown>(task: TaskLike, options?: CallOptions): Promise<T | undefined> {
    const found = await this.#start<NativeValues | undefined>(options, CALL, (call) =>
      native.pending(this.#engine, call, cellHandle(task)),
    );
    return found && decodeOne<T>(found, this.#int8, "pending");
  }

  /**
   * What the database refused after it had been accepted, by any process on it, oldest first: at most `limit` letters with
   * ids above `after`.
   */
  deadLetters(options?: DeadLettersOptions): Promise<DeadLetter[]> {
    return this.#start(options, DEAD_LETTERS, (call) =>
      native.deadLetters(this.#engine, call, afterId(options?.after ?? 0), checkedLimit(options?.limit ?? 10_000)),
    );
  }

  /** Runs a dead letter again and deletes it, in one transaction. If the database refuses again, it stays. */
  retryDead(id: bigint | number, options?: CallOptions): Promise<void> {
    return this.#start(options, CALL, (call) => native.retryDead(this.#engine, call, letterId(id)));
  }

  /**
   * Runs all dead letters again that are there when it begins, oldest first, each in its own transaction. Letters that are
   * refused again are counted and stay. `timeout` is that of each letter, not of all together; when `signal` fires or the
   * engine is closed it ends between two letters.
   *
   * @throws {@link StoreError} or {@link TimeoutError} if the server is away or a letter could not be run in time; the
   * message says which and what was done before. The letters behind were not touched. Calling again begins anew with the
   * oldest, so a letter that is never done in time has to be dropped, or run by itself with more.
   */
  async retryAllDead(options?: CallOptions): Promise<RetryReport> {
    const report = await this.#start<string>(options, CALL, (call) => native.retryAllDead(this.#engine, call));
    return camelKeys(JSON.parse(report)) as RetryReport;
  }

  /** Deletes a dead letter without running it. */
  dropDead(id: bigint | number, options?: CallOptions): Promise<void> {
    return this.#start(options, CALL, (call) => native.dropDead(this.#engine, call, letterId(id)));
  }

  /** Drops a key from every cache. The database keeps its row: the next `get` reads it again. */
  del(key: string, options?: CallOptions): Promise<void> {
    return this.#start(options, CALL, (call) => native.del(this.#engine, call, checkedText(key, "key")));
  }

  /** Runs the tasks in PostgreSQL, then drops the key from every cache. */
  async delStore<T = Row>(key: string | null, tasks: Tasks, options?: StoreOptions): Promise<Receipt<T>> {
    const done = await this.#start<NativeReceipt>(options, STORE, (call) =>
      native.delStore(
        this.#engine,
        call,
        keyOrNull(key),
        tasksHandle(tasks),
        checkedTexts(options?.invalidates ?? [], "invalidates"),
        checkedTexts(options?.bloomKeys ?? [], "bloomKeys"),
      ),
    );
    return committed<T>(done, this.#int8);
  }

  /**
   * Puts a value into the caches if there is none; says whether it did. A cached absence is none. The database is not asked.
   * While a write of the key is under way nothing happens.
   */
  add(key: string, data: Data, options?: CacheOptions): Promise<boolean> {
    return this.#start(options, CACHE, (call) => {
      const [name, bytes, ttl] = [checkedText(key, "key"), neededData(data), checkedTime(options?.ttl, "ttl")];
      native.add(this.#engine, call, name, bytes, ttl, tagsOf(options));
    });
  }

  /** Gives what is cached under a key a new life, counted from now; says whether there was a value. */
  touch(key: string, options?: TouchOptions): Promise<boolean> {
    return this.#start(options, TOUCH, (call) =>
      native.touch(this.#engine, call, checkedText(key, "key"), checkedTime(options?.ttl, "ttl")),
    );
  }

  /**
   * The milliseconds that are left of what is cached under a key; `"never"` if it does not expire, `undefined` if there is
   * no value. Without Redis it is what is left in process memory, which `l1Ttl` bounds.
   */
  ttl(key: string, options?: CallOptions): Promise<number | "never" | undefined> {
    return this.#start(options, CALL, (call) => native.ttlOf(this.#engine, call, checkedText(key, "key")));
  }

  /**
   * Adds `by` (1) to a counter in the caches and gives the sum: exact, 64 bits, atomic among all processes. It begins at 0,
   * and its value is the number as text. `ttl` is the life of a counter that this call makes; one that is there keeps its
   * end. The sum comes as the setting `int8` says.
   *
   * @throws {@link TaskError} if the value is no such number, or has tags, or the sum would exceed 64 bits: nothing has
   * changed. {@link CacheError} while a write of the key is under way, to be tried again, or if Redis failed: then nobody
   * knows whether it counted.
   */
  async incr<T = bigint>(key: string, options?: IncrOptions): Promise<T> {
    const sum = await this.#start<NativeValues>(options, INCR, (call) => {
      const [name, ttl] = [checkedText(key, "key"), checkedTime(options?.ttl, "ttl")];
      native.incr(this.#engine, call, name, step(options?.by ?? 1), ttl);
    });
    return decodeOne<T>(sum, this.#int8, "incr");
  }

  /** {@link cacheOnly} for many values at once: an object or a Map by key. */
  cacheMany(
    items: Readonly<Record<string, Data>> | Iterable<readonly [string, Data]>,
    options?: CacheOptions,
  ): Promise<void> {
    return this.#start(options, CACHE, (call) => {
      const pairs = pairsOf(items);
      const keys = pairs.map(([key]) => checkedText(key, "a key"));
      const data = pairs.map(([, value]) => neededData(value));
      native.cacheMany(this.#engine, call, keys, data, checkedTime(options?.ttl, "ttl"), tagsOf(options));
    });
  }

  /** {@link del} for many keys at once. */
  deleteMany(keys: Iterable<string>, options?: CallOptions): Promise<void> {
    return this.#start(options, CALL, (call) => native.deleteMany(this.#engine, call, listOfKeys(keys)));
  }

  /**
   * The keys that begin with `prefix` and have a value in Redis, in order. All keys of the server, or of every
   * master of a cluster, are walked over: for maintenance, not for requests.
   *
   * @throws {@link CacheError} if Redis failed, or while slots of the cluster are being moved; it may be tried again.
   */
  keys(prefix: string, options?: CallOptions): Promise<string[]> {
    return this.#start(options, CALL, (call) => native.keys(this.#engine, call, checkedText(prefix, "prefix")));
  }

  /**
   * Drops every key that begins with `prefix` from every cache; gives how many entries Redis had. The memory of every
   * process is emptied as a whole. All keys of the server, or of every master of a cluster, are walked over: for
   * maintenance.
   *
   * @throws {@link CacheError} if Redis failed, or while slots of the cluster are being moved; it may be tried again.
   */
  clear(prefix: string, options?: CallOptions): Promise<number> {
    return this.#start(options, CALL, (call) => native.clear(this.#engine, call, checkedText(prefix, "prefix")));
  }

  /**
   * Drops everything that was written with a tag from every cache, in one step, however much it is. A write that was under
   * way is dropped too; one that begins after this stays.
   */
  invalidateTag(tag: string, options?: CallOptions): Promise<void> {
    return this.#start(options, CALL, (call) => native.invalidateTag(this.#engine, call, checkedText(tag, "tag")));
  }

  /**
   * Takes a lock that one holder at a time has among all processes. It is kept until it is released or lost; `ttl` is when
   * others get it after this process has died. Pass its `token` to what it protects ({@link Lock}).
   *
   * ```ts
   * await using lock = await zm.lock("report", { wait: "10s" });
   * ```
   * @throws {@link TimeoutError} if somebody else held it for all of `wait`; {@link ConfigError} without a Redis.
   */
  async lock(name: string, options?: LockOptions): Promise<Lock> {
    const [called, ttl, wait] = [
      checkedText(name, "name"),
      checkedTime(options?.ttl, "ttl"),
      checkedTime(options?.wait, "wait"),
    ];
    const held = await this.#start<LockHandle>(options, LOCK, (call) =>
      native.lock(this.#engine, call, called, ttl, wait),
    );
    return new Lock(this.#engine, held, called);
  }

  /**
   * Runs `work` while holding a lock, and gives what it gives.
   *
   * @throws {@link CacheError} if the work ended well although the lock was lost: what it protects may have had two holders.
   */
  async withLock<T>(name: string, work: (lock: Lock) => T | Promise<T>, options?: LockOptions): Promise<T> {
    const lock = await this.lock(name, options);
    let done: T;
    try {
      done = await work(lock);
    } catch (error) {
      await lock.release().catch(() => false);
      throw error;
    }
    if (await lock.release()) return done;
    throw new CacheError(`the lock ${JSON.stringify(name)} was lost before the work under it ended`);
  }

  /** Runs SQL: one task by itself, several in one transaction. */
  async sqlExec<T = Row>(tasks: Tasks, options?: CallOptions): Promise<ExecResult<T>> {
    const done = await this.#start<NativeExec>(options, CALL, (call) =>
      native.sqlExec(this.#engine, call, tasksHandle(tasks)),
    );
    return { rowsAffected: done.rowsAffected, rows: decodeRows<T>(done.rows, this.#int8) };
  }

  /**
   * Runs a read and gives its rows. The type is what you say: nothing checks it.
   *
   * | PostgreSQL | JavaScript |
   * |---|---|
   * | int2, int4, float4, float8 | `number` |
   * | int8 | as the setting `int8` says: `bigint` |
   * | numeric, date, time, interval, uuid and other types | `string` |
   * | timestamp (taken as UTC), timestamptz | as the setting `timestamps` says: `Date`; the infinities are numbers |
   * | json, jsonb | parsed |
   * | bytea | `Buffer` |
   * | arrays | arrays |
   */
  async query<T = Row>(task: TaskLike, options?: CallOptions): Promise<T[]> {
    const rows = await this.#start<NativeRows[]>(options, CALL, (call) =>
      native.query(this.#engine, call, taskHandle(task)),
    );
    return decodeRows<T>(rows, this.#int8);
  }

  /** A new id, unique over all processes: the bare 64-bit number, or `prefix_number`. No I/O. */
  nextId(): bigint;
  nextId(prefix: string): string;
  nextId(...prefix: [] | [string]): bigint | string {
    if (prefix.length === 0) return throwing(() => native.nextIdNumber(this.#engine));
    const name = checkedText(prefix[0], "prefix");
    return throwing(() => native.nextId(this.#engine, name));
  }

  /**
   * Tells `get` how to read a key family from the database: `zm.source("feed_*", sql("SELECT content FROM feeds WHERE
   * id = ?"))`, or by parts: `"user:{uid:int}:post:{pid}"`. One column comes back as its bytes, several as one JSON
   * object. The longest literal prefix wins.
   *
   * `bloom: true, keys: sql("SELECT id FROM feeds")` gives the family a Bloom filter, which answers for keys that do not
   * exist before the database is asked.
   */
  source(pattern: string, task: TaskLike, options?: SourceOptions): void {
    checkOptions(options, SOURCE);
    const family = checkedText(pattern, "pattern");
    const life = lifeOf(options);
    const { refreshAhead, bloom, keys } = options ?? {};
    if (refreshAhead !== undefined && typeof refreshAhead !== "number") {
      throw new TaskError(`refreshAhead is a number from 0 to 0.9, not ${typeof refreshAhead}`);
    }
    if (bloom !== undefined && typeof bloom !== "boolean") {
      throw new TaskError(`bloom is true or false, not ${typeof bloom}`);
    }
    const [handle, query] = [taskHandle(task), keys === undefined ? undefined : taskHandle(keys)];
    throwing(() => native.source(this.#engine, family, handle, life, refreshAhead, bloom === true, query));
  }

  /** Loads every `*.sql` of a directory in name order; nothing runs until `migrate()`. */
  loadDir(path: string): Migrations {
    const from = checkedText(path, "path");
    return new Migrations(this.#engine, () => native.loadDir(this.#engine, from));
  }

  /** Loads one migration; its file name is its name. */
  load(path: string): Migrations {
    const from = checkedText(path, "path");
    return new Migrations(this.#engine, () => native.load(this.#engine, from));
  }

  /** Loads a text as the migration of that name. */
  loadSql(text: string, name: string): Migrations {
    const [script, called] = [checkedText(text, "text"), checkedText(name, "name")];
    return new Migrations(this.#engine, () => native.loadSql(this.#engine, script, called));
  }

  /** Asks every server. One that does not answer is no error here: the result says it. */
  async health(options?: CallOptions): Promise<Health> {
    const report = await this.#start<string>(options, CALL, (call) => native.health(this.#engine, call));
    return camelKeys(JSON.parse(report)) as Health;
  }

  /** The engine's own figures. No I/O; also after `close`. */
  stats(): Stats {
    this.#front.count();
    return camelKeys(JSON.parse(throwing(() => native.stats(this.#engine)))) as Stats;
  }

  #start<T>(
    options: CallOptions | undefined,
    known: ReadonlySet<string>,
    submit: (call: NativeCall) => void,
  ): Promise<T> {
    return start<T>(options, (call) => {
      checkOptions(options, known);
      submit(call);
    });
  }

  async #periodic(key: string | null, data: Data | null, tasks: Tasks, options?: PeriodicOptions): Promise<Receipt> {
    const accepted = await this.#start<NativeAccepted>(options, CACHE_AND_STORE, (call) =>
      native.cacheAndPeriodicStore(
        this.#engine,
        call,
        keyOrNull(key),
        encodeData(data),
        tasksHandle(tasks),
        checkedTime(options?.ttl, "ttl"),
        listsOf(options),
      ),
    );
    return this.#accepted(accepted);
  }

  #accepted({ accepted, durability, cached }: NativeAccepted): Receipt {
    return new Accepted(this.#engine, accepted, durability as Durability, cached);
  }
}

function readOf(options: ReadOptions | undefined): NativeRead {
  const stale: unknown = options?.stale ?? undefined;
  if (stale !== undefined && typeof stale !== "boolean") {
    throw new TaskError(`stale is true or false, not ${typeof stale}`);
  }
  return { stale, softTimeout: checkedTime(options?.softTimeout, "softTimeout") };
}

function lifeOf(options: LifeOptions | undefined): NativeLife {
  return {
    ttl: checkedTime(options?.ttl, "ttl"),
    absentTtl: checkedTime(options?.absentTtl, "absentTtl"),
    staleTtl: checkedTime(options?.staleTtl, "staleTtl"),
    softTimeout: checkedTime(options?.softTimeout, "softTimeout"),
  };
}

function listsOf(options: CacheAndStoreOptions | undefined): NativeLists {
  return {
    invalidates: checkedTexts(options?.invalidates ?? [], "invalidates"),
    tags: tagsOf(options),
    bloomKeys: checkedTexts(options?.bloomKeys ?? [], "bloomKeys"),
  };
}

function tagsOf(options: CacheOptions | undefined): string[] {
  return checkedTexts(options?.tags ?? [], "tags");
}

function neededData(data: unknown): Uint8Array | string {
  const bytes = encodeData(data);
  if (bytes !== null) return bytes;
  throw new TaskError('data is null; to cache JSON null give "null", to drop the key use del()');
}

function delayOf(options: CacheAndDelayOptions | undefined): NativeDelay {
  const { opId, coalesce } = options ?? {};
  if (coalesce !== undefined && typeof coalesce !== "boolean") {
    throw new TaskError(`coalesce is true or false, not ${typeof coalesce}`);
  }
  return {
    ttl: checkedTime(options?.ttl, "ttl"),
    lists: listsOf(options),
    delay: checkedTime(options?.delay, "delay"),
    opId: opId === undefined ? undefined : checkedText(opId, "opId"),
    coalesce: coalesce === true,
    taskTimeout: checkedTime(options?.taskTimeout, "taskTimeout"),
  };
}

function withoutLogger(config: unknown): { logger: Logger | undefined; settings: unknown } {
  if (typeof config !== "object" || config === null || !("logger" in config)) {
    return { logger: undefined, settings: config };
  }
  const { logger, ...settings } = config;
  if (logger === undefined || logger === null) return { logger: undefined, settings };
  if (typeof logger !== "object") throw new ConfigError("logger is an object with debug, info, warn and error");
  return { logger, settings };
}

function keyOrNull(key: unknown): string | null {
  return key === null ? null : checkedText(key, "key");
}

function step(by: unknown): bigint {
  const number = Number.isSafeInteger(by) ? BigInt(by as number) : by;
  if (typeof number === "bigint" && BigInt.asIntN(64, number) === number) return number;
  throw new TaskError(`by is a bigint of at most 64 bits or a safe integer, not ${notAnId(by)}`);
}

function pairsOf(items: unknown): [unknown, unknown][] {
  if (typeof items !== "object" || items === null) {
    throw new TaskError(`items is an object or a Map by key, not ${items === null ? "null" : typeof items}`);
  }
  return Symbol.iterator in items ? [...(items as Iterable<[unknown, unknown]>)] : Object.entries(items);
}

function letterId(id: unknown): bigint {
  const number = Number.isSafeInteger(id) ? BigInt(id as number) : id;
  if (typeof number === "bigint" && number > 0n && BigInt.asIntN(64, number) === number) return number;
  throw new TaskError(
    `the id of a dead letter is a positive bigint or safe integer, as deadLetters() gives it, not ${notAnId(id)}`,
  );
}

function afterId(after: unknown): bigint {
  const number = Number.isSafeInteger(after) ? BigInt(after as number) : after;
  if (typeof number === "bigint" && BigInt.asIntN(64, number) === number) return number;
  throw new TaskError(`after is the id of a dead letter, as deadLetters() gives it, or 0, not ${notAnId(after)}`);
}

function checkedLimit(limit: unknown): number {
  if (Number.isSafeInteger(limit)) return limit as number;
  throw new TaskError(`limit is a whole number of dead letters, not ${notAnId(limit)}`);
}

function notAnId(id: unknown): string {
  if (typeof id === "number") return String(id);
  if (typeof id === "bigint") return BigInt.asIntN(64, id) === id ? String(id) : "one of more than 64 bits";
  if (id === null || id === undefined) return String(id);
  return Array.isArray(id) ? "an array" : `${typeof id === "object" ? "an" : "a"} ${typeof id}`;
}

function listOfKeys(keys: unknown): string[] {
  if (typeof keys === "string") throw new TaskError("keys is one string; give a list of keys");
  if (typeof keys !== "object" || keys === null || !(Symbol.iterator in keys)) {
    throw new TaskError(`keys is a list of strings, not ${keys === null ? "null" : typeof keys}`);
  }
  return checkedTexts([...(keys as Iterable<unknown>)], "keys");
}
