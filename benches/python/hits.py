"""What a hit, a task, an accepted like and a Redis read cost in Python, each beside the least that asyncio could cost.

Figures are medians of rounds that alternate between ours and the peer. One JSON line per figure goes to the file named
by the first argument.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from zmsg import Zmsg, counter, sql

ROUNDS = 9
KEYS = [f"feed_{number}" for number in range(1_000)]
VALUE = b"x" * 230


async def empty() -> None:
    """The peer of an awaited hit."""


async def loop_hits(zm: Zmsg, calls: int) -> float:
    began = time.perf_counter_ns()
    for number in range(calls):
        await zm.get(KEYS[number % 1_000])
    return (time.perf_counter_ns() - began) / calls


async def loop_empty(calls: int) -> float:
    began = time.perf_counter_ns()
    for number in range(calls):
        KEYS[number % 1_000]
        await empty()
    return (time.perf_counter_ns() - began) / calls


def loop_build(build: Callable[[], object], calls: int) -> float:
    began = time.perf_counter_ns()
    for _ in range(calls):
        build()
    return (time.perf_counter_ns() - began) / calls


async def loop_likes(zm: Zmsg, calls: int) -> float:
    """Likes of 1,000 rows, the task built for each as a request would."""
    began = time.perf_counter_ns()
    for number in range(calls):
        like = counter("zmsg_bench_rows", "likes").inc(1).where("id = ?", KEYS[number % 1_000]).build()
        await zm.cache_and_periodic_store(None, None, like)
    return (time.perf_counter_ns() - began) / calls


async def likes(namespace: str, calls: int) -> float:
    """The median cost of an accepted like, journal on; the flush is outside the figure and must count all."""
    with tempfile.TemporaryDirectory() as folder:
        async with Zmsg.open(namespace=namespace, journal_dir=folder, batch_interval="1h", batch_size=1_000_000) as zm:
            await zm.sql_exec(sql("DROP TABLE IF EXISTS zmsg_bench_rows"))
            await zm.sql_exec(sql("CREATE TABLE zmsg_bench_rows (id text PRIMARY KEY, likes bigint DEFAULT 0)"))
            for key in KEYS:
                await zm.sql_exec(sql("INSERT INTO zmsg_bench_rows (id) VALUES (?)", key))
            samples = [await loop_likes(zm, calls) for _ in range(ROUNDS + 1)]
            await zm.flush()
            (row,) = await zm.query(sql("SELECT sum(likes)::bigint AS total FROM zmsg_bench_rows"))
            assert row["total"] == calls * (ROUNDS + 1), f"{row['total']} likes counted of {calls * (ROUNDS + 1)}"
            await zm.sql_exec(sql("DROP TABLE zmsg_bench_rows"))
    return statistics.median(samples[1:])


async def pairs(ours: Callable[[], Awaitable[float]], peer: Callable[[], Awaitable[float]]) -> tuple[float, float]:
    samples = [(await ours(), await peer()) for _ in range(ROUNDS + 1)][1:]
    return statistics.median(own for own, _ in samples), statistics.median(other for _, other in samples)


async def l2_read(zm: Zmsg, keys: list[str]) -> float:
    """Reads of keys that L1 does not hold, one at a time."""
    began = time.perf_counter_ns()
    for key in keys:
        await zm.get(key)
    return (time.perf_counter_ns() - began) / len(keys)


async def round_trip(host: str, port: int, keys: list[str]) -> float:
    """GETs over a bare socket: Redis' own round trip as asyncio sees it."""
    reader, writer = await asyncio.open_connection(host, port)
    began = time.perf_counter_ns()
    for key in keys:
        writer.write(f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode())
        await reader.readuntil(b"\r\n")
    took = (time.perf_counter_ns() - began) / len(keys)
    writer.close()
    return took


async def measure() -> list[dict[str, object]]:
    namespace = f"zmsg-bench-{os.getpid()}"
    lines: list[dict[str, object]] = []

    def add(name: str, ours: float, peer: tuple[str, float] | None, measured: float, target: float, unit: str) -> None:
        met = "met" if measured <= target else "missed"
        beside = f"{peer[0]} {peer[1]:,.0f} ns" if peer else ""
        shown = f"x{measured:.2f}" if unit == "ratio" else f"{measured:,.0f} ns"
        bound = f"x{target}" if unit == "ratio" else f"{target:,.0f} ns"
        print(f"{name:<38}{ours:>10,.0f} ns  {beside:<36}{shown:>10}  <= {bound:<10} {met}")
        lines.append(
            {
                "name": name,
                "ours_ns": ours,
                "peer": peer[0] if peer else None,
                "peer_ns": peer[1] if peer else None,
                "measured": measured,
                "target": target,
                "unit": unit,
            }
        )

    async with (
        Zmsg.open(namespace=namespace, default_ttl="10m") as zm,
        Zmsg.open(namespace=namespace, default_ttl="10m") as writer,
    ):
        for key in KEYS:
            await zm.cache_only(key, VALUE)
        calls = 50_000
        ours, peer = await pairs(lambda: loop_hits(zm, calls), lambda: loop_empty(calls))
        add("await zm.get, L1 hit", ours, ("await of an empty coroutine", peer), ours / peer, 3, "ratio")

        def insert() -> object:
            return sql("INSERT INTO feeds (id, content) VALUES (?, ?)", "feed_1", "content")

        def like() -> object:
            return counter("feed_meta", "like_count").inc(1).where("id = ?", "feed_1").build()

        add("sql(...) task", built := loop_build(insert, calls), None, built, 300, "ns")
        add("counter task, built each time", built := loop_build(like, calls), None, built, 1_500, "ns")
        add("like accepted, task built each time", took := await likes(namespace, calls), None, took, 1_500, "ns")

        names = [f"cold_{number}" for number in range(2_000)]
        for start in range(0, len(names), 500):
            await asyncio.gather(*(writer.cache_only(name, VALUE) for name in names[start : start + 500]))
        address = os.environ["ZMSG_REDIS_ADDR"].removeprefix("redis://")
        host, _, port = address.rpartition(":")
        ours = await l2_read(zm, names[:1_000])
        peer = await round_trip(host, int(port), names[:1_000])
        add(
            "await zm.get, L2 hit, beyond Redis",
            ours,
            ("GET over a bare asyncio stream", peer),
            ours - peer,
            30_000,
            "ns",
        )
        began = time.perf_counter_ns()
        await asyncio.gather(*(zm.get(name) for name in names[1_000:]))
        each = (time.perf_counter_ns() - began) / 1_000
        add("await zm.get, L2 hit, each of 1,000", each, None, each, 10_000, "ns")
    return lines


def main() -> None:
    lines = asyncio.run(measure())
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
