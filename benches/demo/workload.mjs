// Which item each access reads: an access trace, or a generated Zipf workload. The same as workload.py.

import { spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";

// Yang, Yue, Rashmi: "A large scale analysis of hundreds of in-memory cache clusters at Twitter", OSDI '20:
// popularity follows Zipf with a skew close to 1 in most clusters; the median object is about 230 bytes long.
const ZIPF_SKEW = 1.0;
const ZIPF_OBJECTS = 20_000;
const MEDIAN_BYTES = 230;
const SIZE_SPREAD = 0.9; // sigma of the lognormal sizes

const XZ_MAGIC = Buffer.from("fd377a585a00", "hex");

function isPacked(path) {
  const file = openSync(path, "r");
  try {
    const start = Buffer.alloc(XZ_MAGIC.length);
    return readSync(file, start) === start.length && start.equals(XZ_MAGIC);
  } finally {
    closeSync(file);
  }
}

function unpack(path) {
  const done = spawnSync("xz", ["--decompress", "--stdout", "--", path], { maxBuffer: 2 ** 31 });
  if (done.error?.code === "ENOENT") throw new Error("the trace is packed with xz: install xz (Debian: xz-utils)");
  if (done.status !== 0) throw new Error(done.stderr.toString().trim());
  return done.stdout;
}

/** A trace that cannot be used; the message says why. */
export class TraceError extends Error {}

/** Object numbers of a trace: little-endian 32-bit integers, one per access, packed with xz or plain. */
export function readTrace(path, limit) {
  let data;
  try {
    data = isPacked(path) ? unpack(path) : readFileSync(path);
  } catch (error) {
    throw new TraceError(`cannot read the trace ${path}: ${error.message}`);
  }
  if (data.length === 0 || data.length % 4 !== 0) {
    throw new TraceError(`${path} holds ${data.length} bytes; a trace is a series of 32-bit integers and not empty`);
  }
  const accesses = new Int32Array(Math.min(limit, data.length / 4));
  return accesses.map((_, index) => data.readInt32LE(4 * index));
}

/** A generator of numbers in [0, 1) that a seed repeats (mulberry32, Tommy Ettinger, public domain). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Accesses drawn from ZIPF_OBJECTS objects; the n-th most popular one has weight 1 / n ** skew. */
export function zipf(accesses, seed) {
  const cumulative = new Float64Array(ZIPF_OBJECTS);
  let sum = 0;
  for (let rank = 1; rank <= ZIPF_OBJECTS; rank++) cumulative[rank - 1] = sum += 1 / rank ** ZIPF_SKEW;
  const random = generator(seed);
  return new Int32Array(accesses).map(() => firstAbove(cumulative, random() * sum));
}

function firstAbove(cumulative, value) {
  let [low, high] = [0, cumulative.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cumulative[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The text of an item: the same for every run, of lognormal length. */
export function content(item) {
  const random = generator(item + 1);
  // Box and Muller's transform of two even numbers to a normal one.
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const length = Math.floor(Math.exp(SIZE_SPREAD * normal) * MEDIAN_BYTES) + 16;
  return `item ${item} `.repeat(Math.ceil(length / 6)).slice(0, length);
}
