// Copies of hits, read again without leaving JavaScript. Crossing into native code and making a Buffer there costs more
// than ten times as much as all of this.

import { endianness } from "node:os";
import { performance } from "node:perf_hooks";
import { markAsUntransferable } from "node:worker_threads";

import { native, type EngineHandle, type NativeOpened } from "./native";

/** Copies at the most. */
const MOST_COPIES = 1_024;
/** Bytes of a copy, its key included, at the most. */
const MOST_BYTES = 2_048;
/** What one copy may take, with the objects around it. All together may take a 32nd part of what L1 may. */
const COST = 3_200;
const SHARE = 32;
/**
 * Milliseconds for which a copy counts at the most. A turn is told apart by its lower half alone, which comes round after
 * four billion changes of one stripe: not within this time.
 */
const LONGEST = 60_000;
/** One hit in so many, a power of two, is told to L1, which would else think that nobody wants the entry any more. */
const TELL_EVERY = 64;

// Monotonic, as the engine's clock is. Taken now, so that fake timers of a test do not stop it later.
const clock = performance.now.bind(performance);

/** What L1 gave, and the warrant that it gave with it. */
class Copy {
  data: Buffer | undefined;
  place = 0;
  turn = 0;
  deadline = 0;
  hits = 0;
  hitsSeen = 0;

  constructor(readonly key: string) {}
}

/**
 * @internal A bounded front before L1. It decides nothing: a copy counts exactly while its warrant holds
 * (`core/src/cache/warrant.rs`), which are three looks in this order. The clock, anew at each hit, so that a process that
 * was stopped finds that its time has passed; the trust; the turn of the key's stripe, which every change of L1 moves.
 *
 * The words are the engine's own memory. `Atomics.load` keeps the order of the looks, on ARM as well, and is never
 * taken from an earlier one. It reads the halves of words that Rust stores as a whole, in one instruction of a machine on
 * which an aligned half cannot be torn. Of the trust the upper half is read first: should the lower one come round in
 * between, what comes out is too early.
 *
 * Copies give way in a circle: whoever was hit since the last look stays, and the newcomer has to come again.
 */
export class Front {
  readonly #engine: EngineHandle;
  readonly #turns: Int32Array;
  readonly #trust: Uint32Array;
  readonly #slip: Float64Array;
  /** What the engine's clock is ahead of ours. */
  readonly #ahead: number;
  readonly #copies = new Map<string, Copy>();
  readonly #circle: Copy[] = [];
  #most: number;
  #hand = 0;
  #hits = 0;
  #absences = 0;

  constructor({ engine, turns, trust, slip, l1MaxCost }: NativeOpened) {
    this.#engine = engine;
    this.#turns = new Int32Array(turns ?? []);
    this.#trust = new Uint32Array(trust ?? []);
    this.#slip = new Float64Array(slip ?? []);
    // Some runtimes let nobody see foreign memory; and the lower half of a word comes first, or this is not for you.
    const readable = turns && trust && slip && endianness() === "LE";
    this.#most = readable ? Math.min(MOST_COPIES, Math.floor(l1MaxCost / SHARE / COST)) : 0;
    this.#ahead = Math.min(...[0, 1, 2].map(() => -clock() + native.frontClock(engine)));
  }

  /** The value of a copy that counts, `null` if there is none. The Buffer is the front's own. */
  find(key: string): Buffer | undefined | null {
    const copy = this.#copies.get(key);
    if (copy === undefined) return null;
    const now = clock() + this.#ahead;
    if (now >= copy.deadline) return null;
    if (now >= Atomics.load(this.#trust, 1) * 0x1_0000_0000 + Atomics.load(this.#trust, 0)) return null;
    if (Atomics.load(this.#turns, copy.place) !== copy.turn) return null;
    this.#hits += 1;
    copy.hits += 1;
    if (copy.data === undefined) this.#absences += 1;
    if (copy.hits % TELL_EVERY === 0) this.count(key);
    return copy.data;
  }

  /** Offers what native code said just now; says whether it is kept, so that it is the front's own from here on. */
  offer(key: string, data: Buffer | undefined): boolean {
    if (this.#most === 0) return false;
    const [stripe, turn, deadline] = [this.#slip[0]!, this.#slip[1]!, this.#slip[2]!];
    if (stripe < 0 || key.length * 2 + (data?.length ?? 0) > MOST_BYTES) return false;
    const copy = this.#copies.get(key) ?? this.#place(key);
    if (copy === undefined) return false;
    copy.data = data;
    copy.place = stripe * 2;
    copy.turn = turn | 0;
    copy.deadline = Math.min(deadline, clock() + this.#ahead + LONGEST);
    return true;
  }

  /** Adds the hits to the engine's figures; L1 hears of `key`. */
  count(key?: string): void {
    native.frontCount(this.#engine, this.#hits, this.#absences, key);
    this.#hits = this.#absences = 0;
  }

  /** Gives every copy up, and takes none any more: the engine is closed, which no word says. */
  end(): void {
    this.#most = 0;
    this.#copies.clear();
    this.#circle.length = 0;
  }

  #place(key: string): Copy | undefined {
    let at = this.#circle.length;
    if (at === this.#most) {
      at = this.#hand;
      this.#hand = (at + 1) % this.#most;
      const there = this.#circle[at]!;
      if (there.hits !== there.hitsSeen) {
        there.hitsSeen = there.hits;
        return undefined;
      }
      this.#copies.delete(there.key);
    }
    const copy = new Copy(key);
    this.#circle[at] = copy;
    this.#copies.set(key, copy);
    return copy;
  }
}

// Room for Buffers to hand out: Node's own pool by another size, which is a quarter of the time of a hit. Like that one it
// must never go to another thread, and away from those whose Buffers lie in it.
const SLAB = 32_768;
// The class of Buffers; their own ways to make one over given memory check its arguments for twice the time.
const View = (Buffer as unknown as { [Symbol.species]: new (...part: [ArrayBufferLike, number, number]) => Buffer })[
  Symbol.species
];
let slab = Buffer.alloc(0);
let used = 0;

/** @internal A Buffer of the caller's own, with the bytes of a copy. */
export function own(data: Buffer): Buffer {
  const { length } = data;
  if (used + length > slab.length) {
    slab = Buffer.allocUnsafeSlow(SLAB);
    markAsUntransferable(slab.buffer);
    used = 0;
  }
  const at = used;
  used += length;
  slab.set(data, at);
  return new View(slab.buffer, at, length);
}
