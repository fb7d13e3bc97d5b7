// The public names of the package, one by one.

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
export type { Logger } from "./log";
export {
  Builder,
  Column,
  Counter,
  MapBuilder,
  OnConflict,
  Slice,
  Table,
  Task,
  counter,
  map,
  slice,
  sql,
  table,
  type CounterValue,
  type PreparedTask,
  type Rendered,
  type TaskLike,
  type Tasks,
} from "./sql";
export { bind, type Bind, type Row, type SqlArg, type SqlValue } from "./values";
export {
  Migrations,
  Zmsg,
  type CacheAndStoreOptions,
  type CacheOptions,
  type Durability,
  type ExecResult,
  type GetOptions,
  type Health,
  type MigrationReport,
  type OpenOptions,
  type Receipt,
  type SourceOptions,
  type Stats,
  type StoreOptions,
  type TierHealth,
} from "./zmsg";
