// What becomes of a process: it ends when it should, however it was left.

import { spawn } from "node:child_process";
import { join } from "node:path";

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

/** Runs a program in a process of its own; `zm` is open in it. */
function run(program: string, open = true): Promise<Ended> {
  const dist = JSON.stringify(join(__dirname, "..", "dist", "index.js"));
  const text = `
    const { Zmsg, sql } = require(${dist});
    const config = ${JSON.stringify(at.config)};
    process.on("unhandledRejection", (error) => { console.error("unhandled", error); process.exitCode = 9; });
    (async () => { ${open ? "const zm = await Zmsg.open(config);" : ""} ${program} })();
  `;
  const child = spawn(process.execPath, ["-e", text], { stdio: ["ignore", "pipe", "pipe"] });
  return new Promise((resolve, reject) => {
    const ended: Ended = { code: null, signal: null, out: "", err: "" };
    child.stdout.on("data", (chunk) => (ended.out += String(chunk)));
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
     const { Zmsg, sql } = require(\${JSON.stringify(require.resolve(${JSON.stringify(join(__dirname, "..", "dist", "index.js"))}))});
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
