import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";

import { counter, loadConfig, sql, Zmsg, type Settings } from "zmsg";

import { rejection, servers, stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;

beforeAll(async () => {
  at = await stage();
  zm = await at.open();
  await zm
    .loadSql(
      `CREATE TABLE feeds (id text PRIMARY KEY, content text, likes int8 NOT NULL DEFAULT 0);
       CREATE TABLE kinds (i2 int2, i4 int4, i8 int8, i8s int8[], i4s int4[], js json[])`,
      "0001_feeds",
    )
    .migrate();
});
afterAll(() => at?.end());

let keys = 0;
const freshKey = () => `key_${++keys}`;
const insert = (id: string, content: string) => sql("INSERT INTO feeds (id, content) VALUES (?, ?)", id, content);

describe("reading and writing the cache", () => {
  test.each([
    ["text", "grüß 😀", "grüß 😀"],
    ["empty text", "", ""],
    ["bytes", Buffer.from([0, 255, 10, 13]), Buffer.from([0, 255, 10, 13])],
    ["a view on a part of a buffer", new Uint8Array(Buffer.from("abcdef")).subarray(2, 4), "cd"],
    ["an object", { a: [1, null, "x"], b: undefined }, '{"a":[1,null,"x"]}'],
    ["an array", [1, "2"], '[1,"2"]'],
    ["a number", 1.5, "1.5"],
    ["a boolean", false, "false"],
    ["the text null", "null", "null"],
    ["what has a toJSON", new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ])("%s is read back byte for byte", async (_, data, bytes) => {
    const key = freshKey();
    await zm.cacheOnly(key, data);
    const other = await at.open();
    expect(await zm.get(key)).toEqual(Buffer.from(bytes));
    expect(await other.get(key)).toEqual(Buffer.from(bytes));
    await other.close();
  });

  test("getText and getJson decode, and say so when they cannot", async () => {
    const key = freshKey();
    await zm.cacheOnly(key, { a: 1 });
    expect(await zm.getJson<{ a: number }>(key)).toEqual({ a: 1 });
    expect(await zm.getText(key)).toBe('{"a":1}');
    expect(await zm.getJson("absent")).toBeUndefined();
    expect(await zm.getText("absent")).toBeUndefined();
    await zm.cacheOnly(key, Buffer.from([0xff, 0xfe]));
    await expect(zm.getText(key)).rejects.toMatchObject({ code: "task" });
    await zm.cacheOnly(key, "canary{");
    const error = await rejection(zm.getJson(key));
    expect(error).toMatchObject({ code: "task" });
    expect(String((error as Error).stack)).not.toContain("canary");
  });

  test("a Buffer that was read is the caller's to change", async () => {
    const key = freshKey();
    await zm.cacheOnly(key, "before");
    for (const read of [await zm.get(key), zm.peek(key), (await zm.getMany([key])).get(key)]) read?.write("after!");
    expect(await zm.getText(key)).toBe("before");
  });

  test("a Buffer that was given may be changed at once", async () => {
    const key = freshKey();
    const given = Buffer.from("before");
    const written = zm.cacheOnly(key, given);
    given.write("after!");
    await written;
    expect(await zm.getText(key)).toBe("before");
  });

  test("absence is undefined, or NotFoundError in the strict form", async () => {
    expect(await zm.get("absent")).toBeUndefined();
    expect(zm.peek("never read")).toBeUndefined();
    await expect(zm.get("absent", { required: true })).rejects.toMatchObject({
      name: "NotFoundError",
      code: "not_found",
    });
    await expect(zm.getJson("absent", { required: true })).rejects.toMatchObject({ code: "not_found" });
  });

  test("getMany gives a map in the order of the keys, absent ones omitted", async () => {
    const [a, b] = [freshKey(), freshKey()];
    await zm.cacheOnly(a, "A");
    await zm.cacheOnly(b, "B");
    const found = await zm.getMany(new Set([b, "absent", a]));
    expect([...found]).toEqual([
      [b, Buffer.from("B")],
      [a, Buffer.from("A")],
    ]);
    expect(await zm.getMany([])).toEqual(new Map());
  });

  test("del drops the key everywhere", async () => {
    const key = freshKey();
    await zm.cacheOnly(key, "x");
    await zm.del(key);
    expect(await zm.get(key)).toBeUndefined();
  });

  test("a thousand calls at once all end", async () => {
    const all = Array.from({ length: 1_000 }, (_, index) => `bulk_${index}`);
    await Promise.all(all.map((key) => zm.cacheOnly(key, key)));
    const other = await at.open();
    const read = await Promise.all(all.map((key) => other.getText(key)));
    expect(read).toEqual(all);
    await other.close();
  });
});

describe("reading and writing the database", () => {
  test("cacheAndStore writes both and gives a receipt", async () => {
    const id = zm.nextId("feed");
    const task = sql("INSERT INTO feeds (id, content) VALUES (?, ?)", id, "hello").returning("id", "likes");
    const receipt = await zm.cacheAndStore<{ id: string; likes: bigint }>(id, "hello", task, { ttl: "1m" });
    expect(receipt).toMatchObject({ rowsAffected: 1, rows: [{ id, likes: 0n }], durability: "postgres", cached: true });
    expect(receipt.opId).toMatch(/./);
    await receipt.done();
    expect(await zm.getText(id)).toBe("hello");
  });

  test("null data drops the key, a null key concerns none", async () => {
    const id = zm.nextId("feed");
    await zm.cacheOnly(id, "cached");
    await zm.cacheAndStore(id, null, insert(id, "stored"));
    expect(await zm.getText(id)).toBeUndefined();
    await zm.cacheOnly(id, "cached");
    await zm.cacheAndStore(null, null, sql("UPDATE feeds SET likes = 1 WHERE id = ?", id), { invalidates: [id] });
    expect(await zm.getText(id)).toBeUndefined();
  });

  test("a failed statement leaves no trace, and says what PostgreSQL said", async () => {
    const id = zm.nextId("feed");
    await zm.sqlExec(insert(id, "first"));
    const error = await rejection(
      zm.cacheAndStore(id, "second", [sql("UPDATE feeds SET likes = 9"), insert(id, "second")]),
    );
    expect(error).toMatchObject({ name: "StoreError", sqlstate: "23505", retryable: false });
    expect((error as { opId?: string }).opId ?? "none").toMatch(/./);
    expect(await zm.get(id)).toBeUndefined();
    expect(await zm.query(sql("SELECT likes FROM feeds WHERE likes = 9"))).toEqual([]);
  });

  test("delStore, sqlExec and builders", async () => {
    const id = zm.nextId("feed");
    await zm.cacheAndStore(id, "x", insert(id, "x"));
    const like = counter("feeds", "likes").inc(2).where("id = ?", id);
    expect(await zm.sqlExec([like, like])).toEqual({ rowsAffected: 2, rows: [] });
    expect(await zm.query(sql("SELECT likes FROM feeds WHERE id = ?", id))).toEqual([{ likes: 4n }]);
    const receipt = await zm.delStore(id, sql("DELETE FROM feeds WHERE id = ?", id));
    expect(receipt.rowsAffected).toBe(1);
    expect(await zm.get(id)).toBeUndefined();
  });

  test("sources: a miss reads the row", async () => {
    zm.source("feed_*", sql("SELECT content FROM feeds WHERE id = ?"), { ttl: 60_000, absentTtl: "1s" });
    const id = zm.nextId("feed");
    await zm.sqlExec(insert(id, "from the row"));
    expect(await zm.getText(id)).toBe("from the row");
    expect(zm.peek(id)?.toString()).toBe("from the row");
  });

  test("rows come back as the table in the documentation says", async () => {
    const row = async (text: string, ...args: never[]) => (await zm.query(sql(`SELECT ${text} AS v`, ...args)))[0]?.v;
    expect(await row("1::int2")).toBe(1);
    expect(await row("(-2147483648)::int4")).toBe(-2147483648);
    expect(await row("1::int8")).toBe(1n);
    expect(await row("'{1,NULL,9007199254740993}'::int8[]")).toEqual([1n, null, 9007199254740993n]);
    expect(await row("'{{1,2},{3,4}}'::int4[]")).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect(await row("'{}'::int8[]")).toEqual([]);
    expect(await row("'NaN'::float8")).toBe(NaN);
    expect(await row("1.50::numeric")).toBe("1.50");
    expect(await row("'x'::text")).toBe("x");
    expect(await row(`'{"a": [1]}'::jsonb`)).toEqual({ a: [1] });
    expect(await row(`'null'::jsonb`)).toBeNull();
    expect(await row(`ARRAY['{"a": 1}'::jsonb]`)).toEqual([{ a: 1 }]);
    expect(await row(`'\\x00ff'::bytea`)).toEqual(Buffer.from([0, 255]));
    expect(await row("'2026-01-31'::date")).toBe("2026-01-31");
    expect(await row("'12:30:00.5'::time")).toBe(
      "12:30:00.500000".slice(0, (await row("'12:30:00.5'::time"))?.toString().length),
    );
    expect(await row("'2026-01-31 12:30:00.0019'::timestamp")).toEqual(new Date("2026-01-31T12:30:00.001Z"));
    expect(await row("'1969-12-31 23:59:59.9999+00'::timestamptz")).toEqual(new Date(-1));
    expect(await row("'infinity'::timestamptz")).toBe(Infinity);
    expect(await row("'-infinity'::timestamp")).toBe(-Infinity);
    expect(await row("'00000000-0000-0000-0000-00000000000a'::uuid")).toBe("00000000-0000-0000-0000-00000000000a");
    expect(await row("NULL::int8")).toBeNull();
    await expect(row("'290000-01-01'::timestamptz")).rejects.toMatchObject({ code: "store", message: /timestamps/ });
  });

  test("rows with other columns follow one another; odd column names are names", async () => {
    const done = await zm.sqlExec([
      sql("SELECT 1::int4 AS a"),
      sql("SELECT 'x' AS b, 2::int8 AS a"),
      sql("SELECT 3::int4 AS a"),
    ]);
    expect(done.rows).toEqual([{ a: 1 }, { b: "x", a: 2n }, { a: 3 }]);
    const [row] = await zm.query(sql('SELECT 1::int4 AS "__proto__", 2::int4 AS " ", 3::int4 AS constructor'));
    expect(Object.entries(row!)).toEqual([
      ["__proto__", 1],
      [" ", 2],
      ["constructor", 3],
    ]);
    expect(Object.getPrototypeOf(row)).toBe(Object.prototype);
  });

  test("int8 and timestamps come as the configuration says", async () => {
    const strings = await at.open({ int8: "string", timestamps: "string" });
    const task = sql(
      "SELECT 5::int8 AS i, '{6}'::int8[] AS l, '2026-01-31 12:30:00.000001+00'::timestamptz AS t, 7::int4 AS n",
    );
    const [row] = await strings.query(task);
    expect(row).toMatchObject({ i: "5", l: ["6"], n: 7 });
    expect(row!.t).toMatch(/^2026-01-31T12:30:00\.000001/);
    const numbers = await at.open({ int8: "number" });
    expect(await numbers.query(sql("SELECT 5::int8 AS i"))).toEqual([{ i: 5 }]);
    const unsafe = numbers.query(sql("SELECT 9007199254740993::int8 AS i"));
    await expect(unsafe).rejects.toMatchObject({ code: "store", message: /"i".*int8/ });
  });
});

describe("the engine", () => {
  test("ids are unique, ordered and carry their prefix", () => {
    const ids = Array.from({ length: 10_000 }, () => zm.nextId());
    expect(new Set(ids).size).toBe(ids.length);
    expect([...ids].sort((a, b) => (a < b ? -1 : 1))).toEqual(ids);
    expect(zm.nextId("feed")).toMatch(/^feed_[1-9]\d*$/);
    expect(() => zm.nextId(undefined as never)).toThrow(/prefix/);
  });

  test("migrations run once, can be run again, and a directory is read in name order", async () => {
    const folder = await mkdtemp(join(tmpdir(), "zmsg-migrations-"));
    writeFileSync(join(folder, "0002_b.sql"), "INSERT INTO m VALUES (1)");
    writeFileSync(join(folder, "0001_a.sql"), "CREATE TABLE m (a int)");
    const loaded = zm.loadDir(folder);
    expect(await loaded.migrate()).toEqual({ applied: ["0001_a.sql", "0002_b.sql"], skipped: [] });
    expect(await loaded.migrate()).toEqual({ applied: [], skipped: ["0001_a.sql", "0002_b.sql"] });
    expect((await zm.load(join(folder, "0001_a.sql")).migrate()).skipped).toEqual(["0001_a.sql"]);
    expect(() => zm.loadDir(join(folder, "missing"))).toThrow(/missing/);
    await rm(folder, { recursive: true });
  });

  test("health and stats", async () => {
    const health = await zm.health();
    expect(health.ok).toBe(true);
    expect(health.tiers.map((tier) => tier.name)).toEqual(["postgres", "redis"]);
    expect(typeof health.tiers[0]?.latencyMs).toBe("number");
    const kinds: Record<string, string> = {
      queuePaused: "boolean",
      coherent: "boolean",
      bloom: "object",
      redisBreaker: "string",
      sourceBreaker: "string",
    };
    for (const [name, figure] of Object.entries(zm.stats()))
      expect([name, typeof figure]).toEqual([name, kinds[name] ?? "number"]);
  });

  test("a closed engine says so, and closing twice is fine", async () => {
    const closing = await at.open();
    await closing.cacheOnly("closed", "x");
    await Promise.all([closing.close(), closing.close()]);
    await closing.close();
    expect(closing.closed).toBe(true);
    const closed = { name: "ClosedError", code: "closed" };
    await expect(closing.get("closed")).rejects.toMatchObject(closed);
    await expect(closing.cacheOnly("k", "x")).rejects.toMatchObject(closed);
    await expect(closing.query(sql("SELECT 1"))).rejects.toMatchObject(closed);
    expect(() => closing.peek("closed")).toThrow(expect.objectContaining(closed) as Error);
    expect(() => closing.stats()).not.toThrow();
  });

  test("calls in flight end before close does", async () => {
    const closing = await at.open();
    const slow = closing.query(sql("SELECT 1::int4 AS a, pg_sleep(0.2)::text"));
    await closing.close();
    expect(await slow).toMatchObject([{ a: 1 }]);
  });

  test("it is disposable", async () => {
    const engine = await at.open();
    await engine[Symbol.asyncDispose]();
    expect(engine.closed).toBe(true);
  });

  test("a timeout is a TimeoutError, as number and as text", async () => {
    for (const timeout of [60, "60ms"]) {
      await expect(zm.query(sql("SELECT pg_sleep(10)"), { timeout })).rejects.toMatchObject({
        name: "TimeoutError",
        code: "timeout",
        retryable: true,
      });
    }
  });

  test("the log goes to the logger until the engine is closed", async () => {
    const lines: string[] = [];
    const hear = (line: string) => void lines.push(line);
    const engine = await Zmsg.open({
      ...at.config,
      logger: {
        debug: hear,
        info: hear,
        warn: hear,
        error: () => {
          throw new Error("a broken logger");
        },
      },
    });
    await engine.get(`unsourced_${Date.now()}:x`);
    await engine.close();
    const heard = lines.length;
    await zm.get(`unsourced2_${Date.now()}:x`);
    await zm.health();
    expect(lines).toHaveLength(heard);
  });
});

describe("configuration", () => {
  // The compiler holds this list to the type, the test holds it to the core.
  const every: Record<Exclude<keyof Settings, "queue"> | "queue", true> = {
    postgresDsn: true,
    redisAddr: true,
    l1MaxCost: true,
    l1Ttl: true,
    defaultTtl: true,
    absentTtl: true,
    ttlJitter: true,
    staleTtl: true,
    sourceSoftTimeout: true,
    refreshAhead: true,
    breakerFailures: true,
    breakerPause: true,
    coherenceBound: true,
    leaseWait: true,
    onCacheDown: true,
    namespace: true,
    maxKeyBytes: true,
    maxValueBytes: true,
    connectTimeout: true,
    timeout: true,
    redisTimeout: true,
    poolSize: true,
    sourceConcurrency: true,
    bloomCapacity: true,
    bloomErrorRate: true,
    startDegraded: true,
    autoMigrate: true,
    idGrant: true,
    tlsCa: true,
    tlsCert: true,
    tlsKey: true,
    batchInterval: true,
    batchSize: true,
    batchMaxBytes: true,
    batchGiveUpAfter: true,
    overloadTimeout: true,
    journal: true,
    journalDir: true,
    journalMaxBytes: true,
    journalRetain: true,
    doneRetention: true,
    queue: true,
    int8: true,
    timestamps: true,
  };

  test("the type has every setting of the core", async () => {
    const folder = await mkdtemp(join(tmpdir(), "zmsg-config-"));
    const file = join(folder, "zmsg.yaml");
    writeFileSync(file, `postgres_dsn: "${servers().dsn}"\nl1_ttl: 2s\n`);
    const described = loadConfig(file).describe();
    expect(
      Object.keys(described)
        .filter((key) => key !== "embedded")
        .sort(),
    ).toEqual(Object.keys(every).sort());
    expect(described.l1Ttl).toBe("2s");
    await rm(folder, { recursive: true });
  });

  test("a file, changed by spreading it, opens", async () => {
    const folder = await mkdtemp(join(tmpdir(), "zmsg-config-"));
    const file = join(folder, "zmsg.yaml");
    writeFileSync(file, `postgres_dsn: "${at.config.postgresDsn}"\nredis_addr: "${servers().redis}"\n`);
    const config = loadConfig(file);
    const changed = { ...config, namespace: at.config.namespace, defaultTtl: 5_000 };
    for (const given of [file, config, changed] as const) {
      const engine = await Zmsg.open(given);
      expect((await engine.health()).ok).toBe(true);
      await engine.close();
    }
    expect(readFileSync(file, "utf8")).toContain("postgres_dsn");
    await rm(folder, { recursive: true });
  });

  test("passwords show nowhere", async () => {
    const folder = await mkdtemp(join(tmpdir(), "zmsg-config-"));
    const file = join(folder, "zmsg.yaml");
    const secret = { postgresDsn: "postgresql://u:canary@127.0.0.1:1/x", redisAddr: "redis://:canary@127.0.0.1:1" };
    writeFileSync(file, `queue:\n  addr: "redis://:canary@127.0.0.1:1"\n`);
    const config = loadConfig(file);
    const shown = JSON.stringify(config) + inspect(config, { depth: 9 }) + inspect({ ...config });
    expect(shown).not.toContain("canary");
    const error = await rejection(Zmsg.open({ ...secret, connectTimeout: 500 }));
    expect(error).toMatchObject({ name: "StoreError" });
    expect(inspect(error, { depth: 9 })).not.toContain("canary");
    expect(String(error)).toContain("127.0.0.1:1");
    await rm(folder, { recursive: true });
  });

  test.each([
    [{ poolsize: 5 }, /pool_?[sS]ize/],
    [{ poolSize: "many" }, /pool_?[sS]ize/],
    [{ poolSize: 5n }, /poolSize is a bigint/],
    [{ timeout: NaN }, /timeout is NaN/],
    [{ defaultTtl: -1 }, /default_?[tT]tl/],
    [{ logger: 5 }, /logger/],
    [null, /not null/],
    [[], /not an array/],
    [5, /not number/],
    ["/missing/zmsg.yaml", /missing/],
  ])("%p is a ConfigError", async (config, message) => {
    const error = await rejection(Zmsg.open(config as never));
    expect(error).toMatchObject({ name: "ConfigError", code: "config" });
    expect(String(error)).toMatch(message);
  });
});
