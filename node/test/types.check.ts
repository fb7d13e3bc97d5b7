/* eslint-disable @typescript-eslint/no-unsafe-call -- what must not type-check has no type */
// Checked by the compiler alone (`npm run typecheck`), never run: what must not type-check does not.

import {
  bind,
  counter,
  map,
  slice,
  sql,
  table,
  type Cancelled,
  type DeadLetter,
  type FlushReport,
  type Receipt,
  type RetryReport,
  type Zmsg,
} from "zmsg";

declare const zm: Zmsg;

// @ts-expect-error a counter has no add
counter("t", "c").add(1);
// @ts-expect-error nor after steps
counter("t", "c").inc(1).where("id = ?", 1).add(1);
// @ts-expect-error a slice has no inc
slice("t", "c").inc(1);
// @ts-expect-error a map has no clean
map("t", "c").clean();
// @ts-expect-error a map's key is text
map("t", "c").set(1, 2);
// @ts-expect-error a column is not yet a counter
table("t").column("c").inc(1);
// @ts-expect-error undefined is a typo
sql("SELECT ?", undefined);
// @ts-expect-error undefined is a typo
counter("t", "c").inc(undefined);
// @ts-expect-error a text is not a task
void zm.sqlExec("SELECT 1");
// @ts-expect-error null data needs a task
void zm.cacheOnly("k", null).then((done: string) => done);
// @ts-expect-error an option that is not there
void zm.get("k", { ttl: 5 });
// @ts-expect-error the key may be absent
void zm.get("k").then((value) => value.length);
// @ts-expect-error bind only fills templates later
sql("SELECT ?", 1).prepare()(bind);

// @ts-expect-error an aggregated write returns no rows
void zm.cacheAndPeriodicStore<Feed>(null, null, sql("SELECT 1"));
// @ts-expect-error null is said, not left out
void zm.cacheAndPeriodicStore("k", undefined, sql("SELECT 1"));
// @ts-expect-error the row may be missing
void zm.pending<bigint>(counter("t", "c").inc(1)).then((value) => value + 1n);

void zm.cacheAndPeriodicStore(null, null, counter("t", "c").inc(1), { ttl: "1m" }).then((receipt) => receipt.done());
declare const receipt: Receipt;
void receipt.done({ timeout: "5s", signal: AbortSignal.timeout(10) });
// @ts-expect-error an option that is not there
void receipt.done({ ttl: "5s" });

// @ts-expect-error a delayed write returns no rows
void zm.cacheAndDelayStore<Feed>(null, null, sql("SELECT 1"));
// @ts-expect-error what caches nothing has no life
void zm.delDelayStore("k", sql("SELECT 1"), { ttl: "5s" });
// @ts-expect-error the option is camelCase
void zm.cacheAndDelayStore("k", null, sql("SELECT 1"), { op_id: "x" });
void zm.cacheAndDelayStore("k", "v", sql("SELECT 1"), {
  delay: 0,
  ttl: "1m",
  opId: "x",
  coalesce: true,
  taskTimeout: 5,
});
const cancelled: Promise<Cancelled> = zm.cancelDelayed("x", { timeout: "5s" });
void cancelled.then((word) => word === "started");
// @ts-expect-error no such outcome
void cancelled.then((word) => word === "done");

const letters: Promise<DeadLetter[]> = zm.deadLetters();
void letters.then(([letter]) => letter && zm.retryDead(letter.id));
void letters.then(([letter]) => letter && zm.deadLetters({ after: letter.id, limit: 10, timeout: "5s" }));
// @ts-expect-error a letter's id is no text
void zm.deadLetters({ after: "1" });
const retried: Promise<RetryReport> = zm.retryAllDead({ timeout: "5s" });
void retried.then(({ retried, refused }) => retried + refused);
const flushed: Promise<FlushReport> = zm.flush({ timeout: "5s" });
void flushed;

void zm.get("k", { required: true }).then((value) => value.length);
void zm.getText("k", { required: true }).then((value) => value.trim());
void zm.getJson<{ a: number }>("k").then((value) => value?.a);
void zm.query<{ id: string }>(sql("SELECT id FROM feeds")).then((rows) => rows[0]?.id);
const bare: bigint = zm.nextId();
const prefixed: string = zm.nextId("feed");
interface Feed {
  id: string;
}
const feed: Feed = { id: prefixed };
const written: Promise<Receipt<Feed>> = zm.cacheAndStore<Feed>("k", feed, [
  sql("SELECT 1"),
  counter("t", "c").inc(bare),
]);
void written;
void counter("t", "c").inc(1).dec(2n).mul("1.5").set(bind).clean().returning("c").allRows().build().render();
void slice("t", "c").add({ a: 1 }).del("x").clean().where("id = ?", bind).prepare()(1);
