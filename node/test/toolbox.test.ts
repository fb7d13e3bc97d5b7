// The cache toolbox and locks; what all languages share is in tests/scenarios/toolbox.json.

import { CacheError, TaskError, TimeoutError, type Zmsg } from "zmsg";

import { stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;
beforeAll(async () => {
  at = await stage();
  zm = await at.open();
});
afterAll(() => at?.end());

test("a counter is a bigint, and ttl is in milliseconds", async () => {
  expect(await zm.incr("n", { ttl: "10m" })).toBe(1n);
  expect(await zm.incr("n", { by: -(2n ** 63n) })).toBe(1n - 2n ** 63n);
  const left = await zm.ttl("n");
  expect(left).toBeGreaterThan(500_000);
  expect(left).toBeLessThan(700_000);
  for (const by of [2n ** 63n, 1.5, "1"]) {
    await expect(zm.incr("n", { by: by as bigint })).rejects.toThrow(TaskError);
  }
});

test("many values, by object or by Map", async () => {
  await zm.cacheMany({ a: Buffer.from("bytes"), b: "text", c: { json: [1] } }, { tags: ["t"] });
  await zm.cacheMany(new Map([["d", "map"]]), { tags: ["t"] });
  const found = await zm.getMany(["a", "b", "c", "d"]);
  expect([...found].map(([key, value]) => [key, String(value)])).toEqual([
    ["a", "bytes"],
    ["b", "text"],
    ["c", '{"json":[1]}'],
    ["d", "map"],
  ]);
  await zm.invalidateTag("t");
  expect((await zm.getMany(["a", "b", "c", "d"])).size).toBe(0);
  await expect(zm.cacheMany({ a: null } as never)).rejects.toThrow("data is null");
  await expect(zm.cacheMany("a" as never)).rejects.toThrow("items is an object");
  await expect(zm.cacheOnly("a", "x", { tags: "t" as never })).rejects.toThrow("tags is an array");
  await expect(zm.cacheOnly("a", "x", { tags: Array.from({ length: 65 }, String) })).rejects.toThrow("65 tags");
});

test("a lock is held by one at a time, and tokens grow", async () => {
  let inside = 0;
  const tokens: bigint[] = [];
  const work = () =>
    zm.withLock(
      "x",
      async (lock) => {
        inside += 1;
        expect([inside, lock.held, lock.name]).toEqual([1, true, "x"]);
        tokens.push(lock.token);
        await Promise.resolve();
        inside -= 1;
        return lock;
      },
      { wait: "20s" },
    );
  const locks = await Promise.all(Array.from({ length: 10 }, work));
  expect(locks.some((lock) => lock.held)).toBe(false);
  expect(tokens.every((token, index) => index === 0 || token > tokens[index - 1]!)).toBe(true);
});

test("a lock that is taken is a timeout, and one that was lost is told", async () => {
  const lock = await zm.lock("y", { ttl: "1m" });
  await expect(zm.lock("y", { wait: 0 })).rejects.toThrow(TimeoutError);
  await expect(zm.lock("y", { ttl: 1 })).rejects.toThrow(TaskError);
  const aborted = new AbortController();
  const waiting = zm.lock("y", { wait: "30s", signal: aborted.signal });
  aborted.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
  expect(await lock.extend()).toBe(true);
  expect(await lock.release()).toBe(true);
  expect(await lock.release()).toBe(false);
  await lock.lost();
  await expect(zm.withLock("y", async (held) => void (await held.release()))).rejects.toThrow(CacheError);
  await expect(zm.withLock("y", () => Promise.reject(new Error("its own")))).rejects.toThrow("its own");
  {
    await using held = await zm.lock("y", { wait: "20s" });
    expect(held.held).toBe(true);
  }
  expect(await (await zm.lock("y", { wait: 0 })).release()).toBe(true);
});
