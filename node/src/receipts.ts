// What writes give back: of those that are committed, and of those that are applied later.

import { inspect, type InspectOptionsStylized } from "node:util";

import { CALL, checkOptions, ended, start, type CallOptions } from "./calls";
import { throwing } from "./errors";
import { native, type AcceptedHandle, type EngineHandle, type NativeReceipt } from "./native";
import type { Durability, Receipt } from "./types";
import { decodeRows, type Int8Format } from "./values";

/** @internal The receipt of a write whose COMMIT was seen. */
export function committed<T>(done: NativeReceipt, int8: Int8Format): Receipt<T> {
  const { opId, rowsAffected, cached } = done;
  const durability = done.durability as Durability;
  const rows = decodeRows<T>(done.rows, int8);
  return { opId, durability, rowsAffected, rows, cached, done: ended };
}

/**
 * @internal The receipt of a write that is applied later. A class, because an object literal with a getter costs a hundred
 * times as much.
 */
export class Accepted<T> implements Receipt<T> {
  readonly #engine: EngineHandle;
  readonly #accepted: AcceptedHandle;
  readonly durability: Durability;
  readonly rowsAffected = 0;
  readonly rows: T[] = [];
  readonly cached: boolean;

  constructor(engine: EngineHandle, accepted: AcceptedHandle, durability: Durability, cached: boolean) {
    this.#engine = engine;
    this.#accepted = accepted;
    this.durability = durability;
    this.cached = cached;
  }

  get opId(): string {
    return throwing(() => native.receiptOpId(this.#accepted));
  }

  done(options?: CallOptions): Promise<void> {
    return start<void>(options, (call) => {
      checkOptions(options, CALL);
      native.receiptDone(this.#engine, call, this.#accepted);
    });
  }

  /** A getter is not in `JSON.stringify` by itself, and the id is what a log line wants. */
  toJSON(): object {
    const { opId, durability, rowsAffected, rows, cached } = this;
    return { opId, durability, rowsAffected, rows, cached };
  }

  /** Nor is it in what `console.log` shows. */
  [inspect.custom](depth: number, options: InspectOptionsStylized): string {
    if (depth < 0) return options.stylize("[Receipt]", "special");
    const { opId, durability, cached } = this;
    return `Receipt ${inspect({ opId, durability, cached }, options)}`;
  }
}
