// Hits that never leave JavaScript: they are as true as those that do.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";

import { sql, Zmsg } from "zmsg";

import { native } from "../dist/native";
import { cuttable, rejection, servers, stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;
const DIST = JSON.stringify(join(__dirname, "..", "dist", "index.js"));

beforeAll(async () => {
  at = await stage();
  zm = await at.open();
  await zm.loadSql("CREATE TABLE items (id text PRIMARY KEY, content text)", "0001_items").migrate();
  zm.source("item_*", sql("SELECT content FROM items WHERE id = ?"));
});
afterAll(() => at?.end());
afterEach(() => jest.restoreAllMocks());

let keys = 0;
const freshKey = () => `item_${++keys}`;
const store = (key: string, content: string) =>
  sql("INSERT INTO items VALUES (?, ?)", key, content).onConflict("id").doUpdate("content");

/** A key with a value that the front has. */
async function warm(engine: Zmsg, value = "first", ttl?: number): Promise<string> {
  const key = freshKey();
  await engine.cacheOnly(key, value, ttl === undefined ? undefined : { ttl });
  while ((await callsFor(() => engine.getText(key))) > 0);
  return key;
}

/** How often native code is asked for a hit meanwhile. */
async function callsFor(work: () => Promise<unknown>): Promise<number> {
  const spy = jest.spyOn(native, "peek");
  await work();
  const { length } = spy.mock.calls;
  spy.mockRestore();
  return length;
}

test("a hit that was hit before calls nothing native, and is counted", async () => {
  const key = await warm(zm);
  const before = zm.stats();
  const spies = (["peek", "get", "frontCount", "frontClock"] as const).map((name) => jest.spyOn(native, name));
  for (let n = 0; n < 50; n++) expect((await zm.get(key))?.toString()).toBe("first");
  expect(zm.peek(key)?.toString()).toBe("first");
  expect(await zm.getText(key)).toBe("first");
  for (const spy of spies) expect(spy).not.toHaveBeenCalled();
  expect(zm.stats().l1Hits - before.l1Hits).toBe(52);
});

test("process memory hears of what is hit often", async () => {
  const key = await warm(zm);
  const spy = jest.spyOn(native, "frontCount");
  for (let n = 0; n < 640; n++) await zm.get(key);
  const told = spy.mock.calls.filter(([, , , name]) => name === key);
  expect(told).toHaveLength(10);
});

test("what was handed out is the caller's to change", async () => {
  const key = await warm(zm);
  for (let n = 0; n < 3; n++) {
    (await zm.get(key))!.write("after!");
    zm.peek(key)!.write("after!");
  }
  expect(await callsFor(async () => expect(await zm.getText(key)).toBe("first"))).toBe(0);
});

test("the first hit is the caller's to change as well", async () => {
  const key = freshKey();
  await zm.cacheOnly(key, "first");
  (await zm.get(key))!.write("after!");
  expect(await zm.getText(key)).toBe("first");
});

test("every write of this process is seen by the next read", async () => {
  const key = await warm(zm);
  const read = () => zm.getText(key);
  await zm.cacheOnly(key, "second");
  expect(await read()).toBe("second");
  await read();
  await zm.cacheAndStore(key, "third", store(key, "third"));
  expect([await read(), await read()]).toEqual(["third", "third"]);
  await zm.cacheMany({ [key]: "fourth" });
  expect([await read(), await read()]).toEqual(["fourth", "fourth"]);
  await zm.del(key);
  expect([await read(), await read()]).toEqual(["third", "third"]);
  await zm.delStore(key, sql("DELETE FROM items WHERE id = ?", key));
  expect([await read(), await read()]).toEqual([undefined, undefined]);
});

test("an absence is a hit, counted as one, and ends with a write", async () => {
  const key = freshKey();
  for (let n = 0; n < 3; n++) expect(await zm.get(key)).toBeUndefined();
  const before = zm.stats();
  expect(await callsFor(() => zm.get(key))).toBe(0);
  expect(zm.peek(key)).toBeUndefined();
  const { l1Hits, absentHits } = zm.stats();
  expect([l1Hits - before.l1Hits, absentHits - before.absentHits]).toEqual([2, 2]);
  await expect(zm.get(key, { required: true })).rejects.toMatchObject({ code: "not_found" });
  await zm.cacheAndStore(key, "there", store(key, "there"));
  expect(await zm.getText(key)).toBe("there");
});

test("a write of another engine is seen", async () => {
  const other = await at.open();
  const key = await warm(zm);
  for (const value of ["second", "third"]) {
    await other.cacheOnly(key, value);
    while ((await zm.getText(key)) !== value) await sleep(1);
    // It came from Redis; a hit in memory is what is kept.
    await zm.get(key);
    expect(await callsFor(() => zm.get(key))).toBe(0);
  }
  await other.del(key);
  while ((await zm.getText(key)) !== undefined) await sleep(1);
});

test("a life ends on time", async () => {
  const key = await warm(zm, "first", 300);
  const written = performance.now();
  let last = written;
  // Without a turn of the event loop, so that nothing but the clock can end it.
  for (let asked = written; zm.peek(key) !== undefined; asked = performance.now()) last = asked;
  expect(last - written).toBeLessThan(300 * 1.05 + 50);
  expect(await zm.get(key)).toBeUndefined();
});

test("a value with tags ends with its tag, so the front has none", async () => {
  const key = freshKey();
  await zm.cacheOnly(key, "tagged", { tags: ["user:7"] });
  for (let n = 0; n < 3; n++) expect(await callsFor(() => zm.get(key))).toBe(1);
  await zm.invalidateTag("user:7");
  expect(await zm.get(key)).toBeUndefined();
});

test("a closed engine answers nothing", async () => {
  const engine = await at.open();
  const key = await warm(engine);
  await engine.close();
  await expect(engine.get(key)).rejects.toMatchObject({ code: "closed" });
  expect(() => engine.peek(key)).toThrow(/closed/);
  expect(engine.stats().l1Hits).toBeGreaterThan(0);
});

test("a close that is refused leaves everything as it was", async () => {
  const key = await warm(zm);
  await expect(zm.close({ within: 5 } as never)).rejects.toMatchObject({ code: "task" });
  expect(await callsFor(() => zm.get(key))).toBe(0);
});

test("who does not hear the others any more serves nothing past the bound", async () => {
  const redis = await cuttable(servers().redis);
  const deaf = await at.open({ redisAddr: redis.address, coherenceBound: 500, redisTimeout: 200 });
  const key = await warm(deaf);
  redis.cut();
  const cut = performance.now();
  await zm.cacheOnly(key, "second");
  // What it has is as it was when it last heard.
  let last = cut;
  for (let asked = cut; deaf.peek(key) !== undefined; asked = performance.now()) last = asked;
  expect(last - cut).toBeLessThan(550);
  expect(deaf.stats().coherent).toBe(false);
  const told = await deaf.getText(key).catch((error: unknown) => error);
  expect(told).toMatchObject({ code: "cache" });
  await deaf.close();
  await redis.end();
});

test("who stood still longer than the bound serves nothing that it had", async () => {
  const program = `
    const { Zmsg } = require(${DIST});
    (async () => {
      const zm = await Zmsg.open(${JSON.stringify({ ...at.config, coherenceBound: 500 })});
      for (let n = 0; n < 3; n++) await zm.get("item_still");
      // No turn of the event loop: the first look after the pause is at what it had.
      let last = performance.now();
      console.log("warm");
      for (;;) {
        const begun = performance.now();
        const found = zm.peek("item_still");
        if (begun - last > 800) {
          console.log(found === undefined ? "nothing" : String(found));
          break;
        }
        last = begun;
      }
      await zm.close();
    })();`;
  await zm.cacheOnly("item_still", "first");
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  const warmed = new Promise<void>((resolve) =>
    child.stdout.on("data", (chunk) => {
      out += String(chunk);
      if (out.startsWith("warm\n")) resolve();
    }),
  );
  const ended = new Promise((resolve) => child.on("close", resolve));
  await warmed;
  child.kill("SIGSTOP");
  await zm.cacheOnly("item_still", "second");
  await sleep(1_000);
  child.kill("SIGCONT");
  await ended;
  expect(["warm\nnothing\n", "warm\nsecond\n"]).toContain(out);
});

test("threads with engines of their own see one another's writes", async () => {
  const key = freshKey();
  await zm.cacheOnly(key, "first");
  const program = `
    const { parentPort } = require("node:worker_threads");
    const { Zmsg } = require(${DIST});
    (async () => {
      const zm = await Zmsg.open(${JSON.stringify(at.config)});
      for (let n = 0; n < 100; n++) await zm.get("${key}");
      parentPort.postMessage("warm");
      while ((await zm.getText("${key}")) !== "second") await new Promise(setImmediate);
      await zm.cacheOnly("${key}", "third");
      await zm.close();
    })();`;
  await warm(zm);
  await zm.get(key);
  const worker = new Worker(program, { eval: true });
  const ended = new Promise((resolve) => worker.on("exit", resolve));
  await new Promise((resolve) => worker.once("message", resolve));
  await zm.cacheOnly(key, "second");
  while ((await zm.getText(key)) !== "third") await sleep(1);
  expect(await ended).toBe(0);
  expect(await zm.getText(key)).toBe("third");
});

describe("its memory is bounded", () => {
  const many = (prefix: string, count: number) => Array.from({ length: count }, (_, number) => `${prefix}_${number}`);
  const fill = async (engine: Zmsg, all: string[]) => {
    for (let begin = 0; begin < all.length; begin += 500) {
      await engine.cacheMany(all.slice(begin, begin + 500).map((key): [string, string] => [key, key]));
    }
  };
  const read = async (engine: Zmsg, all: string[]) => {
    for (const key of all) expect(await engine.getText(key)).toBe(key);
  };
  /** The keys whose hits call nothing native. */
  const kept = async (engine: Zmsg, all: string[]) => {
    const spy = jest.spyOn(native, "peek");
    await read(engine, all);
    const asked = new Set(spy.mock.calls.map(([, key]) => key));
    spy.mockRestore();
    return all.filter((key) => !asked.has(key));
  };

  test("to so many values, of which those that are read stay", async () => {
    const all = many("crowd", 3_000);
    await fill(zm, all);
    await read(zm, all);
    const [hot, cold] = [all.slice(0, 300), all.slice(300)];
    for (let begin = 0; begin < cold.length; begin += 300) {
      for (let n = 0; n < 3; n++) await read(zm, hot);
      await read(zm, cold.slice(begin, begin + 300));
    }
    expect((await kept(zm, hot)).length).toBeGreaterThan(250);
    const there = await kept(zm, all);
    expect(there.length).toBeGreaterThan(0);
    expect(there.length).toBeLessThanOrEqual(1_024);
  });

  test("to small values", async () => {
    const [small, large] = [freshKey(), freshKey()];
    await zm.cacheMany({ [small]: "x".repeat(1_900), [large]: "x".repeat(2_100) });
    for (const key of [small, large]) await zm.get(key);
    expect(await callsFor(() => zm.get(small))).toBe(0);
    expect(await callsFor(() => zm.get(large))).toBe(1);
  });

  test("by that of process memory", async () => {
    const engine = await at.open({ l1MaxCost: 1 << 20 });
    const all = many("few", 100);
    await fill(engine, all);
    await read(engine, all);
    expect((await kept(engine, all)).length).toBeLessThanOrEqual(10);
    const without = await at.open({ l1MaxCost: 10_000 });
    await without.cacheOnly("a", "x");
    for (let n = 0; n < 3; n++) expect(await callsFor(() => without.get("a"))).toBe(1);
  });
});

test("keys that are no keys are refused as ever", async () => {
  for (const key of [7, null, undefined, "\ud800", "", "x".repeat(2_000)]) {
    expect(await rejection(zm.get(key as never))).toMatchObject({ code: "task" });
  }
});
