import { types } from "node:util";

/** What a {@link ZmsgError} knows beside its message. */
export interface ErrorDetails {
  /** Whether repeating the same call may succeed. */
  retryable?: boolean;
  /** The five characters that PostgreSQL gave, as `"23505"`. */
  sqlstate?: string | undefined;
  /** The operation, to look up what became of it. */
  opId?: string | undefined;
  cause?: unknown;
}

const brand = Symbol.for("zmsg.error");

/**
 * Every error of zmsg. Which class it is says what to do about it; `code` is the same string in every language.
 * An error of this very class (code `"internal"`) is a bug in zmsg: please report it.
 */
export class ZmsgError extends Error {
  /** `"task"`, `"store"`, …: the same in Rust and Python. */
  readonly code: string;
  /** Whether repeating the same call may succeed. */
  readonly retryable: boolean;
  /** The five characters that PostgreSQL gave, if it was PostgreSQL that refused. */
  readonly sqlstate: string | undefined;
  /** The operation id, if one was made. */
  readonly opId: string | undefined;

  /** @internal */
  constructor(message: string, details: ErrorDetails = {}, code = "internal") {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.retryable = details.retryable ?? retryableByDefault.has(code);
    this.sqlstate = details.sqlstate;
    this.opId = details.opId;
  }

  /** Whether `error` is one of zmsg's, also when another copy of this module made it. */
  static isZmsgError(error: unknown): error is ZmsgError {
    return typeof error === "object" && error !== null && brand in error;
  }
}

Object.defineProperty(ZmsgError.prototype, "name", { value: "ZmsgError", configurable: true, writable: true });
Object.defineProperty(ZmsgError.prototype, brand, { value: true });

const retryableByDefault = new Set(["timeout", "cache", "queue", "id", "overloaded"]);

type ErrorClass = new (message: string, details?: ErrorDetails) => ZmsgError;

/** Correct the configuration that the message names. */
export class ConfigError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "config");
  }
}

/** Correct the call: a task, key, value or option was not acceptable. Nothing was sent. */
export class TaskError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "task");
  }
}

/** Create the item or handle its absence; only strict reads (`{ required: true }`) raise this. */
export class NotFoundError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "not_found");
  }
}

/** Try again later or allow more time: the deadline of the call has passed. */
export class TimeoutError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "timeout");
  }
}

/** Look at `sqlstate`: the database refused the statement or could not be reached. Nothing was stored. */
export class StoreError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails, code = "store") {
    super(message, details, code);
  }
}

/** Check the database before repeating: the connection was lost while a COMMIT was on its way. */
export class CommitUnknownError extends StoreError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "commit_unknown");
  }
}

/** Use PostgreSQL for this construct; the embedded mode cannot run it. */
export class UnsupportedInEmbeddedError extends StoreError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "unsupported_in_embedded");
  }
}

/** Go on without the cache or try again: Redis could not be reached or refused the command. */
export class CacheError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "cache");
  }
}

/** Try again: the queue could not accept or move the task. */
export class QueueError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "queue");
  }
}

/** Try again once PostgreSQL can be reached: no node id could be had for new ids. */
export class IdError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "id");
  }
}

/** Slow down: a bound was reached and the operation was not accepted. */
export class OverloadedError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "overloaded");
  }
}

/** Open a new engine; this one is closed. */
export class ClosedError extends ZmsgError {
  constructor(message: string, details?: ErrorDetails) {
    super(message, details, "closed");
  }
}

// The catalogue of the core is the master; a test compares.
const classes: Record<string, ErrorClass> = {
  config: ConfigError,
  task: TaskError,
  not_found: NotFoundError,
  timeout: TimeoutError,
  store: StoreError,
  commit_unknown: CommitUnknownError,
  unsupported_in_embedded: UnsupportedInEmbeddedError,
  cache: CacheError,
  queue: QueueError,
  id: IdError,
  overloaded: OverloadedError,
  closed: ClosedError,
  internal: ZmsgError,
};

// `error.name` is what logs show and what callers compare; on the prototype it costs nothing per error.
for (const error of Object.values(classes)) {
  Object.defineProperty(error.prototype, "name", { value: error.name, configurable: true, writable: true });
}

/** @internal The classes by code. */
export function errorClasses(): Readonly<Record<string, ErrorClass>> {
  return classes;
}

interface Told {
  code: string;
  message: string;
  retryable: boolean;
  sqlstate: string | null;
  opId: string | null;
  causes: string[];
}

/** @internal The instance for an error that native code told as JSON text. */
export function fromText(text: string): Error {
  let told: Told;
  try {
    told = JSON.parse(text) as Told;
  } catch {
    // What the addon itself says, of a panic for one, comes as plain text.
    return new ZmsgError(`${text}; this is a bug in zmsg, please report it`);
  }
  const cause = told.causes.reduceRight<Error | undefined>(
    (inner, message) => new Error(message, inner && { cause: inner }),
    undefined,
  );
  const details = {
    retryable: told.retryable,
    sqlstate: told.sqlstate ?? undefined,
    opId: told.opId ?? undefined,
    cause,
  };
  return new (classes[told.code] ?? ZmsgError)(told.message, details);
}

/** @internal Calls native code and rethrows its exception as the error it stands for. */
export function throwing<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw revived(error);
  }
}

/** @internal The error that a native exception stands for; others pass. */
export function revived(error: unknown): Error {
  // Not `instanceof Error`: native code makes its exceptions in the realm it was loaded in, which need not be ours.
  const native = types.isNativeError(error) && !ZmsgError.isZmsgError(error) && "code" in error;
  return native ? fromText(error.message) : (error as Error);
}
