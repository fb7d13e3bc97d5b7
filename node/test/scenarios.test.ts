// Runs tests/scenarios/*.json through the Node package. Rust and Python run the same files.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import * as zmsg from "zmsg";
import { Zmsg, ZmsgError } from "zmsg";

import { decode, same, tagged } from "./scenario_json";
import { database, namespace } from "./support";

type Json = Record<string, unknown>;
interface Step extends Json {
  do: string;
  engine?: string;
  expect?: unknown;
  error?: { code: string; message?: string; sqlstate?: string; retryable?: boolean };
}
interface Scenario {
  name: string;
  config?: Json;
  steps: Step[];
}

const root = join(__dirname, "..", "..");
const folder = join(root, "tests", "scenarios");
const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
const partial = new Set([
  "cache_and_store",
  "cache_and_periodic_store",
  "cache_and_delay_store",
  "del_delay_store",
  "del_store",
  "flush",
  "sql_exec",
  "health",
  "stats",
  "migrate",
]);

const camel = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
const argument = (value: unknown) => (tagged(value)?.[0] === "bind" ? zmsg.bind : decode(value));

const optionNames = [
  "ttl",
  "absent_ttl",
  "timeout",
  "invalidates",
  "required",
  "delay",
  "op_id",
  "coalesce",
  "task_timeout",
  "limit",
  "tags",
  "by",
];

/** Builds a task from its chain of calls. */
function chain(calls: unknown[][]): never {
  const [[name, ...args], ...rest] = calls as [[string, ...unknown[]], ...[string, ...unknown[]][]];
  let made = (zmsg as never as Record<string, (...args: unknown[]) => never>)[name]!(...args.map(argument));
  for (const [step, ...given] of rest) {
    if (step === "call") made = (made as (...args: unknown[]) => never)(...given.map(argument));
    else if (step === "or_insert") {
      const columns = Object.entries(given[0] as Json).map(([column, value]) => [column, argument(value)]);
      made = (made as { orInsert(columns: unknown): never }).orInsert(Object.fromEntries(columns));
    } else {
      const method = step === "delete" ? "del" : camel(step);
      made = (made as Record<string, (...args: unknown[]) => never>)[method]!(...given.map(argument));
    }
  }
  return made;
}

function task(written: unknown): never {
  return Array.isArray(written)
    ? chain(written as unknown[][])
    : ((written as { all: unknown[][][] }).all.map(chain) as never);
}

/** What a read gave, as scenarios write it: bytes where the scenario writes bytes, text otherwise. */
function shown(got: Buffer | undefined, step?: Step): unknown {
  if (got === undefined) return null;
  return tagged(step?.expect)?.[0] === "bytes" ? got : got.toString("utf8");
}

/** One scenario at work: its database, its namespace, its engines. */
class Stage {
  readonly engines = new Map<string, Zmsg>();
  readonly receipts = new Map<string, zmsg.Receipt>();
  constructor(readonly config: Json) {}

  async engine(name: string): Promise<Zmsg> {
    const open = this.engines.get(name) ?? (await Zmsg.open(this.config));
    this.engines.set(name, open);
    return open;
  }

  async run(step: Step): Promise<unknown> {
    if (step.do === "open") return Zmsg.open({ ...this.config, ...(step.config as Json) });
    if (step.do === "render") {
      const made = task(step.task) as { render(): { sql: string; params: unknown[] } };
      return made.render();
    }
    const zm = await this.engine(step.engine ?? "a");
    const names = optionNames.filter((name) => name in step);
    const options = Object.fromEntries(names.map((name) => [camel(name), decode(step[name])])) as never;
    const key = decode(step.key) as string;
    const data = decode(step.data) as never;
    switch (step.do) {
      case "peek":
        return shown(zm.peek(key), step);
      case "add":
        return zm.add(key, data, options);
      case "touch":
        return zm.touch(key, options);
      case "ttl": {
        const left = await zm.ttl(key, options);
        return typeof left === "number" && left > 0 ? "some" : (left ?? null);
      }
      case "incr":
        return zm.incr(key, options);
      case "cache_many":
        return zm.cacheMany(step.items as never, options);
      case "delete_many":
        return zm.deleteMany(decode(step.keys) as string[], options);
      case "keys":
        return zm.keys(step.prefix as string, options);
      case "clear":
        return zm.clear(step.prefix as string, options);
      case "invalidate_tag":
        return zm.invalidateTag(decode(step.tag) as string, options);
      case "get":
        return shown(await zm.get(key, options), step);
      case "get_text":
        return (await zm.getText(key, options)) ?? null;
      case "get_json":
        return (await zm.getJson(key, options)) ?? null;
      case "get_many": {
        const found = await zm.getMany((step.keys as unknown[]).map(decode) as string[], options);
        return Object.fromEntries([...found].map(([name, value]) => [name, shown(value)]));
      }
      case "cache_only":
        return zm.cacheOnly(key, data, options);
      case "del":
        return zm.del(key, options);
      case "cache_and_store":
        return receipt(await zm.cacheAndStore(key, data, task(step.task), options));
      case "cache_and_periodic_store": {
        let last: zmsg.Receipt | undefined;
        // Without options where the step has none: that is another way through.
        const given = names.length > 0 ? options : undefined;
        for (let time = 0; time < ((step.times as number | undefined) ?? 1); time++)
          last = await zm.cacheAndPeriodicStore(key, data, task(step.task), given);
        return told(last!);
      }
      case "cache_and_delay_store":
        return this.later(step, () => zm.cacheAndDelayStore(key, data, task(step.task), options));
      case "del_delay_store":
        return this.later(step, () => zm.delDelayStore(key, task(step.task), options));
      case "done":
        return this.receipts.get(step.receipt as string)!.done(options);
      case "cancel_delayed":
        return zm.cancelDelayed((step.op_id as string | undefined) ?? this.receipts.get(step.receipt as string)!.opId);
      case "pause_queue":
        return zm.pauseQueue(options);
      case "resume_queue":
        return zm.resumeQueue(options);
      case "flush":
        return renamed((await zm.flush(options)) as never, step.expect);
      case "pending":
        return (await zm.pending(task(step.task), options)) ?? null;
      case "dead_letters": {
        const expected = step.expect as unknown[];
        const page = "nth" in step ? { ...(options as Json), after: await letterId(zm, step) } : options;
        return (await zm.deadLetters(page)).map((letter, index) => renamed(letter as never, expected[index]));
      }
      case "retry_dead":
        return zm.retryDead(await letterId(zm, step), options);
      case "retry_all_dead":
        return zm.retryAllDead(options);
      case "drop_dead":
        return zm.dropDead(await letterId(zm, step), options);
      case "del_store":
        return receipt(await zm.delStore(key, task(step.task), options));
      case "sql_exec": {
        const done = await zm.sqlExec(task(step.task), options);
        return { rows_affected: done.rowsAffected, rows: done.rows };
      }
      case "query":
        return zm.query(task(step.task), options);
      case "source":
        return zm.source(step.pattern as string, task(step.task), options);
      case "next_id":
        return nextId(zm, step.prefix as string | undefined);
      case "migrate":
        return zm.loadSql(step.sql as string, step.name as string).migrate();
      case "health":
        return zm.health();
      case "stats":
        return renamed(zm.stats() as never, step.expect);
      case "close":
        return zm.close();
      default:
        throw new Error(`unknown verb ${step.do}`);
    }
  }

  /** Accepts a delayed write as often as the step says, and keeps the last receipt. */
  async later(step: Step, accept: () => Promise<zmsg.Receipt>): Promise<Json> {
    let last: zmsg.Receipt | undefined;
    for (let time = 0; time < ((step.times as number | undefined) ?? 1); time++) last = await accept();
    this.receipts.set(step.as as string, last!);
    return told(last!);
  }
}

/** What `expected` names, under the scenarios' names. */
function renamed(got: Json, expected: unknown): Json {
  return Object.fromEntries(Object.keys(expected ?? {}).map((name) => [name, got[camel(name)]]));
}

async function letterId(zm: Zmsg, step: Step): Promise<bigint | number> {
  if ("id" in step) return step.id as number;
  return (await zm.deadLetters())[step.nth as number]!.id;
}

async function receipt(receipt: zmsg.Receipt): Promise<Json> {
  await receipt.done();
  return told(receipt);
}

function told(receipt: zmsg.Receipt): Json {
  expect(receipt.opId).toMatch(/./);
  return {
    rows_affected: receipt.rowsAffected,
    rows: receipt.rows,
    durability: receipt.durability,
    cached: receipt.cached,
  };
}

function nextId(zm: Zmsg, prefix: string | undefined): Json {
  if (prefix === undefined) return { number: typeof zm.nextId() === "bigint" };
  const id = zm.nextId(prefix);
  expect(id.slice(0, prefix.length + 1)).toBe(`${prefix}_`);
  expect(id.slice(prefix.length + 1)).toMatch(/^[1-9][0-9]*$/);
  return { prefix: `${prefix}_` };
}

function check(place: string, step: Step, got: unknown): void {
  if (step.error) throw new Error(`${place} should have failed`);
  if (!("expect" in step)) return;
  const wanted = step.expect as Json;
  const fits =
    partial.has(step.do) || step.do === "next_id"
      ? Object.keys(wanted).every((name) => same((got as Json)[name], wanted[name]))
      : same(got, step.expect);
  const show = (_: string, value: unknown) => (typeof value === "bigint" ? `${value}n` : value);
  if (!fits) throw new Error(`${place} gave ${JSON.stringify(got, show)}`);
}

function checkError(place: string, step: Step, error: unknown): void {
  if (!ZmsgError.isZmsgError(error) || !step.error) throw new Error(`${place} failed`, { cause: error });
  const shown = `${place} failed with ${error.name} ${error.code}: ${error.message}`;
  const { code, message = "", sqlstate, retryable } = step.error;
  const fits =
    error.code === code &&
    error.message.includes(message) &&
    (sqlstate === undefined || error.sqlstate === sqlstate) &&
    (retryable === undefined || error.retryable === retryable);
  if (!fits) throw new Error(shown, { cause: error });
  expect(shown.replace(place, "")).not.toContain("canary");
}

for (const file of files) {
  const scenarios = JSON.parse(readFileSync(join(folder, file), "utf8")) as Scenario[];
  describe(file, () => {
    test.each(scenarios.map((scenario) => [scenario.name, scenario] as const))("%s", async (_, scenario) => {
      const base = await database();
      const stage = new Stage({ postgres_dsn: base.dsn, namespace: namespace(), ...scenario.config });
      try {
        await (await stage.engine("a")).loadDir(join(root, "schema")).migrate();
        for (const [index, step] of scenario.steps.entries()) {
          const place = `step ${index + 1}: ${JSON.stringify(step)}`;
          let got: unknown;
          try {
            got = await stage.run(step);
          } catch (error) {
            checkError(place, step, error);
            continue;
          }
          check(place, step, got);
        }
      } finally {
        await Promise.all([...stage.engines.values()].map((engine) => engine.close()));
        await base.drop();
      }
    });
  });
}

test("there are scenarios", () => {
  expect(files.length).toBeGreaterThanOrEqual(4);
});
