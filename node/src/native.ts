// The native addon: where it is, and what it exports. Private to this package; users see index.ts.

import { existsSync } from "node:fs";
import { join } from "node:path";

/** A handle on something native; opaque. The name keeps one kind from being passed for another. */
export interface Handle<Name extends string> {
  readonly __kind: Name;
}
export type CallsHandle = Handle<"calls">;
export type EngineHandle = Handle<"engine">;
export type SettingsHandle = Handle<"settings">;
export type LoadedHandle = Handle<"loaded">;
export type TaskHandle = Handle<"task">;
export type ConflictHandle = Handle<"conflict">;
export type TableHandle = Handle<"table">;
export type ColumnHandle = Handle<"column">;
export type AcceptedHandle = Handle<"accepted">;
export type LoadHandle = Handle<"load">;
export type LockHandle = Handle<"lock">;
export type BuilderHandle = Handle<"builder">;

/** A duration in milliseconds or as text such as `"5s"`. */
export type NativeTime = number | string | undefined;

/** How a call is started: the number that its reply will carry. */
export interface NativeCall {
  id: number;
  cancellable: boolean;
  timeout: NativeTime;
}

/** Rows of the same shape: `kinds` has one letter per column (values.ts), `values` row after row. */
export interface NativeRows {
  columns: string[];
  kinds: string;
  values: unknown[];
}

export interface NativeExec {
  rowsAffected: number;
  rows: NativeRows[];
}

export interface NativeReceipt extends NativeExec {
  opId: string;
  durability: string;
  cached: boolean;
}

export interface NativeAccepted {
  accepted: AcceptedHandle;
  durability: string;
  cached: boolean;
}

export interface NativeLife {
  ttl: NativeTime;
  absentTtl: NativeTime;
  staleTtl: NativeTime;
  softTimeout: NativeTime;
}

export interface NativeRead {
  stale: boolean | undefined;
  softTimeout: NativeTime;
}

/** Neither found nor to be found: `load` is there. Both: it is fresh, and to be loaded anew. */
export interface NativeBegun {
  found: boolean;
  value?: Buffer;
  load?: LoadHandle;
  softMs?: number;
}

export interface NativeLastGood {
  found: boolean;
  value?: Buffer;
}

/** The lists among the options of a write. */
export interface NativeLists {
  invalidates: readonly string[];
  tags: readonly string[];
  bloomKeys: readonly string[];
}

export interface NativeDelay {
  ttl: NativeTime;
  lists: NativeLists;
  delay: NativeTime;
  opId: string | undefined;
  coalesce: boolean;
  taskTimeout: NativeTime;
}

/** Values by themselves, each with a letter of its own. */
export interface NativeValues {
  kinds: string;
  values: unknown[];
}

/** Operations of a builder: `[name, arguments, name, arguments, …]`. */
export type NativeOps = readonly unknown[];

export interface NativeOpened {
  engine: EngineHandle;
  /** What front.ts reads; `null` where the runtime lets nobody see foreign memory. */
  turns: ArrayBuffer | null;
  trust: ArrayBuffer | null;
  slip: ArrayBuffer | null;
  l1MaxCost: number;
  int8: "bigint" | "string" | "number";
  timestamps: "date" | "string";
  journal: "journal" | "journal_fsync" | "memory";
}

export interface Native {
  callsOpen(onReady: () => void): CallsHandle;
  callsDrain(calls: CallsHandle): unknown[];
  callsCancel(calls: CallsHandle, id: number): void;
  callsLog(calls: CallsHandle, level: string | undefined): void;
  errorCatalogue(): string;
  panicForTest(calls: CallsHandle, id?: number): void;

  configRead(file: string | undefined, base: SettingsHandle | undefined, args: string): SettingsHandle;
  configDescribe(settings: SettingsHandle): string;

  open(calls: CallsHandle, call: NativeCall, settings: SettingsHandle): void;
  close(engine: EngineHandle, call: NativeCall): void;
  isClosed(engine: EngineHandle): boolean;
  /** `false` is a cached absence, `null` that process memory knows nothing of the key. */
  peek(engine: EngineHandle, key: string): Buffer | false | null;
  frontClock(engine: EngineHandle): number;
  frontCount(engine: EngineHandle, hits: number, absences: number, key: string | undefined): void;
  get(engine: EngineHandle, call: NativeCall, key: string, required: boolean, read: NativeRead): void;
  getOrBegin(engine: EngineHandle, call: NativeCall, key: string, life: NativeLife): void;
  loadComplete(engine: EngineHandle, call: NativeCall, load: LoadHandle, data: Uint8Array | string | null): void;
  loadFail(engine: EngineHandle, call: NativeCall, load: LoadHandle, cause: string): void;
  loadLastGood(engine: EngineHandle, call: NativeCall, load: LoadHandle): void;
  loadGiveUp(load: LoadHandle): void;
  dbHit(engine: EngineHandle, call: NativeCall, key: string): void;
  getMany(engine: EngineHandle, call: NativeCall, keys: string[], read: NativeRead): void;
  cacheOnly(
    engine: EngineHandle,
    call: NativeCall,
    key: string,
    data: Uint8Array | string,
    ttl: NativeTime,
    tags: readonly string[],
  ): void;
  cacheAndStore(
    engine: EngineHandle,
    call: NativeCall,
    key: string | null,
    data: Uint8Array | string | null,
    tasks: TaskHandle,
    ttl: NativeTime,
    lists: NativeLists,
  ): void;
  /** `null` if it needs waiting: nothing was accepted, and `cacheAndPeriodicStore` is the way. */
  periodicNow(engine: EngineHandle, key: string | null, tasks: TaskHandle): AcceptedHandle | null;
  cacheAndPeriodicStore(
    engine: EngineHandle,
    call: NativeCall,
    key: string | null,
    data: Uint8Array | string | null,
    tasks: TaskHandle,
    ttl: NativeTime,
    lists: NativeLists,
  ): void;
  cacheAndDelayStore(
    engine: EngineHandle,
    call: NativeCall,
    key: string | null,
    data: Uint8Array | string | null,
    tasks: TaskHandle,
    options: NativeDelay,
  ): void;
  delDelayStore(
    engine: EngineHandle,
    call: NativeCall,
    key: string | null,
    tasks: TaskHandle,
    options: NativeDelay,
  ): void;
  cancelDelayed(engine: EngineHandle, call: NativeCall, opId: string): void;
  pauseQueue(engine: EngineHandle, call: NativeCall): void;
  resumeQueue(engine: EngineHandle, call: NativeCall): void;
  receiptOpId(accepted: AcceptedHandle): string;
  receiptDone(engine: EngineHandle, call: NativeCall, accepted: AcceptedHandle): void;
  flush(engine: EngineHandle, call: NativeCall): void;
  pending(engine: EngineHandle, call: NativeCall, task: TaskHandle): void;
  deadLetters(engine: EngineHandle, call: NativeCall, after: bigint, limit: number): void;
  retryDead(engine: EngineHandle, call: NativeCall, id: bigint): void;
  retryAllDead(engine: EngineHandle, call: NativeCall): void;
  dropDead(engine: EngineHandle, call: NativeCall, id: bigint): void;
  del(engine: EngineHandle, call: NativeCall, key: string): void;
  delStore(
    engine: EngineHandle,
    call: NativeCall,
    key: string | null,
    tasks: TaskHandle,
    invalidates: readonly string[],
    bloomKeys: readonly string[],
  ): void;
  add(
    engine: EngineHandle,
    call: NativeCall,
    key: string,
    data: Uint8Array | string,
    ttl: NativeTime,
    tags: readonly string[],
  ): void;
  touch(engine: EngineHandle, call: NativeCall, key: string, ttl: NativeTime): void;
  ttlOf(engine: EngineHandle, call: NativeCall, key: string): void;
  incr(engine: EngineHandle, call: NativeCall, key: string, by: bigint, ttl: NativeTime): void;
  cacheMany(
    engine: EngineHandle,
    call: NativeCall,
    keys: readonly string[],
    data: readonly (Uint8Array | string)[],
    ttl: NativeTime,
    tags: readonly string[],
  ): void;
  deleteMany(engine: EngineHandle, call: NativeCall, keys: readonly string[]): void;
  keys(engine: EngineHandle, call: NativeCall, prefix: string): void;
  clear(engine: EngineHandle, call: NativeCall, prefix: string): void;
  invalidateTag(engine: EngineHandle, call: NativeCall, tag: string): void;
  lock(engine: EngineHandle, call: NativeCall, name: string, ttl: NativeTime, wait: NativeTime): void;
  lockToken(lock: LockHandle): bigint;
  lockIsHeld(lock: LockHandle): boolean;
  lockExtend(engine: EngineHandle, call: NativeCall, lock: LockHandle): void;
  lockRelease(engine: EngineHandle, call: NativeCall, lock: LockHandle): void;
  lockLost(engine: EngineHandle, call: NativeCall, lock: LockHandle): void;
  sqlExec(engine: EngineHandle, call: NativeCall, tasks: TaskHandle): void;
  query(engine: EngineHandle, call: NativeCall, task: TaskHandle): void;
  nextId(engine: EngineHandle, prefix: string): string;
  nextIdNumber(engine: EngineHandle): bigint;
  source(
    engine: EngineHandle,
    pattern: string,
    task: TaskHandle,
    life: NativeLife,
    refreshAhead: number | undefined,
    bloom: boolean,
    keys: TaskHandle | undefined,
  ): void;
  health(engine: EngineHandle, call: NativeCall): void;
  stats(engine: EngineHandle): string;
  loadDir(engine: EngineHandle, path: string): LoadedHandle;
  load(engine: EngineHandle, path: string): LoadedHandle;
  loadSql(engine: EngineHandle, text: string, name: string): LoadedHandle;
  migrate(engine: EngineHandle, call: NativeCall, loaded: LoadedHandle): void;

  taskSql(text: string, args: unknown[]): TaskHandle;
  taskList(): TaskHandle;
  taskPush(list: TaskHandle, task: TaskHandle): void;
  taskOnConflict(task: TaskHandle, columns: string[]): ConflictHandle;
  conflictDo(conflict: ConflictHandle, columns: string[] | undefined): TaskHandle;
  taskReturning(task: TaskHandle, columns: string[]): TaskHandle;
  taskBatchKey(task: TaskHandle, key: string): TaskHandle;
  taskCheckTemplate(task: TaskHandle): void;
  taskBind(task: TaskHandle, args: unknown[]): TaskHandle;
  taskRender(task: TaskHandle): { sql: string; params: NativeValues };

  tableOf(name: string): TableHandle;
  columnOf(table: TableHandle, name: string): ColumnHandle;
  builderOf(column: ColumnHandle, kind: string): BuilderHandle;
  builderNamed(kind: string, table: string, column: string): BuilderHandle;
  builderWhere(builder: BuilderHandle, ops: NativeOps, text: string, args: unknown[]): BuilderHandle;
  builderOrInsert(builder: BuilderHandle, ops: NativeOps, columns: string[], args: unknown[]): BuilderHandle;
  builderReturning(builder: BuilderHandle, ops: NativeOps, columns: string[]): BuilderHandle;
  builderBatchKey(builder: BuilderHandle, ops: NativeOps, key: string): BuilderHandle;
  builderAllRows(builder: BuilderHandle, ops: NativeOps): BuilderHandle;
  builderBuild(builder: BuilderHandle, ops: NativeOps): TaskHandle;
  builderCell(builder: BuilderHandle, ops: NativeOps): TaskHandle;
}

function load(): Native {
  const platform = `${process.platform}-${process.arch}`;
  const names = process.platform === "linux" ? [`${platform}-gnu`, `${platform}-musl`] : [platform];
  const files = names.map((name) => join(__dirname, `zmsg.${name}.node`)).filter((file) => existsSync(file));
  const failures: unknown[] = [];
  for (const file of files) {
    try {
      // eslint-disable-next-line @typescript-eslint/no-require-imports -- a native addon has no other way in
      return require(file) as Native;
    } catch (error) {
      failures.push(error);
    }
  }
  const why = files.length === 0 ? "this package has none for it" : "it could not be loaded";
  throw new Error(`zmsg has no native module for ${platform}: ${why}`, { cause: failures[0] });
}

export const native: Native = load();
