// Asynchronous calls: each gets a number, native code queues its reply under it and wakes us once, we settle promises.

import { types } from "node:util";

import { fromText, revived, TaskError } from "./errors";
import { log } from "./log";
import { native, type NativeCall } from "./native";

/** Options that every call that does I/O takes. */
export interface CallOptions {
  /** How long the call may take: milliseconds or `"500ms"`, `"5s"`. Default: the configuration's `timeout`. */
  timeout?: number | string;
  /**
   * Gives the call up: the promise is rejected with `signal.reason`. A statement that was not sent yet never is; after
   * that the outcome is what the database decided, and the cache follows it.
   */
  signal?: AbortSignal;
}

/** @internal The names of these. */
export const CALL: ReadonlySet<string> = new Set(["timeout", "signal"]);

interface Pending {
  resolve(reply: unknown): void;
  reject(error: unknown): void;
  signal: AbortSignal | undefined;
}

const pending = new Map<number, Pending>();
const handle = native.callsOpen(drain);

// Keeps the process alive while calls are pending, and only then: the native wake-up never does.
let alive: NodeJS.Timeout | undefined;
const LONG = 2 ** 31 - 1;

let lastId = 0;

/** A free number; 0 stands for the log. Numbers come round after four billion calls. */
function nextCallId(): number {
  do lastId = (lastId + 1) >>> 0 || 1;
  while (pending.has(lastId));
  return lastId;
}

/** @internal This environment's calls, for native code. */
export const calls = handle;

/** @internal Starts a native call and gives the promise of its reply. */
export function start<T>(options: CallOptions | undefined, submit: (call: NativeCall) => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const signal = checkedSignal(options);
    signal?.throwIfAborted();
    const id = nextCallId();
    try {
      submit({ id, cancellable: signal !== undefined, timeout: checkedTime(options?.timeout, "timeout") });
    } catch (error) {
      // The promise is rejected by throwing here.
      throw revived(error);
    }
    pending.set(id, { resolve: resolve, reject, signal });
    if (signal) watch(signal, id);
    if (pending.size === 1) keepAlive();
  });
}

/** @internal The end of a call with nothing left to wait for; its options are checked all the same. */
export function ended(options: CallOptions | undefined): Promise<void> {
  return new Promise((resolve) => {
    checkOptions(options, CALL);
    checkedSignal(options)?.throwIfAborted();
    checkedTime(options?.timeout, "timeout");
    resolve();
  });
}

function keepAlive(): void {
  if (alive) alive.ref();
  else alive = setInterval(() => undefined, LONG);
}

function checkedSignal(options: CallOptions | undefined): AbortSignal | undefined {
  if (options === undefined || options === null) return undefined;
  if (typeof options !== "object") throw new TaskError(`options are an object, not ${typeof options}`);
  const { signal } = options;
  if (signal === undefined || signal === null) return undefined;
  if (typeof signal !== "object" || typeof signal.addEventListener !== "function") {
    throw new TaskError("signal is not an AbortSignal");
  }
  return signal;
}

/** @internal An option that nobody knows is a typo, and what it was to say would be lost. */
export function checkOptions(options: object | undefined, known: ReadonlySet<string>): void {
  for (const name in options) {
    if (!known.has(name)) throw new TaskError(`unknown option ${name}; known here: ${[...known].join(", ")}`);
  }
}

/** @internal A time option that is a number or text, as native code takes it; null counts as not given. */
export function checkedTime(time: unknown, name: string): number | string | undefined {
  if (time === undefined || time === null) return undefined;
  if (typeof time === "number" || typeof time === "string") return time;
  const given = types.isDate(time) ? "a Date" : typeof time;
  throw new TaskError(`${name} is a number of milliseconds or a text such as "5s", not ${given}`);
}

/** The calls that hang on one signal, and the one listener for all of them. */
interface Watch {
  ids: Set<number>;
  onAbort: () => void;
}
const watches = new WeakMap<AbortSignal, Watch>();

/** Rejects call `id` when the signal fires. */
function watch(signal: AbortSignal, id: number): void {
  let watched = watches.get(signal);
  if (!watched) {
    const ids = new Set<number>();
    const onAbort = () => [...ids].forEach((each) => abandon(each, signal.reason));
    watched = { ids, onAbort };
    watches.set(signal, watched);
    signal.addEventListener("abort", onAbort, { once: true });
  }
  watched.ids.add(id);
}

function unwatch(signal: AbortSignal, id: number): void {
  const watched = watches.get(signal);
  watched?.ids.delete(id);
  if (watched?.ids.size === 0) {
    signal.removeEventListener("abort", watched.onAbort);
    watches.delete(signal);
  }
}

function abandon(id: number, reason: unknown): void {
  native.callsCancel(handle, id);
  take(id)?.reject(reason);
}

function take(id: number): Pending | undefined {
  const call = pending.get(id);
  if (call) {
    pending.delete(id);
    if (call.signal) unwatch(call.signal, id);
    if (pending.size === 0) alive?.unref();
  }
  return call;
}

/** Called by native code when replies wait. It must not throw: nobody above could catch it. */
function drain(): void {
  const replies = native.callsDrain(handle);
  for (let at = 0; at < replies.length; at += 3) {
    const id = replies[at] as number;
    const second = replies[at + 1] as string | null;
    if (id === 0) log(second as "info", replies[at + 2] as string);
    else if (second === null) take(id)?.resolve(replies[at + 2]);
    else take(id)?.reject(fromText(second));
  }
}
