import { setTimeout as pause } from "node:timers/promises";

import { sql, StoreError, TaskError, type Loaded, type ReadOptions, type Zmsg } from "zmsg";

import { rejection, stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;

beforeAll(async () => {
  at = await stage();
  zm = await at.open();
});
afterAll(() => at?.end());

/** A loader that counts its runs, and waits until it is let go. */
function loader(result: Loaded | Error = "v") {
  let open!: () => void;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const load = async (): Promise<Loaded> => {
    loads.runs += 1;
    await gate;
    if (loads.result instanceof Error) throw loads.result;
    return loads.result;
  };
  const loads = { runs: 0, result, open, load };
  return loads;
}

/** Waits until so many more calls than before wait for another one's load. */
async function joined(engine: Zmsg, count: number, before = 0): Promise<void> {
  while (engine.stats().joinedLoads - before < count) await pause(5);
}

const text = (found: Buffer | undefined) => found?.toString();

test("a thousand calls cost one run", async () => {
  const { load, open, ...rest } = loader();
  const before = zm.stats().joinedLoads;
  let runs = 0;
  const calls = Array.from({ length: 1_000 }, () => zm.getOrLoad("k", () => ((runs += 1), load())));
  await joined(zm, 999, before);
  open();
  expect(new Set((await Promise.all(calls)).map(text))).toEqual(new Set(["v"]));
  expect(runs).toBe(1);
  expect(rest.result).toBe("v");
  expect(text(zm.peek("k"))).toBe("v");
  expect(text(await zm.getOrLoad("k", load))).toBe("v");
});

test.each([
  [{ a: [1, null] }, '{"a":[1,null]}'],
  [Buffer.from("b"), "b"],
  [null, undefined],
  [undefined, undefined],
])("a loader may give %p", async (data, kept) => {
  await zm.del("k");
  let runs = 0;
  const load = () => ((runs += 1), data);
  for (let n = 0; n < 2; n += 1)
    expect(text(await zm.getOrLoad("k", load, { ttl: "10m", absentTtl: 5_000 }))).toBe(kept);
  expect(runs).toBe(1);
  await zm.cacheOnly("k", "now");
  expect(text(await zm.getOrLoad("k", load))).toBe("now");
});

test("what is thrown is the caller's own, and told to the others once", async () => {
  const loads = loader(new RangeError("no such thing"));
  const before = zm.stats().joinedLoads;
  const calls = Array.from({ length: 10 }, () => rejection(zm.getOrLoad("failing", loads.load)));
  await joined(zm, 9, before);
  loads.open();
  const errors = await Promise.all(calls);
  expect(errors.filter((error) => error === loads.result)).toHaveLength(1);
  const others = errors.filter((error) => error !== loads.result);
  expect(others.every((error) => error instanceof StoreError)).toBe(true);
  expect(String(others[0])).toContain('the loader of "failing" failed: RangeError: no such thing');
  loads.result = "v";
  expect(text(await zm.getOrLoad("failing", loads.load))).toBe("v");
  expect(loads.runs).toBe(2);
  expect(await rejection(zm.getOrLoad("big", () => 1n as unknown as Loaded))).toBeInstanceOf(TaskError);
  expect(await rejection(zm.getOrLoad("x", "no function" as unknown as () => Loaded))).toBeInstanceOf(TaskError);
  expect(await rejection(zm.getOrLoad("x", () => "v", { tll: 5 } as object))).toBeInstanceOf(TaskError);
});

test("an aborted leader hands over", async () => {
  const [first, second] = [loader(), loader("second")];
  second.open();
  const controller = new AbortController();
  const before = zm.stats().joinedLoads;
  const leader = rejection(zm.getOrLoad("handed", first.load, { signal: controller.signal }));
  while (first.runs === 0) await pause(1);
  const others = [1, 2, 3].map(() => zm.getOrLoad("handed", second.load));
  await joined(zm, 3, before);
  const reason = new Error("enough");
  controller.abort(reason);
  expect(await leader).toBe(reason);
  expect((await Promise.all(others)).map(text)).toEqual(["second", "second", "second"]);
  expect(second.runs).toBe(1);
  first.open();
});

test("what the loader itself writes stays", async () => {
  const load = async () => {
    await zm.cacheOnly("own", "written");
    return "loaded";
  };
  expect(text(await zm.getOrLoad("own", load))).toBe("loaded");
  expect(await zm.getText("own")).toBe("written");
});

test("the last good value covers a loader that fails or takes long", async () => {
  const keeping = await at.open({ l1MaxCost: 0 });
  const life = { ttl: 20, staleTtl: "1h" };
  expect(text(await keeping.getOrLoad("kept", () => "old", life))).toBe("old");
  await pause(40);
  const fail = () => Promise.reject(new Error("down"));
  expect(text(await keeping.getOrLoad("kept", fail, life))).toBe("old");
  const slow = loader("new");
  expect(text(await keeping.getOrLoad("kept", slow.load, { ...life, softTimeout: 30 }))).toBe("old");
  slow.open();
  while (keeping.stats().cacheFills < 2) await pause(5);
  expect(keeping.stats().staleServed).toBe(2);
  expect(String(await rejection(keeping.getOrLoad("another", fail, life)))).toContain("down");
});

describe("a read of its own mind", () => {
  let reading: Zmsg;

  beforeAll(async () => {
    reading = await at.open();
    await reading.sqlExec(sql("CREATE TABLE numbers (id text PRIMARY KEY, n text, wait float8 DEFAULT 0)"));
    const query = "SELECT n::int::text FROM numbers, LATERAL (SELECT pg_sleep(wait)) AS slept WHERE id = ?";
    reading.source("number:*", sql(query), { ttl: 20, staleTtl: "1h" });
  });

  /** A value past its life, whose source holds `n` and answers after so many seconds. */
  async function held(key: string, n: string, wait = 0): Promise<void> {
    await reading.sqlExec(sql("INSERT INTO numbers (id, n) VALUES (?, '1')", key));
    expect(await reading.getText(key)).toBe("1");
    await reading.sqlExec(sql("UPDATE numbers SET n = ?, wait = ?::float8 WHERE id = ?", n, wait, key));
    await pause(40);
  }

  test("does without the last good value", async () => {
    await held("number:1", "none");
    for (const options of [undefined, {}, { stale: true }])
      expect(text(await reading.get("number:1", options))).toBe("1");
    // The copies before native code have it now.
    expect(text(reading.peek("number:1"))).toBe("1");
    const strict = { stale: false };
    const reads = [
      () => reading.get("number:1", strict),
      () => reading.get("number:1", { ...strict, required: true }),
      () => reading.getText("number:1", strict),
      () => reading.getJson("number:1", strict),
      () => reading.getMany(["number:1", "nobody"], strict),
    ];
    for (const read of reads) expect(await rejection(read())).toMatchObject({ sqlstate: "22P02" });
    expect((await reading.getMany(["number:1"])).size).toBe(1);
    await reading.sqlExec(sql("UPDATE numbers SET n = '2' WHERE id = 'number:1'"));
    expect(await reading.getJson("number:1", strict)).toBe(2);
  });

  test("has a soft timeout of its own", async () => {
    await held("number:2", "2", 0.5);
    await held("number:3", "3", 0.5);
    expect(await reading.getText("number:2", { softTimeout: 10 })).toBe("1");
    expect(text((await reading.getMany(["number:3"], { softTimeout: "10ms" })).get("number:3"))).toBe("1");
    expect(await reading.getText("number:3", { softTimeout: 0, stale: false })).toBe("3");
  });

  test.each([
    [{ stale: 0 }, "stale is true or false, not number"],
    [{ stale: "no" }, "stale is true or false, not string"],
    [{ softTimeout: -1 }, "softTimeout"],
    [{ softTimeout: NaN }, "softTimeout"],
    [{ softTimeout: Infinity }, "softTimeout"],
    [{ softTimeout: true }, "softTimeout is a number of milliseconds"],
    [{ softTimeout: "soon" }, "softTimeout"],
    [{ softTimeoutMs: 1 }, "unknown option softTimeoutMs"],
  ])("is not told by %p", async (given, message) => {
    const options = given as ReadOptions;
    const reads = [reading.get("k", options), reading.getText("k", options), reading.getJson("k", options)];
    for (const read of [...reads, reading.getMany(["k"], options)]) {
      const error = await rejection(read);
      expect(error).toBeInstanceOf(TaskError);
      expect(String(error)).toContain(message);
    }
  });
});

test("a value that ends soon is loaded anew in the background", async () => {
  const renewing = await at.open({ l1MaxCost: 0, refreshAhead: 0.9 });
  expect(text(await renewing.getOrLoad("renewed", () => "old", { ttl: 10_000 }))).toBe("old");
  const fresh = loader("new");
  while (fresh.runs === 0) expect(text(await renewing.getOrLoad("renewed", fresh.load, { ttl: 10_000 }))).toBe("old");
  expect(text(await renewing.getOrLoad("renewed", fresh.load, { ttl: 10_000 }))).toBe("old");
  fresh.open();
  while ((await renewing.getText("renewed")) !== "new") await pause(5);
  expect([fresh.runs, renewing.stats().refreshes]).toEqual([1, 1]);
});

test("two engines cost one run", async () => {
  const other = await at.open();
  const loads = loader();
  const before = zm.stats().joinedLoads;
  const calls = [zm, other].flatMap((engine) => Array.from({ length: 50 }, () => engine.getOrLoad("both", loads.load)));
  await joined(zm, 49, before);
  await joined(other, 49);
  loads.open();
  expect(new Set((await Promise.all(calls)).map(text))).toEqual(new Set(["v"]));
  expect(loads.runs).toBe(1);
});
