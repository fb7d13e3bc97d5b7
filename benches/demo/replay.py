"""Replays an access trace as feed traffic: accesses read their item through the tiers, and each counts one view on it.

Views are aggregated: accepted one by one, merged in memory, flushed as a few statements. At the end every counter is
compared with the trace. It works in a database of its own, `zmsg_demo`, which it drops and makes anew on the server of
ZMSG_POSTGRES_DSN, in a Redis namespace and with a journal folder of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from array import array
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from workload import chunks, content, read_trace, zipf

import zmsg
from zmsg import Zmsg, bind, counter, sql

SCHEMA = Path(__file__).resolve().parents[2] / "schema"
DATABASE = "zmsg_demo"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="trace file (xz or plain); without it a Zipf workload is generated")
    parser.add_argument(
        "--accesses", type=int, help="how many accesses to replay (default: the whole trace, or 200,000 generated ones)"
    )
    parser.add_argument(
        "--reads", type=int, default=20_000, help="how many of the accesses read their item too (default: %(default)s)"
    )
    parser.add_argument("--callers", type=int, default=32, help="concurrent callers (default: %(default)s)")
    parser.add_argument("--l1-bytes", type=int, default=2 << 20, help="l1_max_cost; small, so that Redis is asked too")
    parser.add_argument("--seed", type=int, default=1, help="of the generated workload (default: %(default)s)")
    given = parser.parse_args()
    if given.accesses is None and not given.trace:
        given.accesses = 200_000
    for name in ("accesses", "reads", "callers", "l1_bytes"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, not {getattr(given, name)}")
    return given


async def demo_database(dsn: str) -> str:
    """Makes the database anew and gives its DSN."""
    async with Zmsg.open(postgres_dsn=dsn, redis_addr=None, journal="memory") as zm:
        # A demo that was killed may have left sessions; DROP … WITH (FORCE) is newer than the oldest server.
        await zm.query(sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?", DATABASE))
        await zm.sql_exec(sql(f"DROP DATABASE IF EXISTS {DATABASE}"))
        await zm.sql_exec(sql(f"CREATE DATABASE {DATABASE}"))
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{DATABASE}"))


async def create_rows(zm: Zmsg, items: list[int], progress: Progress) -> None:
    """One feed and one row of counters per item."""
    shown = progress.add_task("creating rows", total=len(items))
    for chunk in chunks(items, 2_000):
        ids = [f"feed_{item}" for item in chunk]
        texts = [content(item) for item in chunk]
        await zm.sql_exec(
            [
                sql("INSERT INTO feeds (id, content) SELECT * FROM unnest(?::text[], ?::text[])", ids, texts),
                sql("INSERT INTO feed_meta (id) SELECT unnest(?::text[])", ids),
            ]
        )
        progress.advance(shown, len(chunk))


class Replay:
    """The accesses, shared by the callers, and how long each call took."""

    def __init__(self, zm: Zmsg, accesses: array[int], reads: int, progress: Progress) -> None:
        self.zm = zm
        self.pending = enumerate(accesses)
        self.every = max(1, len(accesses) // reads)
        self.progress = progress
        self.shown = progress.add_task("replaying", total=len(accesses))
        self.view = counter("feed_meta", "view_count").inc(1).where("id = ?", bind).prepare()
        self.get_ns = array("q")
        self.view_ns = array("q")

    async def caller(self) -> None:
        """Takes accesses until none is left; every `every`-th reads its item first."""
        clock, accept, view, every = time.perf_counter_ns, self.zm.cache_and_periodic_store, self.view, self.every
        for number, item in self.pending:
            key = f"feed_{item}"
            if number % every == 0:
                await self.read(key, item)
            began = clock()
            await accept(None, None, view(key))
            self.view_ns.append(clock() - began)
            if number % 256 == 0:
                self.progress.update(self.shown, completed=number)
                await asyncio.sleep(0)

    async def read(self, key: str, item: int) -> None:
        began = time.perf_counter_ns()
        text = await self.zm.get_text(key)
        self.get_ns.append(time.perf_counter_ns() - began)
        if text != content(item):
            raise SystemExit(f"{key} was read as {text!r}, which is not what was stored")


async def check(zm: Zmsg, accesses: array[int]) -> int:
    """Compares every counter with the trace; gives the number of rows that were counted."""
    expected = Counter(f"feed_{item}" for item in accesses)
    rows = await zm.query(sql("SELECT id, view_count FROM feed_meta WHERE view_count > 0"))
    counted = {row["id"]: row["view_count"] for row in rows}
    if counted != dict(expected):
        wrong = [key for key in expected.keys() | counted.keys() if expected.get(key) != counted.get(key)]
        raise SystemExit(f"{len(wrong)} counters differ from the trace, the first: {sorted(wrong)[:5]}")
    return len(counted)


def report(console: Console, stats: zmsg.Stats, replay: Replay, seconds: float) -> None:
    """Hits per tier, what the views became, latency percentiles."""
    tiers = Table("tier", "hits", "share", title="reads")
    hits = {
        "L1 (memory)": stats.l1_hits,
        "L2 (Redis)": stats.l2_hits,
        "PostgreSQL": stats.source_loads,
        "joined a load": stats.joined_loads,
    }
    for name, count in hits.items():
        tiers.add_row(name, f"{count:,}", f"{count / max(1, sum(hits.values())):.1%}")
    console.print(tiers)
    views = Table("views", "rows written", "statements", "flushes", "views per row", "views per statement")
    views.add_row(
        f"{stats.batch_operations:,}",
        f"{stats.batch_rows:,}",
        f"{stats.batch_statements:,}",
        f"{stats.flushes:,}",
        f"{stats.aggregation_ratio:,.1f}",
        f"{stats.batch_operations / max(1, stats.batch_statements):,.0f}",
    )
    console.print(views)
    latency = Table("call", "p50", "p90", "p99", "p99.9", "max", title="latency in microseconds")
    for name, samples in (("get", replay.get_ns), ("count a view", replay.view_ns)):
        ordered = sorted(samples)
        marks = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.9, 0.99, 0.999, 1.0)]
        latency.add_row(name, *(f"{mark / 1_000:,.1f}" for mark in marks))
    console.print(latency)
    accesses = len(replay.view_ns)
    console.print(f"{accesses:,} accesses in {seconds:.1f} s, the last flush included: {accesses / seconds:,.0f}/s")


async def main() -> None:
    given = arguments()
    dsn = os.environ.get("ZMSG_POSTGRES_DSN")
    if not dsn:
        raise SystemExit('ZMSG_POSTGRES_DSN is not set; run "make demo", which starts the servers')
    accesses = read_trace(given.trace, given.accesses) if given.trace else zipf(given.accesses, given.seed)
    journals = tempfile.TemporaryDirectory(prefix="zmsg-demo-")
    items = sorted(set(accesses))
    console = Console()
    name = given.trace.name if given.trace else f"Zipf workload, seed {given.seed}"
    console.print(f"{name}: {len(accesses):,} accesses of {len(items):,} items, {given.callers} callers")
    demo_dsn = await demo_database(dsn)
    namespace = f"zmsg-demo-{os.getpid()}-{time.time_ns()}"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with Zmsg.open(
        postgres_dsn=demo_dsn,
        namespace=namespace,
        l1_max_cost=given.l1_bytes,
        default_ttl="10m",
        pool_size=16,
        journal_dir=f"{journals.name}/journal",
        batch_interval="1s",
        batch_size=100_000,
    ) as zm:
        await zm.load_dir(SCHEMA).migrate()
        zm.source("feed_*", sql("SELECT content FROM feeds WHERE id = ?"))
        with Progress(*columns, console=console) as progress:
            await create_rows(zm, items, progress)
            replay = Replay(zm, accesses, given.reads, progress)
            began = time.perf_counter()
            await asyncio.gather(*(replay.caller() for _ in range(given.callers)))
            await zm.flush()
            progress.update(replay.shown, completed=len(accesses))
            seconds = time.perf_counter() - began
        rows = await check(zm, accesses)
        report(console, zm.stats(), replay, seconds)
        console.print(f"checked: {len(accesses):,} views counted on {rows:,} rows, none missing, none twice")


if __name__ == "__main__":
    asyncio.run(main())
