// What a hit, an accepted like and a Redis read cost in Node, each beside the least that promises could cost: the median
// of rounds that alternate between ours and the peer. Writes one JSON line per figure to the file named by the first
// argument.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { Zmsg, counter, sql } = createRequire(new URL("../../node/package.json", import.meta.url))("./dist/index.js");

const ROUNDS = 9;
const KEYS = Array.from({ length: 1_000 }, (_, number) => `feed_${number}`);
const VALUE = Buffer.alloc(230, "x");
const lines = [];

function add(name, ours, peer, measured, target, unit) {
  const met = measured <= target ? "met" : "missed";
  const show = (value) => (unit === "ratio" ? `x${value.toFixed(2)}` : `${Math.round(value).toLocaleString("en")} ns`);
  const beside = peer ? `${peer[0]} ${Math.round(peer[1])} ns` : "";
  console.log(
    `${name.padEnd(38)}${Math.round(ours).toString().padStart(10)} ns  ${beside.padEnd(36)}${show(measured).padStart(10)}  <= ${show(target).padEnd(12)} ${met}`,
  );
  lines.push({ name, ours_ns: ours, peer: peer?.[0] ?? null, peer_ns: peer?.[1] ?? null, measured, target, unit });
}

const now = () => Number(process.hrtime.bigint());
const median = (samples) => samples.sort((a, b) => a - b)[Math.floor(samples.length / 2)];
const empty = async () => {};

async function timed(calls, work) {
  const began = now();
  await work(calls);
  return (now() - began) / calls;
}

async function pairs(calls, ours, peer) {
  const samples = [[], []];
  for (let round = 0; round <= ROUNDS; round++) {
    const own = await timed(calls, ours);
    const other = await timed(calls, peer);
    if (round > 0) {
      samples[0].push(own);
      samples[1].push(other);
    }
  }
  return [median(samples[0]), median(samples[1])];
}

const config = { namespace: `zmsg-bench-${process.pid}`, defaultTtl: "10m" };
const zm = await Zmsg.open(config);
const writer = await Zmsg.open(config);
for (const key of KEYS) await zm.cacheOnly(key, VALUE);

const [hit, floor] = await pairs(
  50_000,
  async (calls) => {
    for (let n = 0; n < calls; n++) await zm.get(KEYS[n % 1_000]);
  },
  async (calls) => {
    for (let n = 0; n < calls; n++) await empty(KEYS[n % 1_000]);
  },
);
add("await zm.get, L1 hit", hit, ["await of an empty function", floor], hit / floor, 4, "ratio");

const [insert, like] = await pairs(
  20_000,
  async (calls) => {
    for (let n = 0; n < calls; n++) sql("INSERT INTO feeds (id, content) VALUES (?, ?)", "feed_1", "content");
  },
  async (calls) => {
    for (let n = 0; n < calls; n++) counter("feed_meta", "like_count").inc(1).where("id = ?", "feed_1").build();
  },
);
console.log(`sql(...) task ${Math.round(insert)} ns, counter task ${Math.round(like)} ns (no target)`);

const folder = mkdtempSync(join(tmpdir(), "zmsg-bench-"));
const batched = await Zmsg.open({ namespace: config.namespace, journalDir: folder, batchInterval: "1h" });
await batched.sqlExec(sql("DROP TABLE IF EXISTS zmsg_bench_rows"));
await batched.sqlExec(sql("CREATE TABLE zmsg_bench_rows (id text PRIMARY KEY, likes bigint NOT NULL DEFAULT 0)"));
for (const key of KEYS) await batched.sqlExec(sql("INSERT INTO zmsg_bench_rows (id) VALUES (?)", key));
const LIKES = 20_000;
const likes = [];
for (let round = 0; round <= ROUNDS; round++) {
  const each = await timed(LIKES, async (calls) => {
    for (let n = 0; n < calls; n++) {
      const one = counter("zmsg_bench_rows", "likes")
        .inc(1)
        .where("id = ?", KEYS[n % 1_000])
        .build();
      await batched.cacheAndPeriodicStore(null, null, one);
    }
  });
  if (round > 0) likes.push(each);
}
await batched.flush();
const [counted] = await batched.query(sql("SELECT sum(likes)::text AS total FROM zmsg_bench_rows"));
if (Number(counted.total) !== LIKES * (ROUNDS + 1)) throw new Error(`${counted.total} likes counted`);
await batched.sqlExec(sql("DROP TABLE zmsg_bench_rows"));
await batched.close();
rmSync(folder, { force: true, recursive: true });
console.log(`like accepted, task built each time ${Math.round(median(likes))} ns (no target)`);

const cold = Array.from({ length: 2_000 }, (_, number) => `cold_${number}`);
for (let start = 0; start < cold.length; start += 500) {
  await Promise.all(cold.slice(start, start + 500).map((key) => writer.cacheOnly(key, VALUE)));
}
const alone = await timed(1_000, async () => {
  for (const key of cold.slice(0, 1_000)) await zm.get(key);
});
const each = await timed(1_000, () => Promise.all(cold.slice(1_000).map((key) => zm.get(key))));
add("await zm.get, L2 hit, Redis included", alone, null, alone, 80_000, "ns");
add("await zm.get, L2 hit, each of 1,000", each, null, each, 8_000, "ns");

await zm.close();
await writer.close();
if (process.argv[2]) writeFileSync(process.argv[2], lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
