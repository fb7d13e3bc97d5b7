// Delayed writes: accepted by the queue now, run later by whichever process has a worker.

import { inspect } from "node:util";

import { QueueError, sql, StoreError, TaskError, TimeoutError, type Receipt, type Zmsg } from "zmsg";

import { rejection, stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;

beforeAll(async () => {
  at = await stage();
  zm = await at.open();
  await zm
    .loadSql("CREATE TABLE effects (n serial PRIMARY KEY, key text, what text NOT NULL)", "0001_effects")
    .migrate();
});
afterAll(() => at?.end());

let keys = 0;
const newKey = () => `key_${++keys}`;
const effect = (key: string, what: string) => sql("INSERT INTO effects (key, what) VALUES (?, ?)", key, what);
const effects = async (key: string) =>
  (await zm.query<{ what: string }>(sql("SELECT what FROM effects WHERE key = ? ORDER BY n", key))).map(
    (it) => it.what,
  );
const soon = { timeout: "20s" };

describe("accepting", () => {
  test("a delay is milliseconds or text, and may be zero", async () => {
    const key = newKey();
    for (const delay of [0, "0s", 5, "5ms"]) {
      const receipt = await zm.cacheAndDelayStore(key, null, effect(key, String(delay)), { delay });
      await receipt.done(soon);
    }
    expect(await effects(key)).toEqual(["0", "0s", "5", "5ms"]);
  });

  test("without options the delay is that of the configuration", async () => {
    const key = newKey();
    const patient = await at.open({ queue: { taskDelay: "1h", worker: false } });
    const receipt = await patient.cacheAndDelayStore(key, "now", effect(key, "never"));
    expect(await patient.getText(key)).toBe("now");
    expect(receipt).toMatchObject({ durability: "redis_aof", cached: true, rowsAffected: 0, rows: [] });
    expect(await patient.cancelDelayed(receipt.opId)).toBe("cancelled");
  });

  test("every option is taken", async () => {
    const key = newKey();
    await zm.cacheOnly("beside", "old");
    const receipt = await zm.cacheAndDelayStore(key, { a: 1 }, [effect(key, "x"), effect(key, "y")], {
      ttl: "10m",
      delay: 0,
      opId: `named-${key}`,
      coalesce: true,
      taskTimeout: 5_000,
      invalidates: ["beside"],
      timeout: "5s",
      signal: AbortSignal.timeout(5_000),
    });
    expect(receipt.opId).toBe(`named-${key}`);
    await receipt.done(soon);
    expect(await effects(key)).toEqual(["x", "y"]);
    expect(await zm.getJson(key)).toEqual({ a: 1 });
    expect(await zm.getText("beside")).toBeUndefined();
    const gone = await zm.delDelayStore(key, effect(key, "z"), {
      delay: 0,
      opId: `gone-${key}`,
      coalesce: false,
      taskTimeout: "5s",
      invalidates: ["beside"],
      timeout: 5_000,
    });
    expect(zm.peek(key)).toBeUndefined();
    await gone.done(soon);
    expect(await effects(key)).toEqual(["x", "y", "z"]);
  });

  test("a receipt prints and is sent as that of any write", async () => {
    const key = newKey();
    const receipt = await zm.cacheAndDelayStore(key, null, effect(key, "x"), { delay: 0, opId: "printed" });
    expect(inspect(receipt, { breakLength: Infinity })).toBe(
      "Receipt { opId: 'printed', durability: 'redis_aof', cached: true }",
    );
    expect(JSON.parse(JSON.stringify(receipt))).toMatchObject({ opId: "printed", durability: "redis_aof" });
    await receipt.done(soon);
  });

  test.each([
    [{ delay: -1 }, "delay"],
    [{ delay: "0" }, "delay"],
    [{ delay: NaN }, "delay"],
    [{ delay: new Date() }, "delay"],
    [{ delay: "366d" }, "delay"],
    [{ taskTimeout: 0 }, "taskTimeout"],
    [{ opId: "with space" }, "op_id"],
    [{ opId: 17 }, "opId"],
    [{ coalesce: "yes" }, "coalesce"],
    [{ invalidates: "k" }, "invalidates"],
    [{ op_id: "x" }, "unknown option op_id"],
  ] as [never, string][])("%j is refused", async (options, message) => {
    const key = newKey();
    for (const call of [
      zm.cacheAndDelayStore(key, "v", effect(key, "x"), options),
      zm.delDelayStore(key, effect(key, "x"), options),
    ]) {
      const error = await rejection(call);
      expect(error).toBeInstanceOf(TaskError);
      expect((error as TaskError).message).toContain(message);
    }
    expect(await zm.get(key)).toBeUndefined();
    expect(await rejection(zm.delDelayStore(key, effect(key, "x"), { ttl: 5 } as never))).toBeInstanceOf(TaskError);
  });
});

describe("waiting", () => {
  test("a timeout and a signal end the wait alone", async () => {
    const key = newKey();
    await zm.pauseQueue();
    const receipt = await zm.cacheAndDelayStore(key, null, effect(key, "x"), { delay: 0 });
    const late = await rejection(receipt.done({ timeout: 20 }));
    expect(late).toBeInstanceOf(TimeoutError);
    expect(late).toMatchObject({ opId: receipt.opId, retryable: true });
    expect((late as TimeoutError).message).toContain("is in the queue and will be applied");
    const controller = new AbortController();
    const given = rejection(receipt.done({ signal: controller.signal }));
    controller.abort("enough");
    expect(await given).toBe("enough");
    await zm.resumeQueue();
    await receipt.done(soon);
    expect(await effects(key)).toEqual(["x"]);
  });

  test("what became of it: refused, taken back, replaced", async () => {
    const key = newKey();
    const refused = await zm.cacheAndDelayStore(key, null, sql("INSERT INTO effects (what) VALUES (NULL)"), {
      delay: 0,
    });
    const error = await rejection(refused.done(soon));
    expect(error).toBeInstanceOf(StoreError);
    expect(error).toMatchObject({ sqlstate: "23502", opId: refused.opId, retryable: false });
    const [letter] = (await zm.deadLetters()).filter((it) => it.opId === refused.opId);
    expect(letter).toMatchObject({ path: "queue", key });
    await zm.dropDead(letter!.id);

    const later = (what: string) =>
      zm.cacheAndDelayStore(key, null, effect(key, what), { delay: "1h", coalesce: true });
    const [first, last] = [await later("a"), await later("b")];
    expect(await zm.cancelDelayed(last.opId)).toBe("cancelled");
    expect(await zm.cancelDelayed(last.opId)).toBe("unknown");
    for (const gone of [first, last]) {
      const error = await rejection(gone.done(soon));
      expect(error).toBeInstanceOf(QueueError);
      expect(error).toMatchObject({ opId: gone.opId, retryable: false });
    }
    expect(await effects(key)).toEqual([]);
  });

  test("a thousand writes over ten keys keep the order of each key", async () => {
    const lanes = Array.from({ length: 10 }, newKey);
    const numbers = Array.from({ length: 100 }, (_, n) => String(n));
    const fill = async (key: string) => {
      const receipts: Receipt[] = [];
      for (const n of numbers) receipts.push(await zm.cacheAndDelayStore(key, null, effect(key, n), { delay: 0 }));
      await Promise.all(receipts.map((receipt) => receipt.done(soon)));
      expect(await effects(key)).toEqual(numbers);
    };
    await Promise.all(lanes.map(fill));
  });
});

describe("without the queue's Redis", () => {
  // Nobody listens there.
  const gone = { addr: "127.0.0.1:1", worker: false };
  const degraded = { startDegraded: true, connectTimeout: "300ms", redisTimeout: "200ms" };

  test("fallback: sync runs the write at once, and no second time when the queue has it as well", async () => {
    const key = newKey();
    const falling = await at.open({ ...degraded, queue: { ...gone, fallback: "sync" } });
    const named = { delay: "1h", opId: `once-${key}` };
    const receipt = await falling.cacheAndDelayStore(key, "now", effect(key, "at once"), named);
    expect(receipt).toMatchObject({ opId: named.opId, durability: "postgres", cached: true });
    await receipt.done(soon);
    expect(await effects(key)).toEqual(["at once"]);
    expect(await falling.getText(key)).toBe("now");
    const late = await zm.cacheAndDelayStore(key, null, effect(key, "at once"), { ...named, delay: 0 });
    await late.done(soon);
    expect(await effects(key)).toEqual(["at once"]);
    const refused = falling.cacheAndDelayStore(key, "never", sql("UPDATE effects SET what = NULL"), named);
    expect((await refused).opId).toBe(named.opId);
    const dead = falling.cacheAndDelayStore(key, "never", sql("UPDATE effects SET what = NULL"));
    expect(await rejection(dead)).toMatchObject({ code: "store", sqlstate: "23502" });
    expect(await falling.getText(key)).not.toBe("never");
    await falling.close();
  });

  test("without the fallback it fails, and names its operation", async () => {
    const key = newKey();
    const plain = await at.open({ ...degraded, queue: gone });
    const error = await rejection(plain.cacheAndDelayStore(key, "now", effect(key, "never"), { delay: 0 }));
    expect(error).toBeInstanceOf(QueueError);
    expect(error).toMatchObject({ retryable: true, opId: expect.any(String) as string });
    expect(await effects(key)).toEqual([]);
    await plain.close();
  });
});

test("the figures of the queue", async () => {
  const key = newKey();
  await zm.pauseQueue();
  const receipts = [0, 1].map(() => zm.cacheAndDelayStore(key, null, effect(key, "x"), { delay: 0 }));
  while (!zm.stats().queuePaused || zm.stats().queueWaiting !== 1) await new Promise(setImmediate);
  expect(zm.stats()).toMatchObject({ queueDue: 1, queueLeased: 0, queueScheduled: 0, queueLosses: 0, queueDamaged: 0 });
  await zm.resumeQueue();
  for (const receipt of receipts) await (await receipt).done(soon);
  while (zm.stats().queuePaused || zm.stats().queueDue > 0) await new Promise(setImmediate);
  const { queueDone, queueP50Ms, queueP99Ms } = zm.stats();
  expect(queueDone).toBeGreaterThanOrEqual(2);
  expect(queueP99Ms).toBeGreaterThanOrEqual(queueP50Ms);
});
