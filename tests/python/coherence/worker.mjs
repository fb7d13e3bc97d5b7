// The Node process of a run: `node worker.mjs SETTINGS`. worker.py says what it obeys; both do the same.

import { closeSync, openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { setImmediate as turn } from "node:timers/promises";
import { bind, counter, sql, Zmsg, ZmsgError } from "../../../node/dist/index.js";

const BUMP = sql("UPDATE items SET token = ? WHERE id = ?").prepare();
// Runs after the row was changed, and fails.
const BREAK = sql("INSERT INTO items (id, token) VALUES (?, 'broken')").prepare();
const LIKE = counter("likes", "n").inc(1).where("id = ?", bind).prepare();
// A row whose token says that it was removed is none.
const ITEM = sql("SELECT token FROM items WHERE id = ? AND token NOT LIKE '-%'");
// How long the values of brief writes and of flashes live.
const LIFE_MS = 100;
// What is written at random to keys that every process writes; likes, notes and flashes have one writer each.
const WRITES = ["store", "store_none", "brief", "del_store", "named", "remove", "abort", "delay"];
const KEPT_BYTES = 1 << 16;

const now = () => process.hrtime.bigint();

class Worker {
  #name;
  #zm;
  #file;
  #kept = "";
  #written = 0;
  #found = 0;
  #noted = new Map();
  #noting = new Map();
  #liked = new Map();
  #flushed = new Map();
  #running = false;

  constructor(name, zm, record) {
    this.#name = name;
    this.#zm = zm;
    this.#file = openSync(record, "w");
  }

  async obey(order) {
    switch (order.do) {
      case "get":
      case "get_many":
      case "peek":
        return { tokens: await this.#read(order.do, order.keys) };
      case "watch":
        return this.#watch(order.key, order.token);
      case "crowd": {
        const reads = Array.from({ length: order.count }, () => this.#zm.getText(order.key));
        return { tokens: [...new Set(await Promise.all(reads))] };
      }
      case "run":
        return this.#run(order);
      case "stop":
        this.#running = false;
        return {};
      case "clear":
        return { dropped: await this.#zm.clear(order.prefix) };
      case "count":
        return { reads: this.#found };
      case "time":
        return { wall: Date.now() / 1000, made: Number(this.#zm.nextId()) };
      case "stats": {
        const stats = this.#zm.stats();
        const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
        return Object.fromEntries(order.names.map((name) => [name, Number(stats[camel(name)])]));
      }
      default:
        return this.#write(order.do, order.key);
    }
  }

  async close() {
    await this.#zm.close();
    this.#save();
    closeSync(this.#file);
  }

  // Times are bigints, which JSON does not know: they stand before the rest.
  #note(kind, begun, ended, ...rest) {
    this.#kept += `["${kind}",${begun},${ended},${JSON.stringify(rest).slice(1)}\n`;
    if (this.#kept.length > KEPT_BYTES) this.#save();
  }

  #save() {
    writeSync(this.#file, this.#kept);
    this.#kept = "";
  }

  async #read(verb, keys) {
    const begun = now();
    let found;
    if (verb === "get_many") {
      const values = await this.#zm.getMany(keys);
      found = keys.map((key) => values.get(key));
    } else if (verb === "peek") {
      found = keys.map((key) => this.#zm.peek(key));
    } else {
      found = [];
      for (const key of keys) found.push(await this.#zm.get(key));
    }
    const ended = now();
    const tokens = found.map((value) => value?.toString() ?? null);
    let pairs = keys.map((key, at) => [key, tokens[at]]);
    // What is not in this process's memory is not absent.
    if (verb === "peek") pairs = pairs.filter(([, token]) => token !== null);
    this.#note("r", begun, ended, verb, pairs);
    this.#found += pairs.length;
    return tokens;
  }

  async #watch(key, token) {
    while ((await this.#read("get", [key]))[0] !== token) await turn();
    return { ended: Number(now()) };
  }

  async #write(verb, key) {
    this.#written += 1;
    if (verb === "flush") {
      await this.#flush();
      return {};
    }
    const token = `${verb === "remove" ? "-" : ""}${this.#name}.${this.#written}`;
    if (verb !== "note" && verb !== "flash") return this.#finish(verb, key, token);
    // Of two values at once nobody could say which is the later one.
    const before = this.#noting.get(key);
    const noted = (async () => {
      await before;
      this.#noted.set(key, (this.#noted.get(key) ?? 0) + 1);
      return this.#finish(verb, key, String(this.#noted.get(key)));
    })();
    this.#noting.set(key, noted);
    return noted;
  }

  async #finish(verb, key, token) {
    const begun = now();
    let outcome = "ok";
    try {
      await this.#attempt(verb, key, token);
    } catch (error) {
      if (!(error instanceof ZmsgError)) throw error;
      outcome = verb === "abort" && error.sqlstate === "23505" ? "aborted" : "unknown";
    }
    const ended = now();
    if (verb !== "like") {
      const life = verb === "flash" ? [LIFE_MS] : [];
      this.#note("w", begun, ended, verb, key, token, outcome, ...life);
      // What is acknowledged is known even if the process is killed next.
      this.#save();
    }
    return { token, outcome, ended: Number(ended) };
  }

  async #attempt(verb, key, token) {
    const zm = this.#zm;
    const bump = BUMP(token, key);
    switch (verb) {
      case "store":
        return zm.cacheAndStore(key, token, bump);
      case "store_none":
        return zm.cacheAndStore(key, null, bump);
      case "brief":
        return zm.cacheAndStore(key, token, bump, { ttl: `${LIFE_MS}ms` });
      case "del_store":
      case "remove":
        return zm.delStore(key, bump);
      case "named":
        return zm.cacheAndStore(null, null, bump, { invalidates: [key] });
      case "abort":
        return zm.cacheAndStore(key, token, [bump, BREAK(key)]);
      case "delay":
        return (await zm.cacheAndDelayStore(key, null, bump, { delay: 0 })).done();
      case "like":
        await zm.cacheAndPeriodicStore(key, null, LIKE(key));
        return this.#liked.set(key, (this.#liked.get(key) ?? 0) + 1);
      case "flash":
        return zm.cacheOnly(key, token, { ttl: `${LIFE_MS}ms` });
      case "note":
        return zm.cacheOnly(key, token);
      default:
        throw new Error(`nobody knows how to ${verb}`);
    }
  }

  // Every like that was accepted before is acknowledged by a flush that ends well.
  async #flush() {
    const begun = now();
    const liked = new Map(this.#liked);
    try {
      await this.#zm.flush();
    } catch (error) {
      if (error instanceof ZmsgError) return;
      throw error;
    }
    const ended = now();
    for (const [key, count] of liked) {
      if (this.#flushed.get(key) === count) continue;
      this.#flushed.set(key, count);
      this.#note("w", begun, ended, "like", key, String(count), "ok");
    }
    this.#save();
  }

  async #run(order) {
    this.#running = true;
    const seeds = randomFrom(order.seed);
    const lanes = Array.from({ length: order.lanes }, () => this.#lane(order, randomFrom(seeds() * 2 ** 32)));
    return { failed: (await Promise.all(lanes)).reduce((sum, failed) => sum + failed, 0) };
  }

  async #lane(order, random) {
    const choice = (list) => list[Math.floor(random() * list.length)];
    let failed = 0;
    while (this.#running) {
      try {
        if (random() < order.writes) {
          const verb = choice([...WRITES, "like", "flush", "note", "flash"]);
          const own = { like: order.likes, note: order.notes, flash: order.flashes, flush: [null] };
          await this.#write(verb, choice(own[verb] ?? order.items));
        } else {
          const verb = choice(["get", "get", "get_many", "peek"]);
          const keys = new Set([choice(order.reads)]);
          while (verb === "get_many" && keys.size < order.batch) keys.add(choice(order.reads));
          await this.#read(verb, [...keys]);
        }
      } catch (error) {
        if (!(error instanceof ZmsgError)) throw error;
        failed += 1;
      }
      await turn();
    }
    return failed;
  }
}

// Mulberry32: numbers in [0, 1) that a seed repeats.
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const answer = (id, what) => process.stdout.write(`${JSON.stringify({ id, ...what })}\n`);

const settings = JSON.parse(process.argv[2]);
const zm = await Zmsg.open(settings.config);
zm.source("item_*", ITEM);
zm.source("like_*", sql("SELECT n::text FROM likes WHERE id = ?"));
zm.source("slow_*", sql("SELECT read_slowly(?)"));
const worker = new Worker(settings.name, zm, settings.record);
answer(0, {});
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.do === "close") {
    await worker.close();
    answer(order.id, {});
    process.stdin.destroy();
    break;
  }
  worker.obey(order).then(
    (what) => answer(order.id, what),
    (error) => answer(order.id, { error: String(error) }),
  );
}
