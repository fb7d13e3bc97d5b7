// Aggregated writes: accepted now, composed, flushed in batches.

import { inspect } from "node:util";

import { counter, bind, map, slice, sql, table, type DeadLetter, type Receipt, type Zmsg } from "zmsg";

import { rejection, stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;

beforeAll(async () => {
  // Flushes come when a test asks for them.
  at = await stage({ batchInterval: "1h" });
  zm = await at.open();
  await zm
    .loadSql(
      `CREATE TABLE meta (id text PRIMARY KEY, views int8 NOT NULL DEFAULT 0, likes int4 NOT NULL DEFAULT 0,
         price numeric NOT NULL DEFAULT 0, tags jsonb NOT NULL DEFAULT '[]', extra jsonb NOT NULL DEFAULT '{}',
         CHECK (likes >= 0))`,
      "0001_meta",
    )
    .migrate();
});
afterAll(() => at?.end());

let rows = 0;
async function row(): Promise<string> {
  const id = `row_${++rows}`;
  await zm.sqlExec(sql("INSERT INTO meta (id) VALUES (?)", id));
  return id;
}
const stored = async (id: string) => (await zm.query(sql("SELECT * FROM meta WHERE id = ?", id)))[0];
const view = counter("meta", "views").inc(1).where("id = ?", bind).prepare();
const like = counter("meta", "likes").inc(1).where("id = ?", bind).prepare();
const unlike = counter("meta", "likes").dec(1).where("id = ?", bind).prepare();

describe("accepting", () => {
  test("five hundred increments become one row of one statement", async () => {
    const id = await row();
    const receipts: Receipt[] = [];
    for (let n = 0; n < 500; n++) receipts.push(await zm.cacheAndPeriodicStore(null, null, view(id)));
    expect((await stored(id))?.["views"]).toBe(0n);
    expect(await zm.flush()).toEqual({
      operations: 500,
      rows: 1,
      statements: 1,
      zeroRowUpdates: 0,
      dead: 0,
      durationMs: expect.any(Number) as number,
    });
    await Promise.all(receipts.map((receipt) => receipt.done()));
    expect((await stored(id))?.["views"]).toBe(500n);
    expect(new Set(receipts.map((receipt) => receipt.opId)).size).toBe(500);
  });

  test("a receipt says what the write survives", async () => {
    const id = await row();
    const receipt = await zm.cacheAndPeriodicStore(null, null, view(id));
    expect(receipt).toMatchObject({ durability: "journal", cached: true, rowsAffected: 0, rows: [] });
    expect(receipt.opId).toMatch(/^[0-9a-f]{32}-\d+$/);
    expect(JSON.parse(JSON.stringify(receipt))).toMatchObject({ opId: receipt.opId, durability: "journal" });
    await zm.flush();
  });

  test("a receipt prints its operation", async () => {
    const receipt = await zm.cacheAndPeriodicStore(null, null, view(await row()));
    const shown = `Receipt { opId: '${receipt.opId}', durability: 'journal', cached: true }`;
    const options = { breakLength: Infinity };
    expect(inspect(receipt, options)).toBe(shown);
    expect(inspect({ receipt }, options)).toBe(`{ receipt: ${shown} }`);
    expect(inspect({ a: { receipt } }, { ...options, depth: 0 })).toBe("{ a: [Object] }");
    expect(inspect({ receipt }, { ...options, depth: 0 })).toBe("{ receipt: [Receipt] }");
    expect(JSON.stringify(receipt)).toBe(
      `{"opId":"${receipt.opId}","durability":"journal","rowsAffected":0,"rows":[],"cached":true}`,
    );
    await zm.flush();
  });

  test.each(["journal_fsync", "memory"] as const)("class %s is the receipt's durability", async (journal) => {
    const id = await row();
    const other = await at.open({ journal });
    const receipt = await other.cacheAndPeriodicStore(null, null, view(id));
    expect(receipt.durability).toBe(journal);
    await other.close();
    await receipt.done();
    expect((await stored(id))?.["views"]).toBe(1n);
  });

  test("a list is accepted as one, and options are as for a synchronous write", async () => {
    const id = await row();
    const receipt = await zm.cacheAndPeriodicStore("list", "now", [view(id), like(id)], {
      ttl: "10m",
      invalidates: ["beside"],
      timeout: "5s",
    });
    expect(await zm.getText("list")).toBe("now");
    expect(await zm.flush()).toMatchObject({ operations: 2, rows: 1 });
    await receipt.done();
    expect(await zm.getText("list")).toBe("now");
    expect(await stored(id)).toMatchObject({ views: 1n, likes: 1 });
  });

  test("without data the caches keep what they have until the flush drops it", async () => {
    const id = await row();
    await zm.cacheOnly("kept", "old");
    await zm.cacheOnly("named", "old");
    await zm.cacheAndPeriodicStore("kept", null, view(id));
    await zm.cacheAndPeriodicStore(null, null, view(id), { invalidates: ["named"] });
    expect([await zm.getText("kept"), await zm.getText("named")]).toEqual(["old", "old"]);
    await zm.flush();
    expect([await zm.getText("kept"), await zm.getText("named")]).toEqual([undefined, undefined]);
  });

  test("what cannot be aggregated is refused, with and without options", async () => {
    const refused: [never, string][] = [
      [sql("SELECT 1") as never, "reads"],
      [sql("INSERT INTO meta (id) VALUES ('x')").returning("id") as never, "RETURNING"],
      [[] as never, "empty list"],
      ["UPDATE meta SET views = 1" as never, "wrap it"],
    ];
    for (const [task, message] of refused) {
      for (const options of [undefined, {}]) {
        const error = await rejection(zm.cacheAndPeriodicStore(null, null, task, options));
        expect(error).toMatchObject({ code: "task", message: expect.stringContaining(message) as string });
      }
    }
    const undefinedData = zm.cacheAndPeriodicStore("k", undefined as never, view("x"));
    await expect(undefinedData).rejects.toMatchObject({ code: "task" });
    await expect(zm.cacheAndPeriodicStore(null, "data", view("x"))).rejects.toMatchObject({ code: "task" });
    const misspelt = { invalidate: ["k"] } as never;
    await expect(zm.cacheAndPeriodicStore(null, null, view("x"), misspelt)).rejects.toMatchObject({ code: "task" });
  });

  test("a read is told how a function that changes rows can run", async () => {
    const error = await rejection(zm.cacheAndPeriodicStore(null, null, sql("SELECT lower(?)", "A")));
    expect(error).toMatchObject({ message: expect.stringContaining("or CALL a procedure") as string });
  });

  test("an aborted signal accepts nothing", async () => {
    const id = await row();
    const call = zm.cacheAndPeriodicStore(null, null, view(id), { signal: AbortSignal.abort() });
    expect(await rejection(call)).toMatchObject({ name: "AbortError" });
    expect(await zm.pending(view(id))).toBe(0n);
  });

  test("a burst of writes at once arrives whole", async () => {
    const ids = await Promise.all([row(), row(), row()]);
    const burst = Array.from({ length: 9_000 }, (_, n) => zm.cacheAndPeriodicStore(null, null, view(ids[n % 3]!)));
    await Promise.all(burst);
    expect(zm.stats()).toMatchObject({ pendingCells: 3 });
    expect(await zm.flush()).toMatchObject({ operations: 9_000, rows: 3 });
    for (const id of ids) expect((await stored(id))?.["views"]).toBe(3_000n);
  });

  const wide = counter("meta", "views").inc(1).orInsert({ id: bind }).where("id = ?", bind).prepare();
  const fill = (engine: Zmsg, prefix: string) =>
    Array.from({ length: 6_000 }, (_, n) => {
      const id = `${prefix}_${n}_${"x".repeat(300)}`;
      return engine.cacheAndPeriodicStore(null, null, wide(id, id));
    });
  const sum = async (prefix: string) =>
    (await zm.query(sql("SELECT coalesce(sum(views), 0)::int4 AS n FROM meta WHERE id LIKE ?", `${prefix}%`)))[0];

  test("where there is no room it waits, and loses nothing", async () => {
    const small = await at.open({ batchMaxBytes: 1 << 20 });
    await Promise.all(fill(small, "waits"));
    await small.flush();
    expect(await sum("waits")).toEqual({ n: 6_000 });
  });

  test("what finds no room in time is told so, and exactly the rest is applied", async () => {
    const small = await at.open({ batchMaxBytes: 1 << 20, overloadTimeout: "50ms" });
    // No flush gets through while the table is locked.
    const locked = zm.sqlExec([sql("LOCK TABLE meta"), sql("SELECT pg_sleep(1)::text")]);
    const sleeping = sql(
      "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
    );
    while ((await zm.query(sleeping)).length === 0);
    const ends = await Promise.allSettled(fill(small, "full"));
    const refused = ends.filter((end) => end.status === "rejected").map((end) => end.reason as unknown);
    expect(refused.length).toBeGreaterThan(0);
    for (const error of refused) expect(error).toMatchObject({ name: "OverloadedError", retryable: true });
    await locked;
    await small.flush();
    expect(await sum("full")).toEqual({ n: 6_000 - refused.length });
    expect(small.stats()).toMatchObject({ batchOverloads: refused.length, pendingCells: 0 });
  });
});

describe("pending", () => {
  test("it is decoded like a column", async () => {
    const id = await row();
    const price = counter("meta", "price").inc("0.10").where("id = ?", id);
    const tags = slice("meta", "tags").add({ a: 1 }).where("id = ?", id);
    const extra = map("meta", "extra").set("k", [1, "2"]).where("id = ?", id);
    await zm.cacheAndPeriodicStore(null, null, [view(id), price.build(), tags.build(), extra.build()]);
    expect(await zm.pending<bigint>(view(id))).toBe(1n);
    expect(await zm.pending(table("meta").column("price").counter().inc(1).where("id = ?", id))).toBe("0.10");
    expect(await zm.pending(tags)).toEqual([{ a: 1 }]);
    expect(await zm.pending(extra)).toEqual({ k: [1, "2"] });
    await zm.flush();
    expect(await zm.pending(extra)).toEqual({ k: [1, "2"] });
  });

  test.each([
    ["number", 3],
    ["string", "3"],
  ] as const)("int8 comes as the setting %s says", async (int8, expected) => {
    const id = await row();
    const other = await at.open({ int8 });
    for (let n = 0; n < 3; n++) await other.cacheAndPeriodicStore(null, null, view(id));
    expect(await other.pending(view(id))).toBe(expected);
  });

  test("a builder names its cell without an operation too", async () => {
    const id = await row();
    const views = counter("meta", "views").where("id = ?", id);
    const tags = slice("meta", "tags").where("id = ?", id);
    const extra = map("meta", "extra").where("id = ?", id);
    await zm.cacheAndPeriodicStore(null, null, [views.inc(2), tags.add("new"), extra.set("k", "v")]);
    expect(await zm.pending(views)).toBe(2n);
    expect(await zm.pending(tags)).toEqual(["new"]);
    expect(await zm.pending(extra)).toEqual({ k: "v" });
    await zm.flush();
    expect(await zm.pending(views)).toBe(2n);
    expect(await zm.pending(views.inc(5))).toBe(2n);
    const missing = counter("meta", "views")
      .where("id = ?", `${id}_too`)
      .orInsert({ id: `${id}_too` });
    expect(await zm.pending(missing)).toBeUndefined();
    await zm.cacheAndPeriodicStore(null, null, missing.inc(1));
    expect(await zm.pending(missing)).toBe(1n);
    await zm.flush();
    expect(await rejection(zm.pending(counter("meta", "views")))).toMatchObject({
      code: "task",
      message: expect.stringContaining("no WHERE") as string,
    });
    expect(await rejection(zm.cacheAndPeriodicStore(null, null, views))).toMatchObject({
      code: "task",
      message: expect.stringContaining("no operation") as string,
    });
  });

  test("a row that is missing is undefined", async () => {
    expect(await zm.pending(view("nowhere"))).toBeUndefined();
    await expect(zm.pending(sql("UPDATE meta SET views = 1"))).rejects.toMatchObject({ code: "task" });
  });
});

describe("what becomes of a write", () => {
  test("done waits for the flush", async () => {
    const id = await row();
    const receipt = await zm.cacheAndPeriodicStore(null, null, view(id));
    let ended = false;
    const done = receipt.done().then(() => (ended = true));
    await zm.health();
    expect(ended).toBe(false);
    await zm.flush();
    await done;
  });

  test("the wait for the flush may end before it, and changes nothing", async () => {
    const id = await row();
    const receipt = await zm.cacheAndPeriodicStore(null, null, view(id));
    expect(await rejection(receipt.done({ timeout: 20 }))).toMatchObject({
      name: "TimeoutError",
      code: "timeout",
      retryable: true,
      opId: receipt.opId,
      message: expect.stringMatching(/in the journal and will be applied/) as string,
    });
    const controller = new AbortController();
    const waiting = receipt.done({ timeout: "1h", signal: controller.signal });
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await rejection(waiting)).toBe(reason);
    const waited = receipt.done({ timeout: "1h", signal: new AbortController().signal });
    expect(await zm.pending(view(id))).toBe(1n);
    await zm.flush();
    await waited;
    expect((await stored(id))?.["views"]).toBe(1n);
  });

  test("in class memory the error says where the operation is", async () => {
    const other = await at.open({ journal: "memory" });
    const receipt = await other.cacheAndPeriodicStore(null, null, view(await row()));
    const error = await rejection(receipt.done({ timeout: "20ms" }));
    expect(error).toMatchObject({ code: "timeout", message: expect.stringContaining("process's memory") as string });
    await other.close();
  });

  test("options of done are checked, for what is committed too", async () => {
    const committed = await zm.cacheAndStore(null, null, sql("UPDATE meta SET views = views WHERE false"));
    const accepted = await zm.cacheAndPeriodicStore(null, null, view(await row()));
    const reason = new Error("enough");
    for (const receipt of [committed, accepted]) {
      expect(await rejection(receipt.done({ timeOut: 5 } as never))).toMatchObject({ code: "task" });
      expect(await rejection(receipt.done({ timeout: new Date() } as never))).toMatchObject({ code: "task" });
      expect(await rejection(receipt.done({ signal: AbortSignal.abort(reason) }))).toBe(reason);
    }
    await committed.done({ timeout: "5s", signal: new AbortController().signal });
    await zm.flush();
    await accepted.done({ timeout: "5s" });
  });

  test("close flushes, and done does not keep it waiting", async () => {
    const id = await row();
    const other = await at.open();
    const receipt = await other.cacheAndPeriodicStore(null, null, view(id));
    const done = receipt.done();
    await other.close();
    await done;
    await receipt.done();
    expect((await stored(id))?.["views"]).toBe(1n);
    const late = rejection(other.cacheAndPeriodicStore(null, null, view(id)));
    expect(await late).toMatchObject({ name: "ClosedError", code: "closed" });
  });

  test("a refusal is a typed error and a dead letter, which can be run again or dropped", async () => {
    const [first, second] = [await row(), await row()];
    const receipts = [
      await zm.cacheAndPeriodicStore("letter", null, unlike(first)),
      await zm.cacheAndPeriodicStore(null, null, unlike(second)),
    ];
    expect(await zm.flush()).toMatchObject({ operations: 2, dead: 2 });
    const error = await rejection(receipts[0]!.done());
    expect(error).toMatchObject({ name: "StoreError", sqlstate: "23514", opId: receipts[0]!.opId });
    const letters = await zm.deadLetters();
    expect(letters.map((letter) => letter.opId).sort()).toEqual(receipts.map((receipt) => receipt.opId).sort());
    const [again, never] = receipts.map((receipt) => letters.find((it) => it.opId === receipt.opId)!) as [
      DeadLetter,
      DeadLetter,
    ];
    expect(again).toEqual({
      id: expect.any(BigInt) as bigint,
      path: "batch",
      opId: receipts[0]!.opId,
      key: "letter",
      statement: expect.stringContaining("UPDATE") as string,
      sqlstate: "23514",
      message: expect.any(String) as string,
      deadAt: expect.stringMatching(/^\d{4}-\d\d-\d\d /) as string,
    });
    expect(never.key).toBeNull();

    await expect(zm.retryDead(again.id)).rejects.toMatchObject({ sqlstate: "23514" });
    await zm.sqlExec(sql("UPDATE meta SET likes = 5 WHERE id = ?", first));
    await zm.retryDead(again.id);
    await zm.dropDead(Number(never.id));
    expect(await zm.deadLetters()).toEqual([]);
    expect(await stored(first)).toMatchObject({ likes: 4 });
    await expect(zm.dropDead(never.id)).rejects.toMatchObject({ code: "not_found" });
  });

  test.each([
    ["1", "a string"],
    [true, "a boolean"],
    [null, "null"],
    [undefined, "undefined"],
    [[1], "an array"],
    [1.5, "1.5"],
    [NaN, "NaN"],
    [0, "0"],
    [-1n, "-1"],
    [2 ** 53, "9007199254740992"],
    [2n ** 63n, "one of more than 64 bits"],
    [-(2n ** 70n), "one of more than 64 bits"],
  ])("%p is no id of a dead letter", async (id, given) => {
    for (const call of [zm.retryDead(id as never), zm.dropDead(id as never)]) {
      expect(await rejection(call)).toMatchObject({
        code: "task",
        message: `the id of a dead letter is a positive bigint or safe integer, as deadLetters() gives it, not ${given}`,
      });
    }
  });

  test("dead letters come in pages, and all of them are run again", async () => {
    const [first, second] = [await row(), await row()];
    for (const id of [first, second]) {
      await zm.cacheAndPeriodicStore(null, null, unlike(id));
      await zm.flush();
    }
    const [older, newer] = (await zm.deadLetters()) as [DeadLetter, DeadLetter];
    expect(await zm.deadLetters({ limit: 1 })).toEqual([older]);
    expect(await zm.deadLetters({ after: older.id, limit: 10_000 })).toEqual([newer]);
    expect(await zm.deadLetters({ after: Number(newer.id) })).toEqual([]);

    await zm.sqlExec(sql("UPDATE meta SET likes = 5 WHERE id = ?", second));
    expect(await zm.retryAllDead({ timeout: "5s" })).toEqual({ retried: 1, refused: 1 });
    expect(await zm.deadLetters()).toEqual([older]);
    await zm.dropDead(older.id);
    expect(await zm.retryAllDead()).toEqual({ retried: 0, refused: 0 });
  });

  test.each([
    [{ after: "1" }, "after is the id of a dead letter, as deadLetters() gives it, or 0, not a string"],
    [
      { after: 2n ** 63n },
      "after is the id of a dead letter, as deadLetters() gives it, or 0, not one of more than 64 bits",
    ],
    [{ limit: 1.5 }, "limit is a whole number of dead letters, not 1.5"],
    [{ limit: "10" }, "limit is a whole number of dead letters, not a string"],
    [{ limit: 0 }, "dead letters are listed 1 to 10,000 at a time; give a limit in that range"],
    [{ limit: -1 }, "dead letters are listed 1 to 10,000 at a time; give a limit in that range"],
    [{ limit: 2 ** 32 + 1 }, "dead letters are listed 1 to 10,000 at a time; give a limit in that range"],
    [{ most: 1 }, "unknown option most; known here: timeout, signal, after, limit"],
  ])("%p is no page of dead letters", async (options, message) => {
    expect(await rejection(zm.deadLetters(options as never))).toMatchObject({ code: "task", message });
  });

  test("a change that finds no row is counted", async () => {
    await zm.cacheAndPeriodicStore(null, null, view("missing"));
    expect(await zm.flush()).toMatchObject({ operations: 1, zeroRowUpdates: 1 });
    expect(zm.stats().zeroRowUpdates).toBeGreaterThan(0);
  });

  test("every figure of stats has its type", () => {
    const figures = Object.entries(zm.stats());
    const others = figures.filter(([, value]) => typeof value !== "number").map(([name]) => name);
    expect(others.sort()).toEqual(["bloom", "coherent", "queuePaused", "redisBreaker", "sourceBreaker"]);
    expect(zm.stats()).toMatchObject({ oldestPendingMs: 0, pendingCells: 0 });
    expect(zm.stats().aggregationRatio).toBeGreaterThan(1);
  });
});
