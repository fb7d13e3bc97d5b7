import { sql, type Zmsg } from "zmsg";

import { rejection, stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;
let zm: Zmsg;

beforeAll(async () => {
  at = await stage({ maxValueBytes: 1024 });
  zm = await at.open();
});
afterAll(() => at?.end());

const bad: [string, unknown][] = [
  ["undefined", undefined],
  ["null", null],
  ["a number", 5],
  ["an object", {}],
  ["an array", ["k"]],
  ["a symbol", Symbol("k")],
  ["a bigint", 5n],
  ["half of a surrogate pair", "k\ud800"],
  ["an empty text", ""],
  ["more than 1 KiB", "k".repeat(1025)],
];

test.each(bad)("%s is no key", async (_, key) => {
  const task = sql("SELECT 1");
  const calls = [
    () => zm.get(key as never),
    () => zm.get(key as never, { timeout: 1000 }),
    () => zm.getMany([key as never]),
    () => zm.cacheOnly(key as never, "x"),
    () => zm.del(key as never),
    ...(key === null ? [] : [() => zm.cacheAndStore(key as never, "x", task), () => zm.delStore(key as never, task)]),
  ];
  for (const call of calls) expect(await rejection(call())).toMatchObject({ name: "TaskError", code: "task" });
  expect(() => zm.peek(key as never)).toThrow(expect.objectContaining({ code: "task" }) as Error);
});

test.each([
  "a\r\nSET b 1\r\n",
  "*",
  "zmsg:ver",
  "{a}{b}",
  "a\0b",
  "../../x",
  "'; DROP TABLE feeds; --",
  "😀".repeat(64),
  "__proto__",
  "k".repeat(1024),
])("the key %j means itself", async (key) => {
  await zm.cacheOnly(key, "value");
  const other = await at.open();
  expect(await other.getText(key)).toBe("value");
  expect([...(await other.getMany([key])).keys()]).toEqual([key]);
  await zm.del(key);
  await other.close();
});

test.each<[string, unknown]>([
  ["undefined", undefined],
  ["null without a task", null],
  ["a bigint", 1n],
  ["a bigint inside", { a: [{ b: 1n }] }],
  ["a function", () => 1],
  ["a symbol", Symbol("x")],
  ["a promise", Promise.resolve("x")],
  ["a Map", new Map()],
  ["NaN", NaN],
  ["a Float32Array", new Float32Array(1)],
  ["an ArrayBuffer", new ArrayBuffer(1)],
  ["half of a surrogate pair", "\udc00"],
  [
    "what throws in toJSON",
    {
      toJSON: () => {
        throw new Error("no");
      },
    },
  ],
  ["more than the limit", "x".repeat(1025)],
])("%s is no data", async (_, data) => {
  expect(await rejection(zm.cacheOnly("k", data as never))).toMatchObject({ name: "TaskError" });
  if (data !== null) {
    expect(await rejection(zm.cacheAndStore("k", data as never, sql("SELECT 1")))).toMatchObject({ name: "TaskError" });
  }
});

test("the path of a bigint is named", async () => {
  expect(await rejection(zm.cacheOnly("k", { a: [0, { b: 1n }] }))).toMatchObject({ message: /data\.a\[1\]\.b/ });
});

test.each<[string, unknown]>([
  ["undefined", undefined],
  ["null", null],
  ["a text", "SELECT 1"],
  ["a function", () => sql("SELECT 1")],
  ["an empty list", []],
  ["a list with something else", [sql("SELECT 1"), "SELECT 1"]],
  ["a forged task", { [Symbol.for("zmsg.task")]: {} }],
  ["a template", sql("SELECT ?")],
  ["nested lists", [[sql("SELECT 1")]]],
])("%s is no task", async (_, task) => {
  expect(await rejection(zm.sqlExec(task as never))).toMatchObject({
    code: expect.stringMatching(/task|internal/) as string,
  });
  expect(await rejection(zm.cacheAndStore("k", "x", task as never))).toMatchObject({
    code: expect.stringMatching(/task|internal/) as string,
  });
});

test.each<[string, unknown]>([
  ["an unknown option", { tll: 5 }],
  ["a ttl of zero", { ttl: 0 }],
  ["a negative ttl", { ttl: -1 }],
  ["an endless number", { ttl: Infinity }],
  ["a ttl that is no time", { ttl: "soon" }],
  ["a ttl that is an object", { ttl: {} }],
  ["a Date", { ttl: new Date() }],
  ["a timeout of zero", { timeout: 0 }],
  ["a timeout that is no time", { timeout: "never" }],
  ["a signal that is none", { signal: {} }],
  ["no object", 5],
])("%s is refused", async (_, options) => {
  expect(await rejection(zm.cacheOnly("k", "x", options as never))).toMatchObject({ name: "TaskError" });
});

test("keys of getMany are a list", async () => {
  for (const keys of ["abc", undefined, null, 5, {}]) {
    expect(await rejection(zm.getMany(keys as never))).toMatchObject({ name: "TaskError" });
  }
});
