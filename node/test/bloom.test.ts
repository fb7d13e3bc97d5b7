// Bloom filters from Node: what is declared, what is asked, what writes name.

import { setTimeout as sleep } from "node:timers/promises";

import { sql, TaskError, type Zmsg } from "zmsg";

import { stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;

beforeAll(async () => {
  at = await stage();
  zm = await at.open();
  await zm
    .loadSql(
      "CREATE TABLE feeds (id text PRIMARY KEY, content text); INSERT INTO feeds VALUES ('feed_1', 'hello')",
      "1",
    )
    .migrate();
});
afterAll(() => at?.end());

const insert = (id: string) => sql("INSERT INTO feeds (id, content) VALUES (?, 'new')", id);
const read = () => sql("SELECT content FROM feeds WHERE id = ?");

test("a filter says no, and every write tells it", async () => {
  expect(await zm.dbHit("feed_nobody")).toBe(true);
  zm.source("feed_*", read(), { bloom: true, keys: sql("SELECT id FROM feeds") });
  const until = Date.now() + 20_000;
  while (zm.stats().bloom[0]?.state !== "serving") {
    expect(Date.now()).toBeLessThan(until);
    await sleep(50);
  }
  expect(await zm.dbHit("feed_1")).toBe(true);
  expect(await zm.dbHit("feed_nobody")).toBe(false);
  expect(await zm.get("feed_nobody")).toBeUndefined();
  expect(zm.stats().sourceLoads).toBe(0);

  await zm.cacheAndStore("feed_a", "x", [insert("feed_a"), insert("feed_b")], { bloomKeys: ["feed_b"] });
  await zm.delStore(null, insert("feed_c"), { bloomKeys: ["feed_c"] });
  const delayed = await zm.cacheAndDelayStore(null, null, insert("feed_d"), { delay: 0, bloomKeys: ["feed_d"] });
  await delayed.done({ timeout: "20s" });
  await zm.cacheAndPeriodicStore(null, null, insert("feed_e"), { bloomKeys: ["feed_e"] });
  await zm.flush();
  for (const letter of "abcde") expect(await zm.dbHit(`feed_${letter}`)).toBe(true);

  const [figures] = zm.stats().bloom;
  expect(figures).toMatchObject({ pattern: "feed_*", state: "serving", generation: 1, capacity: 1_000_000 });
  expect(figures?.errorRate).toBeLessThan(0.01);
  expect(zm.stats().bloomNoes).toBeGreaterThanOrEqual(2);
}, 60_000);

test("what cannot be a filter is refused", () => {
  expect(() => zm.source("one", sql("SELECT 1"), { bloom: true })).toThrow(TaskError);
  expect(() => zm.source("one", sql("SELECT 1"), { keys: sql("SELECT 'a'") })).toThrow(TaskError);
  expect(() => zm.source("one", sql("SELECT 1"), { bloom: "yes" as unknown as boolean })).toThrow(TaskError);
});
