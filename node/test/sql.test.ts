import { bind, counter, map, slice, sql, table, TaskError, type Task } from "zmsg";

const refused = (make: () => unknown) => {
  try {
    make();
  } catch (error) {
    expect(error).toBeInstanceOf(TaskError);
    return (error as TaskError).message;
  }
  throw new Error("it was accepted");
};

test("values arrive as what they are", () => {
  const when = new Date("2026-01-31T12:30:00.001Z");
  const { params } = sql(
    "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?",
    null,
    true,
    1,
    -0.5,
    NaN,
    Infinity,
    2n ** 63n - 1n,
    "grüß 😀",
    Buffer.from("ab"),
    when,
    [1, [null, "x"]],
    { a: [1], b: { c: null } },
  ).render();
  expect(params).toEqual([
    null,
    true,
    1,
    -0.5,
    NaN,
    Infinity,
    2n ** 63n - 1n,
    "grüß 😀",
    Buffer.from("ab"),
    when,
    [1, [null, "x"]],
    { a: [1], b: { c: null } },
  ]);
});

test("a caller's buffer is copied when the task is made", () => {
  const bytes = Buffer.from("before");
  const task = sql("SELECT ?", bytes);
  bytes.write("after!");
  expect(task.render().params).toEqual([Buffer.from("before")]);
});

test("what cannot be an argument is refused, naming its place", () => {
  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  const deep = Array.from({ length: 100 }).reduce<unknown>((inner) => [inner], 1);
  const cases: [unknown, RegExp][] = [
    [undefined, /argument 2 of sql is undefined/],
    [() => 1, /argument 2 of sql is a function/],
    [Symbol("x"), /argument 2 of sql is a symbol/],
    [2 ** 53, /argument 2 of sql .*bigint/],
    [2n ** 63n, /argument 2 of sql .*64 bits/],
    [-(2n ** 63n) - 1n, /64 bits/],
    [new Date(NaN), /argument 2 of sql is an invalid Date/],
    [Promise.resolve(1), /await/],
    [new Map([[1, 2]]), /Object\.fromEntries/],
    [new Set([1]), /\[\.\.\.set\]/],
    [new Float64Array(2), /Buffer/],
    [{ a: [1, { b: 5n }] }, /argument 2 of sql\.a\[1\]\.b is a bigint/],
    [circle, /contains itself/],
    [[1, undefined], /argument 2\[1\] of sql is undefined/],
    // eslint-disable-next-line no-sparse-arrays -- the hole is the point
    [[1, , 2], /argument 2\[1\] of sql is undefined/],
    [deep, /nests deeper/],
    ["half \ud83d", /surrogate/],
    ["nul \0", /NUL/i],
  ];
  for (const [value, message] of cases) {
    expect(refused(() => sql("SELECT ?, ?", 1, value as never))).toMatch(message);
  }
});

test("messages never show a value", () => {
  for (const value of ["canary\0", 2 ** 60 + 7777, 77_777n ** 9n, { canary: 1n, x: "canary-value" }]) {
    expect(refused(() => sql("SELECT ?", value))).not.toMatch(/7777|canary-value|canary\0/);
  }
});

test.each([
  [undefined, /the SQL text is a string, not undefined/],
  [null, /not null/],
  [["SELECT 1"], /not an array/],
  ["SELECT $1", /\?/],
  ["SELECT 1; SELECT 2", /statement/],
  ["SELECT 'x", /line 1/],
  ["SELECT a ?| b", /\?\?\|/],
  ["", /./],
])("the text %j is refused", (text, message) => {
  expect(refused(() => sql(text as string))).toMatch(message);
});

test("every step gives a new builder", () => {
  const start = counter("feed_meta", "like_count");
  const one = start.inc(1);
  const both = one.mul(2).where("id = ?", "a");
  expect(one.where("id = ?", "a").render().params).toEqual([1, "a"]);
  expect(both.render().sql).not.toBe(one.where("id = ?", "a").render().sql);
  expect(refused(() => start.where("id = ?", "a").build())).toMatch(/operation/);
  expect(refused(() => one.build())).toMatch(/WHERE/);
  expect(one.allRows().render().params).toEqual([1]);
});

test("a half-built one goes on in several ways, operations and steps in any order", () => {
  const half = counter("t", "n").inc(1).dec(2);
  const [first, second] = [half.mul(3).where("id = ?", 7), half.where("id = ?", 8).set(4)];
  expect(first.render().params).toEqual([1, 2, 3, 7]);
  expect(second.render().params).toEqual([8, 4]);
  expect(half.where("id = ?", 9).render().params).toEqual([1, 2, 9]);
  const tags = slice("t", "tags").add("a").where("id = ?", 1).del("b").returning("id").add("c").batchKey("k").add("d");
  expect(tags.render().params).toEqual([`"a"`, 1, `"b"`, `"c"`, `"d"`]);
  expect(() => counter("t", "n").inc("many").where("id = ?", 1).build()).toThrow(/number|decimal/i);
});

test("any number of columns may be named", () => {
  for (let n = 0; n < 3_000; n++) {
    expect(
      counter(`t${n % 2_000}`, "n")
        .inc(1)
        .allRows()
        .render().sql,
    ).toContain(`"t${n % 2_000}"`);
  }
});

test("the long and the short way to a builder are the same", () => {
  const like = counter("public.feed_meta", "like_count").inc(1).where("id = ?", "a").render();
  const long = table("public.feed_meta")
    .column("like_count")
    .counter()
    .inc(1)
    .where("id = ?", "a")
    .batchKey("k")
    .build();
  expect(long.render()).toEqual(like);
  expect(table("t").column("c").slice().add("x").allRows().render()).toEqual(
    slice("t", "c").add("x").allRows().render(),
  );
  expect(table("t").column("c").map().del("x").allRows().render()).toEqual(map("t", "c").del("x").allRows().render());
});

test("identifiers are quoted or refused", () => {
  const evil = 'a"; DROP TABLE feeds; --';
  expect(counter("t", evil).inc(1).allRows().render().sql).toContain('"a""; DROP TABLE feeds; --"');
  for (const name of ["", "x".repeat(64), "a\0b", "a.b.c.d"]) refused(() => table(name));
  refused(() => table(undefined as never));
  refused(() => counter("t", 5 as never));
});

test("a where cannot leave its parentheses", () => {
  for (const text of ["1=1) OR (1=1", "x = 1; DROP TABLE t", "x = 1 --", "x = '"]) {
    refused(() => counter("t", "c").inc(1).where(text).build());
  }
});

test("prepared tasks take their arguments one call at a time", () => {
  const like = counter("feed_meta", "like_count").inc(1).where("id = ?", bind).prepare();
  expect(like("a").render().params).toEqual([1, "a"]);
  expect(like("b").render().sql).toBe(like("c").render().sql);
  expect(refused(() => (like as (...args: unknown[]) => Task)())).toMatch(/0/);
  expect(refused(() => like(undefined as never))).toMatch(/undefined/);
  const select = sql("SELECT ?::int4 + ?::int4").prepare();
  expect(select(1, 2).render().params).toEqual([1, 2]);
  refused(() => sql("SELECT 1").prepare());
});

test("counters are exact: text is a decimal", () => {
  expect(counter("t", "c").inc("0.10").allRows().render().params).toEqual(["0.10"]);
  expect(refused(() => counter("t", "c").inc("ten").allRows().build())).toMatch(/decimal/);
  refused(() => counter("t", "c").inc(undefined as never));
  refused(() => counter("t", "c").inc(NaN).allRows().build());
});

test("orInsert and returning name columns", () => {
  const task = counter("m", "n").inc(1).where("id = ?", "a").orInsert({ id: "a", n: 5 }).returning("n");
  expect(task.render().sql).toMatch(/ON CONFLICT.*RETURNING "n"/s);
  refused(() =>
    counter("m", "n")
      .inc(1)
      .orInsert(null as never),
  );
  refused(() =>
    counter("m", "n")
      .inc(1)
      .orInsert({ id: undefined as never }),
  );
});

test("a column named __proto__ is a column", () => {
  const columns = JSON.parse('{"id": "a", "__proto__": 1}') as Record<string, number>;
  expect(counter("m", "n").inc(1).where("id = ?", "a").orInsert(columns).render().sql).toContain('"__proto__"');
});
