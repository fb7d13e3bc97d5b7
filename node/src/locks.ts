// Locks: one holder per name among all processes, with a token that grows.

import { CALL, checkOptions, start, type CallOptions } from "./calls";
import { throwing } from "./errors";
import { native, type EngineHandle, type LockHandle, type NativeCall } from "./native";

/**
 * A lock that is held. It is extended by itself until it is released, lost, or collected as garbage.
 *
 * Redis may forget a lock in a failover, and a process may be stopped for longer than its `ttl`: pass {@link token} to what
 * the lock protects, and let that refuse a token below the highest one it has seen.
 */
export class Lock implements AsyncDisposable {
  readonly #engine: EngineHandle;
  readonly #lock: LockHandle;
  /** Its name. */
  readonly name: string;
  /** The fencing token: above that of every earlier holder. */
  readonly token: bigint;

  /** @internal */
  constructor(engine: EngineHandle, lock: LockHandle, name: string) {
    this.#engine = engine;
    this.#lock = lock;
    this.name = name;
    this.token = throwing(() => native.lockToken(lock));
  }

  /** Whether it is held, as far as this process knows. No I/O. */
  get held(): boolean {
    return throwing(() => native.lockIsHeld(this.#lock));
  }

  /** Extends it now to its whole `ttl`, which happens by itself as well; says whether it is still held. */
  extend(options?: CallOptions): Promise<boolean> {
    return this.#start(options, (call) => native.lockExtend(this.#engine, call, this.#lock));
  }

  /** Gives it back; says whether it was held until now. One that was lost is left to whoever has it. */
  release(options?: CallOptions): Promise<boolean> {
    return this.#start(options, (call) => native.lockRelease(this.#engine, call, this.#lock));
  }

  /** Resolves when it is lost or given back. */
  lost(options?: CallOptions): Promise<void> {
    return this.#start(options, (call) => native.lockLost(this.#engine, call, this.#lock));
  }

  /** {@link release}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  #start<T>(options: CallOptions | undefined, submit: (call: NativeCall) => void): Promise<T> {
    return start<T>(options, (call) => {
      checkOptions(options, CALL);
      submit(call);
    });
  }
}
