// Replays an access trace as feed traffic: every access reads the item through the tiers and counts one view on it, which
// is aggregated. The same program as replay.py, through the Node package.
//
// It works in a database of its own, zmsg_demo_node, which it drops and makes anew on the server of ZMSG_POSTGRES_DSN, in
// a Redis namespace of its own, and with a journal in a temporary folder.

import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import cliProgress from "cli-progress";

import { TraceError, content, readTrace, zipf } from "./workload.mjs";

const { Zmsg, bind, counter, sql } = createRequire(new URL("../../node/package.json", import.meta.url))(
  "./dist/index.js",
);

const SCHEMA = fileURLToPath(new URL("../../schema", import.meta.url));
const DATABASE = "zmsg_demo_node";
const HELP = `usage: replay.mjs [--trace FILE] [--accesses N] [--callers N] [--l1-bytes N] [--seed N]

  --trace FILE   trace file (xz or plain); without it a Zipf workload is generated
  --accesses N   how many accesses to replay (default: 20000)
  --callers N    concurrent callers (default: 32)
  --l1-bytes N   l1_max_cost; small, so that Redis is asked too (default: 2097152)
  --seed N       of the generated workload (default: 1)`;

class UsageError extends Error {}

function options() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        trace: { type: "string" },
        accesses: { type: "string", default: "20000" },
        callers: { type: "string", default: "32" },
        "l1-bytes": { type: "string", default: String(2 << 20) },
        seed: { type: "string", default: "1" },
        help: { type: "boolean", short: "h", default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  if (values.help) {
    console.log(HELP);
    process.exit(0);
  }
  const number = (name) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 1)
      throw new UsageError(`--${name} must be a whole number of at least 1, not ${values[name]}`);
    return value;
  };
  return {
    trace: values.trace,
    accesses: number("accesses"),
    callers: number("callers"),
    l1Bytes: number("l1-bytes"),
    seed: number("seed"),
  };
}

/** Makes the database anew and gives its DSN. */
async function demoDatabase(dsn) {
  const admin = await Zmsg.open({ postgresDsn: dsn, redisAddr: null, journal: "memory" });
  // A demo that was killed may have left sessions; DROP … WITH (FORCE) is newer than the oldest server.
  await admin.query(sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?", DATABASE));
  await admin.sqlExec(sql(`DROP DATABASE IF EXISTS ${DATABASE}`));
  await admin.sqlExec(sql(`CREATE DATABASE ${DATABASE}`));
  await admin.close();
  const url = new URL(dsn);
  url.pathname = `/${DATABASE}`;
  return url.href;
}

function bar(name, total) {
  const shown = new cliProgress.SingleBar(
    { format: `${name.padEnd(14)} {bar} {value}/{total} {eta_formatted}`, noTTYOutput: true, notTTYSchedule: 5_000 },
    cliProgress.Presets.rect,
  );
  shown.start(total, 0);
  return shown;
}

/** One feed and one row of counters per item. */
async function createRows(zm, items) {
  const shown = bar("creating rows", items.length);
  for (let start = 0; start < items.length; start += 2_000) {
    const chunk = items.slice(start, start + 2_000);
    const ids = chunk.map((item) => `feed_${item}`);
    await zm.sqlExec([
      sql("INSERT INTO feeds (id, content) SELECT * FROM unnest(?::text[], ?::text[])", ids, chunk.map(content)),
      sql("INSERT INTO feed_meta (id) SELECT unnest(?::text[])", ids),
    ]);
    shown.increment(chunk.length);
  }
  shown.stop();
}

/**
 * Reads and counts every access, `callers` at a time, and flushes what is not flushed by then; gives how long each call
 * took in microseconds.
 */
async function replay(zm, accesses, callers) {
  const shown = bar("replaying", accesses.length);
  const view = counter("feed_meta", "view_count").inc(1).where("id = ?", bind).prepare();
  const took = { get: [], view: [] };
  let next = 0;
  const caller = async () => {
    while (next < accesses.length) {
      const item = accesses[next++];
      const began = performance.now();
      const text = await zm.getText(`feed_${item}`);
      const got = performance.now();
      if (text !== content(item)) throw new Error(`feed_${item} was read as ${text}, which is not what was stored`);
      const counting = performance.now();
      await zm.cacheAndPeriodicStore(null, null, view(`feed_${item}`));
      took.view.push((performance.now() - counting) * 1e3);
      took.get.push((got - began) * 1e3);
      shown.increment();
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  await zm.flush();
  shown.stop();
  return took;
}

/** Compares every counter with the trace; gives the number of rows that were counted. */
async function check(zm, accesses) {
  const expected = new Map();
  for (const item of accesses) expected.set(`feed_${item}`, (expected.get(`feed_${item}`) ?? 0n) + 1n);
  const rows = await zm.query(sql("SELECT id, view_count FROM feed_meta WHERE view_count > 0"));
  const wrong = rows.filter((row) => expected.get(row.id) !== row.view_count).map((row) => row.id);
  if (wrong.length > 0 || rows.length !== expected.size) {
    throw new Error(
      `${wrong.length} of ${rows.length} counters differ from the trace (${expected.size} items), the first: ${wrong.slice(0, 5)}`,
    );
  }
  return rows.length;
}

function report(stats, took) {
  const hits = {
    "L1 (memory)": stats.l1Hits,
    "L2 (Redis)": stats.l2Hits,
    PostgreSQL: stats.sourceLoads,
    "joined a load": stats.joinedLoads,
  };
  const all = Object.values(hits).reduce((sum, count) => sum + count, 0);
  console.log("\nreads");
  for (const [tier, count] of Object.entries(hits)) {
    console.log(
      `  ${tier.padEnd(16)}${count.toLocaleString("en").padStart(10)}  ${((100 * count) / all).toFixed(1).padStart(5)} %`,
    );
  }
  const count = (figure) => figure.toLocaleString("en").padStart(10);
  console.log(`\naggregation, ${stats.flushes} flushes`);
  console.log(`  ${"operations".padEnd(16)}${count(stats.batchOperations)}`);
  console.log(`  ${"rows".padEnd(16)}${count(stats.batchRows)}`);
  console.log(`  ${"statements".padEnd(16)}${count(stats.batchStatements)}`);
  console.log(`  ${"ratio".padEnd(16)}${stats.aggregationRatio.toFixed(1).padStart(10)}  operations for each row`);
  console.log("\nlatency in microseconds     p50       p90       p99     p99.9       max");
  for (const [name, samples] of [
    ["get", took.get],
    ["count a view", took.view],
  ]) {
    samples.sort((a, b) => a - b);
    const marks = [0.5, 0.9, 0.99, 0.999, 1].map(
      (share) => samples[Math.min(samples.length - 1, Math.floor(samples.length * share))],
    );
    console.log(
      `  ${name.padEnd(18)}${marks.map((mark) => Math.round(mark).toLocaleString("en").padStart(10)).join("")}`,
    );
  }
}

async function main() {
  const given = options();
  const dsn = process.env.ZMSG_POSTGRES_DSN;
  if (!dsn) throw new UsageError('ZMSG_POSTGRES_DSN is not set; run "make demo-node", which starts the servers');
  const accesses = given.trace ? readTrace(given.trace, given.accesses) : zipf(given.accesses, given.seed);
  const items = [...new Set(accesses)].sort((a, b) => a - b);
  const name = given.trace ?? `Zipf workload, seed ${given.seed}`;
  console.log(
    `${name}: ${accesses.length.toLocaleString("en")} accesses of ${items.length.toLocaleString("en")} items, ${given.callers} callers`,
  );
  // A journal of the database that a demo before this one made and left would be refused, as it should be.
  const journalDir = mkdtempSync(join(tmpdir(), "zmsg-demo-"));
  try {
    await run(given, dsn, journalDir, accesses, items);
  } finally {
    rmSync(journalDir, { recursive: true, force: true });
  }
}

async function run(given, dsn, journalDir, accesses, items) {
  const zm = await Zmsg.open({
    postgresDsn: await demoDatabase(dsn),
    journalDir,
    namespace: `zmsg-demo-${process.pid}-${Date.now()}`,
    l1MaxCost: given.l1Bytes,
    defaultTtl: "10m",
    poolSize: 16,
  });
  try {
    await zm.loadDir(SCHEMA).migrate();
    zm.source("feed_*", sql("SELECT content FROM feeds WHERE id = ?"));
    await createRows(zm, items);
    const began = performance.now();
    const took = await replay(zm, accesses, given.callers);
    const seconds = (performance.now() - began) / 1e3;
    const rows = await check(zm, accesses);
    const stats = zm.stats();
    if (stats.batchOperations !== accesses.length) {
      throw new Error(`${stats.batchOperations} operations were applied, not ${accesses.length}`);
    }
    report(stats, took);
    console.log(
      `\n${accesses.length.toLocaleString("en")} accesses in ${seconds.toFixed(1)} s: ${Math.round(accesses.length / seconds).toLocaleString("en")}/s`,
    );
    console.log(
      `checked: ${accesses.length.toLocaleString("en")} views counted on ${rows.toLocaleString("en")} rows, none missing, none twice`,
    );
  } finally {
    await zm.close();
  }
}

try {
  await main();
} catch (error) {
  if (error instanceof UsageError) console.error(`${error.message}\n\n${HELP}`);
  else console.error(error instanceof TraceError ? error.message : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
