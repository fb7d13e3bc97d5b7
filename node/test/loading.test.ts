import { setTimeout as pause } from "node:timers/promises";

import { StoreError, TaskError, type Loaded, type Zmsg } from "zmsg";

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
