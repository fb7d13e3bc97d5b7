"""Delayed writes from Python: options, waiting, processes that end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import zmsg
import zmsg.sync
from zmsg import QueueError, TaskError, sql

Program = Callable[..., subprocess.CompletedProcess[str]]

TABLE = "CREATE TABLE t (n serial PRIMARY KEY, what text NOT NULL)"
ADD = "INSERT INTO t (what) VALUES (?)"


@pytest.fixture
def table(blocking: zmsg.sync.Zmsg) -> zmsg.sync.Zmsg:
    """An engine with a worker, beside a table without rows."""
    blocking.sql_exec(sql(TABLE))
    return blocking


@pytest.fixture
async def zt(zm: zmsg.Zmsg) -> zmsg.Zmsg:
    """The same for asyncio."""
    await zm.sql_exec(sql(TABLE))
    return zm


def effects(zm: zmsg.sync.Zmsg) -> list[str]:
    return [row["what"] for row in zm.query(sql("SELECT what FROM t ORDER BY n"))]


async def effects_of(zm: zmsg.Zmsg) -> list[str]:
    return [row["what"] for row in await zm.query(sql("SELECT what FROM t ORDER BY n"))]


async def until_asleep(zm: zmsg.Zmsg) -> None:
    asleep = sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
    while not await zm.query(asleep):  # noqa: ASYNC110 (the event is in another process)
        await asyncio.sleep(0.01)


async def test_a_delay_is_seconds_a_timedelta_or_text(zt: zmsg.Zmsg) -> None:
    now = ("int", 0), ("float", 0.001), ("timedelta", timedelta(0)), ("text", "0s"), ("later", "20ms")
    receipts = [await zt.cache_and_delay_store(None, None, sql(ADD, what), delay=delay) for what, delay in now]
    await asyncio.gather(*(receipt.done(timeout=20) for receipt in receipts))
    assert sorted(await effects_of(zt)) == ["float", "int", "later", "text", "timedelta"]
    assert len({receipt.op_id for receipt in receipts}) == 5


async def test_the_default_delay_is_a_setting(zt: zmsg.Zmsg, servers: dict[str, Any]) -> None:
    async with zmsg.Zmsg.open(servers, queue={"task_delay": "1h", "worker": False}) as patient:
        receipt = await patient.cache_and_delay_store("k", None, sql(ADD, "never"))
        with pytest.raises(zmsg.TimeoutError, match=r"is in the queue and will be applied") as raised:
            await receipt.done(timeout=timedelta(milliseconds=20))
        assert raised.value.op_id == receipt.op_id
        assert await patient.cancel_delayed(receipt.op_id) == "cancelled"


BAD = [
    ({"delay": -1}, "delay"),
    ({"delay": "0"}, "delay"),
    ({"delay": True}, "delay"),
    ({"delay": float("nan")}, "delay"),
    ({"delay": timedelta(days=366)}, "delay"),
    ({"task_timeout": 0}, "task_timeout"),
    ({"op_id": "with space"}, "op_id"),
    ({"op_id": 17}, "op_id must be a str"),
    ({"coalesce": "yes"}, "coalesce must be a bool"),
    ({"coalesce": None}, "coalesce must be a bool"),
    ({"invalidates": "k"}, "several keys"),
    ({"timeout": 0}, "timeout"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda it: str(it))
def test_bad_options_are_refused(options: dict[str, Any], message: str, table: zmsg.sync.Zmsg) -> None:
    for call in (
        lambda: table.cache_and_delay_store("k", b"v", sql(ADD, "x"), **options),
        lambda: table.del_delay_store("k", sql(ADD, "x"), **options),
    ):
        with pytest.raises(TaskError, match=message):
            call()
    assert table.get("k") is None
    assert effects(table) == []


def test_the_blocking_door_accepts_and_waits(table: zmsg.sync.Zmsg) -> None:
    receipt = table.cache_and_delay_store("k", {"a": 1}, sql(ADD, "x"), delay=0, ttl="1h")
    assert (receipt.durability, receipt.rows_affected, receipt.rows, receipt.cached) == ("redis_aof", 0, [], True)
    assert table.get_json("k") == {"a": 1}
    assert repr(receipt) == f"<zmsg.sync.Receipt op_id={receipt.op_id!r} durability='redis_aof' cached=True>"
    receipt.done(timeout=20)
    receipt.done()
    assert effects(table) == ["x"]
    table.del_delay_store("k", sql(ADD, "y"), delay=0).done(timeout=20)
    assert (effects(table), table.get("k")) == (["x", "y"], None)


async def test_a_cancelled_wait_leaves_the_write_alone(zt: zmsg.Zmsg) -> None:
    await zt.pause_queue()
    receipt = await zt.cache_and_delay_store("k", None, sql(ADD, "x"), delay=0)
    waits = [asyncio.create_task(receipt.done()) for _ in range(3)]
    await asyncio.sleep(0)
    waits[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits[0]
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(waits[1], 0.05)
    await zt.resume_queue()
    await asyncio.wait_for(waits[2], 20)
    await receipt.done()
    assert await effects_of(zt) == ["x"]


async def test_what_became_of_a_wish_to_cancel(zt: zmsg.Zmsg) -> None:
    slow = await zt.cache_and_delay_store(
        None, None, sql("INSERT INTO t (what) SELECT 'x' || pg_sleep(1)::text"), delay=0
    )
    await until_asleep(zt)
    assert await zt.cancel_delayed(slow.op_id) == "started"
    never = await zt.cache_and_delay_store(None, None, sql(ADD, "never"), delay="1h", op_id="never")
    waiting = asyncio.create_task(never.done())
    await asyncio.sleep(0)
    assert await zt.cancel_delayed("never") == "cancelled"
    with pytest.raises(QueueError, match="cancelled") as raised:
        await asyncio.wait_for(waiting, 20)
    assert (raised.value.op_id, raised.value.retryable) == ("never", False)
    await slow.done()
    assert await zt.cancel_delayed(slow.op_id) == "unknown"
    with pytest.raises(TaskError, match="op_id must be a str"):
        await zt.cancel_delayed(None)  # type: ignore[arg-type]


async def test_the_figures_of_the_queue(zt: zmsg.Zmsg) -> None:
    await zt.pause_queue()
    receipts = [await zt.cache_and_delay_store("k", None, sql(ADD, "x"), delay=0) for _ in range(3)]
    await zt.cache_and_delay_store("other", None, sql(ADD, "x"), delay="1h", op_id="later")
    while not (stats := zt.stats()).queue_waiting:  # noqa: ASYNC110 (the figures are read once a second)
        await asyncio.sleep(0.02)
    assert stats.queue_paused is True
    assert (stats.queue_scheduled, stats.queue_due, stats.queue_waiting, stats.queue_leased) == (1, 1, 2, 0)
    await zt.resume_queue()
    await asyncio.gather(*(receipt.done() for receipt in receipts))
    assert await zt.cancel_delayed("later") == "cancelled"
    while not (stats := zt.stats()).queue_cancelled:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert (stats.queue_done, stats.queue_dead, stats.queue_losses, stats.queue_paused) == (3, 0, 0, False)
    assert 0 < stats.queue_p50_ms <= stats.queue_p99_ms


async def test_closing_ends_a_wait_and_leaves_the_write(zt: zmsg.Zmsg, servers: dict[str, Any]) -> None:
    other = await zmsg.Zmsg.open(servers, queue={"worker": False})
    await zt.pause_queue()
    receipt = await other.cache_and_delay_store("k", None, sql(ADD, "x"), delay=0, op_id="named")
    waiting = asyncio.create_task(receipt.done())
    await asyncio.sleep(0)
    await other.close()
    with pytest.raises(zmsg.ClosedError, match="in the queue"):
        await waiting
    await zt.resume_queue()
    again = await zt.cache_and_delay_store("k", None, sql(ADD, "y"), delay=0, op_id="named")
    await again.done(timeout=20)
    assert await effects_of(zt) == ["x"]


ENDS = {
    "end of the script": "",
    "os._exit": "os._exit(0)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "a wait that nobody ends": (
        "threading.Thread(daemon=True, target=zm.cache_and_delay_store('k', None, zmsg.sql(ADD, 'x'), delay='1h').done)"
        ".start()"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_without_close_loses_nothing(end: str, program: Program, table: zmsg.sync.Zmsg) -> None:
    table.pause_queue()
    done = program(
        f"""
import os, signal, threading, zmsg, zmsg.sync
ADD = {ADD!r}
zm = zmsg.sync.Zmsg.open()
for n in range(100): zm.cache_and_delay_store(f"k{{n % 7}}", None, zmsg.sql(ADD, "x"), delay=0)
{ENDS[end]}
"""
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    assert effects(table) == []
    table.resume_queue()
    limit = time.monotonic() + 30
    while len(effects(table)) < 100:
        assert time.monotonic() < limit, len(effects(table))
        time.sleep(0.02)
    assert effects(table) == ["x"] * 100


def test_asyncio_ends_with_the_engine_open(program: Program, table: zmsg.sync.Zmsg) -> None:
    done = program(
        f"""
import asyncio, zmsg
async def main():
    zm = await zmsg.Zmsg.open()
    await asyncio.gather(*(zm.cache_and_delay_store("k", None, zmsg.sql({ADD!r}, "x"), delay=0.2) for _ in range(100)))
asyncio.run(main())
"""
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = table.cache_and_delay_store("k", None, sql(ADD, "last"), delay=0)
    last.done(timeout=30)
    assert effects(table) == ["x"] * 100 + ["last"]
