import { getEventListeners } from "node:events";

import { sql, type Zmsg } from "zmsg";

import { rejection, stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;

beforeAll(async () => {
  at = await stage();
  zm = await at.open();
  await zm.sqlExec(sql("CREATE TABLE marks (n int)"));
});
afterAll(() => at?.end());

const asleep = sql("SELECT pg_sleep(30)::text");

/** Resolves when the database runs the sleeping statement. */
async function sleeping(): Promise<void> {
  const running = sql(
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid() AND state = 'active'",
  );
  while ((await zm.query(running)).length === 0);
}

test("an aborted call is rejected with the signal's reason", async () => {
  const controller = new AbortController();
  const call = zm.query(asleep, { signal: controller.signal });
  await sleeping();
  const reason = new Error("enough");
  controller.abort(reason);
  expect(await rejection(call)).toBe(reason);
  expect(getEventListeners(controller.signal, "abort")).toHaveLength(0);
});

test("without a reason it is an AbortError, and a timeout signal's TimeoutError", async () => {
  const controller = new AbortController();
  const call = zm.query(asleep, { signal: controller.signal });
  controller.abort();
  expect(await rejection(call)).toMatchObject({ name: "AbortError" });
  expect(await rejection(zm.query(asleep, { signal: AbortSignal.timeout(20) }))).toMatchObject({
    name: "TimeoutError",
  });
});

test("a signal that fired before keeps the call from starting", async () => {
  const reason = { any: "value" };
  const signal = AbortSignal.abort(reason);
  expect(await rejection(zm.sqlExec(sql("INSERT INTO marks VALUES (1)"), { signal }))).toBe(reason);
  expect(await rejection(zm.get("k", { signal }))).toBe(reason);
  expect(await rejection(zm.getMany([], { signal }))).toBe(reason);
  expect(await zm.query(sql("SELECT n FROM marks"))).toEqual([]);
});

test("a call that ended leaves no listener, and a late abort changes nothing", async () => {
  const controller = new AbortController();
  await zm.query(sql("SELECT 1"), { signal: controller.signal });
  await rejection(zm.query(sql("SELECT nope"), { signal: controller.signal }));
  await rejection(zm.cacheOnly(undefined as never, "x", { signal: controller.signal }));
  expect(getEventListeners(controller.signal, "abort")).toHaveLength(0);
  controller.abort();
});

test("the aborted statement ends in the database, and the engine goes on", async () => {
  const controller = new AbortController();
  const calls = Array.from({ length: 20 }, () => zm.query(asleep, { signal: controller.signal }));
  controller.abort();
  const results = await Promise.allSettled(calls);
  expect(results.every((result) => result.status === "rejected")).toBe(true);
  expect(await zm.query(sql("SELECT 1::int4 AS a"))).toEqual([{ a: 1 }]);
});
