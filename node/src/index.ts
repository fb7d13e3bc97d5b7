// The public names of the package, one by one.

export {
  Builder,
  Column,
  Counter,
  MapBuilder,
  Slice,
  Table,
  counter,
  map,
  slice,
  table,
  type CounterValue,
} from "./builders";
export type { CallOptions } from "./calls";
export { Config, loadConfig, type Duration, type Settings } from "./config";
export type { Data, JsonValue } from "./data";
export {
  CacheError,
  ClosedError,
  CommitUnknownError,
  ConfigError,
  IdError,
  NotFoundError,
  OverloadedError,
  QueueError,
  StoreError,
  TaskError,
  TimeoutError,
  UnsupportedInEmbeddedError,
  ZmsgError,
  type ErrorDetails,
} from "./errors";
export { Lock } from "./locks";
export type { Logger } from "./log";
export type { Loaded } from "./loading";
export { Migrations } from "./migrations";
export { OnConflict, Task, sql, type PreparedTask, type Rendered, type TaskLike, type Tasks } from "./sql";
export type {
  BloomFigures,
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
  MigrationReport,
  OpenOptions,
  PeriodicOptions,
  ReadOptions,
  Receipt,
  RetryReport,
  SourceOptions,
  Stats,
  StoreOptions,
  TierHealth,
  TouchOptions,
} from "./types";
export { bind, type Bind, type Row, type SqlArg, type SqlValue } from "./values";
export { Zmsg } from "./zmsg";
