import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import * as zmsg from "zmsg";
import { ClosedError, NotFoundError, StoreError, TaskError, ZmsgError } from "zmsg";

import { calls, start } from "../dist/calls";
import { errorClasses } from "../dist/errors";
import { native } from "../dist/native";

interface Line {
  code: string;
  class: string;
  parent: string;
  retryable: boolean;
}
const catalogue = JSON.parse(native.errorCatalogue()) as Line[];

test.each(catalogue.map((line) => [line.class, line] as const))("%s is as the core's catalogue says", (_, line) => {
  const Class = errorClasses()[line.code]!;
  const error = new Class("message");
  expect(Class.name).toBe(line.class);
  expect((zmsg as unknown as Record<string, unknown>)[line.class]).toBe(Class);
  expect({ code: error.code, name: error.name, retryable: error.retryable }).toEqual({
    code: line.code,
    name: line.class,
    retryable: line.retryable,
  });
  const parent = Object.getPrototypeOf(Class) as { name: string };
  expect(parent.name).toBe(line.parent || "Error");
});

test("there is no class beyond the catalogue", () => {
  const codes = catalogue.map((line) => line.code);
  expect(Object.keys(errorClasses()).sort()).toEqual(codes.sort());
});

test("an error says what happened, to people and to programs", () => {
  const cause = new Error("inner");
  const error = new StoreError("refused", { sqlstate: "23505", opId: "ab", retryable: true, cause });
  expect(error).toMatchObject({ code: "store", sqlstate: "23505", opId: "ab", retryable: true, cause });
  expect(String(error)).toBe("StoreError: refused");
  expect(error.stack).toContain("StoreError: refused");
});

test("isZmsgError knows errors of another copy of the module, and nothing else", () => {
  let other!: typeof zmsg;
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- a second copy is the point
  jest.isolateModules(() => (other = require("zmsg") as typeof zmsg));
  const foreign = new other.NotFoundError("absent");
  expect(foreign).not.toBeInstanceOf(NotFoundError);
  expect(ZmsgError.isZmsgError(foreign)).toBe(true);
  for (const value of [null, undefined, 1, "x", new Error("x"), {}, () => 1]) {
    expect(ZmsgError.isZmsgError(value)).toBe(false);
  }
});

test("tasks of another copy of the module are tasks", () => {
  let other!: typeof zmsg;
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- a second copy is the point
  jest.isolateModules(() => (other = require("zmsg") as typeof zmsg));
  const task = other.sql("SELECT 1");
  expect(task).not.toBeInstanceOf(zmsg.Task);
  expect(Symbol.for("zmsg.task") in task).toBe(true);
});

test("a panic in native code is an error, not the end of the process", async () => {
  expect(() => native.panicForTest(calls)).toThrow("asked to panic");
  const failed = start<void>(undefined, (call) => native.panicForTest(calls, call.id));
  await expect(failed).rejects.toMatchObject({ name: "ZmsgError", code: "internal" });
});

test("every native function catches panics, and throws instead of returning errors", () => {
  const folder = join(__dirname, "..", "..", "bindings", "node", "src");
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".rs"))) {
    const source = readFileSync(join(folder, name), "utf8");
    const functions = source.match(/#\[napi\([^)]*\)\]\npub fn [^{]*\{/g) ?? [];
    expect(functions).toHaveLength(source.match(/#\[napi[^\n]*\]\n(\/\/[^\n]*\n)*pub fn/g)?.length ?? 0);
    for (const head of functions) {
      expect(head).toContain("catch_unwind");
      // The macro knows a Result by this very spelling.
      expect(head).toMatch(/-> Result</);
    }
  }
});

test("the classes can be caught by name", () => {
  expect(new ClosedError("x") instanceof ZmsgError).toBe(true);
  expect(new TaskError("x") instanceof Error).toBe(true);
});
