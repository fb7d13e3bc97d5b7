// What becomes of a process: it ends when it should, however it was left.

import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { sql, type Settings } from "zmsg";

import { stage } from "./support";

let at: Awaited<ReturnType<typeof stage>>;

beforeAll(async () => {
  at = await stage();
});
afterAll(() => at?.end());

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  out: string;
  err: string;
}

/** Runs a program in a process of its own; `zm` is open in it. `onOut` hears of all that it has said so far. */
function run(
  program: string,
  open = true,
  settings: Settings = {},
  onOut?: (out: string, kill: () => void) => void,
): Promise<Ended> {
  const dist = JSON.stringify(join(__dirname, "..", "dist", "index.js"));
  const text = `
    const { Zmsg, bind, counter, sql } = require(${dist});
    const config = ${JSON.stringify({ ...at.config, ...settings })};
    process.on("unhandledRejection", (error) => { console.error("unhandled", error); process.exitCode = 9; });
    (async () => { ${open ? "const zm = await Zmsg.open(config);" : ""} ${program} })();
  `;
  const child = spawn(process.execPath, ["-e", text], { stdio: ["ignore", "pipe", "pipe"] });
  return new Promise((resolve, reject) => {
    const ended: Ended = { code: null, signal: null, out: "", err: "" };
    child.stdout.on("data", (chunk) => {
      ended.out += String(chunk);
      onOut?.(ended.out, () => child.kill("SIGKILL"));
    });
    child.stderr.on("data", (chunk) => (ended.err += String(chunk)));
    // A hang fails the test here, with what was said until then.
    const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ ...ended, code, signal });
    });
  });
}

const fine = { code: 0, signal: null, err: "" };

test("it exits by itself although the engine was not closed", async () => {
  expect(await run(`await zm.cacheOnly("k", "x"); console.log(await zm.getText("k"));`)).toEqual({
    ...fine,
    out: "x\n",
  });
});

test("it exits by itself when the package was only loaded", async () => {
  expect(await run("", false)).toEqual({ ...fine, out: "" });
});

test("a pending call keeps it alive until it has ended", async () => {
  const program = `zm.query(sql("SELECT pg_sleep(0.3)::text, 7::int4 AS n")).then(([row]) => console.log(row.n));`;
  expect(await run(program)).toEqual({ ...fine, out: "7\n" });
});

test("so does open itself, and a call that is aborted does not", async () => {
  const program = `
    const controller = new AbortController();
    zm.query(sql("SELECT pg_sleep(30)"), { signal: controller.signal }).catch((error) => console.log(error.name));
    controller.abort();`;
  expect(await run(program)).toEqual({ ...fine, out: "AbortError\n" });
});

test("process.exit with calls pending neither hangs nor crashes", async () => {
  const program = `
    for (let n = 0; n < 200; n++) { zm.query(sql("SELECT pg_sleep(5)")).catch(() => {}); zm.get("k" + n, {}); }
    setTimeout(() => process.exit(3), 50);`;
  expect(await run(program)).toEqual({ ...fine, code: 3, out: "" });
});

test("process.exit at once after a burst of short calls", async () => {
  const program = `for (let n = 0; n < 2000; n++) zm.cacheOnly("b" + n, "x"); process.exit(4);`;
  expect(await run(program)).toEqual({ ...fine, code: 4, out: "" });
});

test("an exception ends it with its own code", async () => {
  const ended = await run(
    `zm.query(sql("SELECT pg_sleep(5)")).catch(() => {}); process.nextTick(() => { throw new Error("boom"); });`,
  );
  expect(ended).toMatchObject({ code: 1, signal: null });
  expect(ended.err).toContain("boom");
});

test("an engine that is forgotten is let go of", async () => {
  const program = `
    for (let n = 0; n < 3; n++) await Zmsg.open(config);
    require("node:v8").setFlagsFromString("--expose-gc");
    const gc = require("node:vm").runInNewContext("gc");
    for (let n = 0; n < 5; n++) { gc(); await new Promise(setImmediate); }
    console.log(await zm.query(sql("SELECT 1::int4 AS a")));`;
  expect(await run(program)).toEqual({ ...fine, out: "[ { a: 1 } ]\n" });
});

const worker = `
  const { Worker } = require("node:worker_threads");
  const start = (program) => new Worker(
    \`const { parentPort } = require("node:worker_threads");
     const { Zmsg, bind, counter, sql } = require(\${JSON.stringify(require.resolve(${JSON.stringify(join(__dirname, "..", "dist", "index.js"))}))});
     (async () => { const zm = await Zmsg.open(\${JSON.stringify(config)}); \${program} })();\`,
    { eval: true });
  const ended = (worker) => new Promise((resolve, reject) => { worker.on("exit", resolve); worker.on("error", reject); });
`;

test("a worker has its own calls and ends by itself", async () => {
  const program = `${worker}
    const codes = await Promise.all([1, 2, 3].map((n) =>
      ended(start('await zm.cacheOnly("w' + n + '", "' + n + '"); await zm.query(sql("SELECT 1"));'))));
    console.log(codes.join(), await zm.getText("w1"), await zm.getText("w3"));`;
  expect(await run(program)).toEqual({ ...fine, out: "0,0,0 1 3\n" });
});

test("a worker that is terminated with calls pending takes nothing with it", async () => {
  const program = `${worker}
    for (let round = 0; round < 3; round++) {
      const busy = start('parentPort.postMessage("open"); for (;;) await Promise.all(Array.from({ length: 50 }, (_, n) => zm.cacheOnly("t" + n, "x")));');
      await new Promise((resolve) => busy.once("message", resolve));
      await new Promise((resolve) => setTimeout(resolve, 20));
      await busy.terminate();
    }
    console.log(await zm.query(sql("SELECT 1::int4 AS a")));`;
  expect(await run(program)).toEqual({ ...fine, out: "[ { a: 1 } ]\n" });
});

test("the process exits while workers are busy", async () => {
  const program = `${worker}
    const busy = start('parentPort.postMessage("open"); for (;;) await Promise.all(Array.from({ length: 50 }, (_, n) => zm.get("t" + n, {})));');
    busy.once("message", () => process.exit(5));`;
  expect(await run(program)).toEqual({ ...fine, code: 5, out: "" });
});

test("the package can be imported from ES modules", async () => {
  const program = `
    const index = require("node:url").pathToFileURL(require.resolve(${JSON.stringify(join(__dirname, "..", "dist", "index.js"))}));
    const { Zmsg: Same, sql: same, bind } = await import(index);
    console.log(Same === Zmsg, same === sql, typeof bind);`;
  expect(await run(program)).toEqual({ ...fine, out: "true true symbol\n" });
});

describe("what was acknowledged is applied by the next process", () => {
  beforeAll(async () => {
    const zm = await at.open();
    await zm.sqlExec(sql("CREATE TABLE meta (id text PRIMARY KEY, views int8 NOT NULL DEFAULT 0)"));
    await zm.close();
  });

  let rows = 0;
  async function row(): Promise<string> {
    const zm = await at.open();
    const id = `row_${++rows}`;
    await zm.sqlExec(sql("INSERT INTO meta (id) VALUES (?)", id));
    await zm.close();
    return id;
  }

  /** What another process finds in the row: waits until `enough` is there, and gives what it is after its end. */
  async function found(id: string, enough: number, settings: Settings = {}): Promise<number> {
    const next = await at.open(settings);
    const question = sql("SELECT views::float8 AS views FROM meta WHERE id = ?", id);
    const views = async () => (await next.query<{ views: number }>(question))[0]!.views;
    const end = Date.now() + 15_000;
    while ((await views()) < enough && Date.now() < end);
    await next.close();
    // Once more, by one that would apply what was left: nothing is applied twice.
    const last = await at.open(settings);
    const [after] = await last.query<{ views: number }>(question);
    await last.close();
    return after!.views;
  }

  // Nothing is flushed before the end.
  const never: Settings = { batchInterval: "1h" };
  const count = (id: string, times: number) => `
    const view = counter("meta", "views").inc(1).where("id = ?", bind).prepare();
    for (let n = 0; n < ${times}; n++) await zm.cacheAndPeriodicStore(null, null, view("${id}"));`;

  test.each([
    ["process.exit", "process.exit(6);", { code: 6 }],
    ["the end of the script", "", { code: 0 }],
    ["an exception that nobody catches", 'process.nextTick(() => { throw new Error("boom"); });', { code: 1 }],
    ["a kill -9", 'process.kill(process.pid, "SIGKILL");', { code: null, signal: "SIGKILL" }],
    ["a flush that was begun", "zm.flush(); process.exit(6);", { code: 6 }],
    [
      "a done() without an answer",
      "(await zm.cacheAndPeriodicStore('k', null, view('none'))).done(); process.exit(6);",
      { code: 6 },
    ],
  ])("after %s, with the journal that is the default", async (_, ending, code) => {
    const id = await row();
    expect(await run(`${count(id, 700)} ${ending}`, true, never)).toMatchObject(code);
    expect(await found(id, 700)).toBe(700);
  });

  test("in the folder that journalDir names", async () => {
    const id = await row();
    const folder = await mkdtemp(join(tmpdir(), "zmsg-journal-"));
    try {
      expect(await run(`${count(id, 50)} process.exit(6);`, true, { ...never, journalDir: folder })).toMatchObject({
        code: 6,
      });
      expect(await readdir(folder)).not.toEqual([]);
      expect(await found(id, 50, { journalDir: folder })).toBe(50);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test("after a kill -9 from outside between flushes, wherever it hits", async () => {
    const id = await row();
    // One line for each acknowledgement, written before the next is asked for.
    const program = `
      const { writeSync } = require("node:fs");
      const view = counter("meta", "views").inc(1).where("id = ?", bind).prepare();
      for (;;) {
        await zm.cacheAndPeriodicStore(null, null, view("${id}"));
        writeSync(1, ".");
        await new Promise(setImmediate);
      }`;
    const ended = await run(program, true, { batchInterval: "20ms" }, (out, kill) => out.length > 2_000 && kill());
    expect(ended).toMatchObject({ signal: "SIGKILL", err: "" });
    const acknowledged = ended.out.length;
    const views = await found(id, acknowledged);
    // The last one may have been accepted and not yet told.
    expect([acknowledged, acknowledged + 1]).toContain(views);
  });

  test("after workers that end, are terminated, or end the process", async () => {
    const id = await row();
    const work = JSON.stringify(`${count(id, 200)} parentPort.postMessage("done");`);
    const program = `${worker}
      const told = (worker) => new Promise((resolve) => worker.once("message", resolve));
      const [first, second, third] = [start(${work}), start(${work} + "setInterval(() => {}, 1000);"), start(${work})];
      await Promise.all([ended(first), told(second).then(() => second.terminate()), told(third)]);
      process.exit(6);`;
    expect(await run(program, true, never)).toEqual({ ...fine, code: 6, out: "" });
    expect(await found(id, 600)).toBe(600);
  });

  test("and a process that waits for done() lives until the flush", async () => {
    const id = await row();
    const program = `${count(id, 10)}
      (await zm.cacheAndPeriodicStore(null, null, view("${id}"))).done().then(() => console.log("applied"));`;
    expect(await run(program, true, { batchInterval: "100ms" })).toEqual({ ...fine, out: "applied\n" });
    expect(await found(id, 11)).toBe(11);
  });

  test("an engine that is forgotten takes no writes with it", async () => {
    const id = await row();
    const program = `
      await (async () => { const zm = await Zmsg.open(config); ${count(id, 20)} })();
      require("node:v8").setFlagsFromString("--expose-gc");
      const gc = require("node:vm").runInNewContext("gc");
      for (let n = 0; n < 5; n++) { gc(); await new Promise(setImmediate); }
      const views = () => zm.query(sql("SELECT views::int4 FROM meta WHERE id = '${id}'"));
      while ((await views())[0].views === 0);
      console.log(await views());`;
    expect(await run(program, true, { batchInterval: "100ms" })).toEqual({ ...fine, out: "[ { views: 20 } ]\n" });
  });
});
