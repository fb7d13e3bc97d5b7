"""How calls begin, end, and are given up: cancellation, timeouts, closing, loops and threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import uvloop

import zmsg
import zmsg.sync
from zmsg import ClosedError, TaskError, sql

SLOW = sql("SELECT pg_sleep(30)")


async def until_asleep(zm: zmsg.Zmsg) -> None:
    """Waits until the server runs a statement that sleeps; bounded by the test's timeout."""
    asleep = sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
    while not await zm.query(asleep):  # noqa: ASYNC110 (the event is in another process)
        await asyncio.sleep(0.01)


async def test_a_cancelled_call_is_given_up(zm: zmsg.Zmsg) -> None:
    task = asyncio.create_task(zm.query(SLOW))
    await until_asleep(zm)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await zm.query(sql("SELECT 1 AS one")) == [{"one": 1}]


async def test_a_write_that_was_sent_ends_though_its_caller_is_gone(zm: zmsg.Zmsg) -> None:
    await zm.sql_exec(sql("CREATE TABLE t (id int PRIMARY KEY)"))
    # The gate holds a lock until it is cancelled; the write waits for it in the middle of its statement.
    gate = asyncio.create_task(zm.query(sql("SELECT pg_advisory_xact_lock(7)::text, pg_sleep(60)::text")))
    await until_asleep(zm)
    behind_it = sql("INSERT INTO t SELECT 1 WHERE pg_advisory_xact_lock(7) IS NOT NULL")
    task = asyncio.create_task(zm.cache_and_store("k", b"v", behind_it))
    waiting = sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    while not await zm.query(waiting):  # noqa: ASYNC110 (the event is in another process)
        await asyncio.sleep(0.01)
    for call in (task, gate):
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    while await zm.get("k") is None:  # noqa: ASYNC110 (the end of a call that nobody awaits)
        await asyncio.sleep(0.01)
    assert await zm.query(sql("SELECT id FROM t")) == [{"id": 1}]


async def test_wait_for_and_gather(zm: zmsg.Zmsg) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(zm.query(SLOW), 0.1)
    await zm.cache_only("k", b"v")
    results = await asyncio.gather(*(zm.get_many([f"k{n}", "k"]) for n in range(500)))
    assert results == [{"k": b"v"}] * 500


@pytest.mark.parametrize("limit", [0.1, timedelta(milliseconds=100), "100ms"], ids=str)
async def test_a_timeout_is_both_kinds_of_timeout_error(zm: zmsg.Zmsg, limit: Any) -> None:
    with pytest.raises(TimeoutError) as raised:
        await zm.query(SLOW, timeout=limit)
    assert isinstance(raised.value, zmsg.TimeoutError)
    assert raised.value.code == "timeout"
    assert raised.value.retryable


BAD_TIMES = [0, -1, float("nan"), float("inf"), "5", "soon", True, b"5s", timedelta(0), [1], 1e300]


@pytest.mark.parametrize("bad", BAD_TIMES, ids=repr)
async def test_times_that_are_none_are_refused(zm: zmsg.Zmsg, bad: Any) -> None:
    with pytest.raises(TaskError, match="timeout"):
        await zm.query(sql("SELECT 1"), timeout=bad)
    with pytest.raises(TaskError, match="ttl"):
        await zm.cache_only("k", b"v", ttl=bad)


@pytest.mark.parametrize("key", ["", "k" * 2000, "\ud800", 5, None, b"k"], ids=lambda key: repr(key)[:20])
async def test_keys_that_are_none_are_refused(zm: zmsg.Zmsg, key: Any) -> None:
    for call in (zm.get(key), zm.delete(key), zm.get_text(key), zm.get_many(["ok", key]), zm.cache_only(key, b"v")):
        with pytest.raises(TaskError):
            await call
    with pytest.raises(TaskError):
        zm.peek(key)


HOSTILE_KEYS = ["a b\r\nDEL x", "*", "{a}{b}", "zmsg:x", "%s", "a\0b", "é\U0001f600", "../..", "'; --"]


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=repr)
async def test_hostile_keys_are_only_keys(zm: zmsg.Zmsg, key: str) -> None:
    await zm.cache_only("other", b"o")
    await zm.cache_only(key, b"v")
    assert await zm.get(key) == b"v"
    assert await zm.get_many([key, "other"]) == {key: b"v", "other": b"o"}
    await zm.delete(key)
    assert await zm.get(key) is None
    assert await zm.get("other") == b"o"


async def test_what_takes_a_task_takes_nothing_else(zm: zmsg.Zmsg) -> None:
    for bad in ("SELECT 1", None, 5, [], ["SELECT 1"], [sql("SELECT 1"), None]):
        with pytest.raises(TaskError):
            await zm.sql_exec(bad)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="several keys"):
        await zm.get_many("abc")


async def test_closing_twice_and_calling_after(servers: dict[str, Any]) -> None:
    zm = await zmsg.Zmsg.open(servers)
    assert not zm.closed
    await asyncio.gather(zm.close(), zm.close())
    await zm.close()
    assert zm.closed
    assert "closed" in repr(zm)
    for call in (zm.get("k"), zm.sql_exec(sql("SELECT 1")), zm.delete("k"), zm.health()):
        with pytest.raises(ClosedError):
            await call
    for now in (lambda: zm.peek("k"), zm.next_id, lambda: zm.source("x_*", sql("SELECT ?::text"))):
        with pytest.raises(ClosedError):
            now()


async def test_closing_with_calls_in_flight(servers: dict[str, Any]) -> None:
    zm = await zmsg.Zmsg.open(servers)
    calls = [asyncio.create_task(zm.query(sql("SELECT pg_sleep(0.2)"))) for _ in range(5)]
    calls += [asyncio.create_task(zm.get(f"k{n}")) for n in range(100)]
    await asyncio.sleep(0)
    await zm.close()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert result is None or isinstance(result, (list, ClosedError))


async def test_leaving_the_block_closes(servers: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with zmsg.Zmsg.open(servers) as zm:
            raise ZeroDivisionError
    assert zm.closed


async def test_a_dropped_engine_is_closed_in_the_background(zm: zmsg.Zmsg, servers: dict[str, Any]) -> None:
    dropped = await zmsg.Zmsg.open(servers)
    (row,) = await dropped.query(sql("SELECT pg_backend_pid() AS pid"))
    del dropped
    gc.collect()
    gone = sql("SELECT 1 AS it FROM pg_stat_activity WHERE pid = ?", row["pid"])
    while await zm.query(gone):  # noqa: ASYNC110 (the event is in another process)
        await asyncio.sleep(0.01)


def test_both_event_loops_serve(servers: dict[str, Any]) -> None:
    async def use() -> bytes | None:
        async with zmsg.Zmsg.open(servers) as zm:
            await zm.cache_only("k", b"v")
            await asyncio.gather(*(zm.get_many(["k"]) for _ in range(50)))
            return await zm.get("k")

    assert uvloop.run(use()) == b"v"
    assert asyncio.run(use()) == b"v"


def test_one_engine_serves_loops_in_several_threads(blocking: zmsg.sync.Zmsg, servers: dict[str, Any]) -> None:
    engine = asyncio.run(open_engine(servers))

    async def work(name: str) -> dict[str, bytes]:
        for n in range(50):
            await engine.cache_only(f"{name}{n}", name)
        return await engine.get_many([f"{name}{n}" for n in range(50)])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: asyncio.run(work(name)), "abcd"))
    assert [len(it) for it in found] == [50] * 4
    asyncio.run(engine.close())


async def open_engine(servers: dict[str, Any]) -> zmsg.Zmsg:
    return await zmsg.Zmsg.open(servers)


def test_a_loop_may_end_before_its_calls(servers: dict[str, Any]) -> None:
    async def abandon() -> zmsg.Zmsg:
        zm = await zmsg.Zmsg.open(servers)
        loop = asyncio.get_running_loop()
        coroutine = zm.query(sql("SELECT pg_sleep(0.2)"))
        task = loop.create_task(coroutine)
        await asyncio.sleep(0.05)
        assert not task.done()
        return zm

    loop = asyncio.new_event_loop()
    zm = loop.run_until_complete(abandon())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.close()
    del loop
    gc.collect()
    time.sleep(0.3)
    assert asyncio.run(zm.query(sql("SELECT 1 AS one"))) == [{"one": 1}]
    asyncio.run(zm.close())


def test_blocking_calls_let_other_threads_run(blocking: zmsg.sync.Zmsg) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: blocking.query(sql("SELECT pg_sleep(0.4)")), range(5)))
    assert time.monotonic() - began < 1.8


def test_threads_share_a_blocking_engine(blocking: zmsg.sync.Zmsg) -> None:
    def work(n: int) -> bytes | None:
        blocking.cache_only(f"k{n}", str(n))
        return blocking.get(f"k{n}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(200))) == [str(n).encode() for n in range(200)]


def test_closing_from_many_threads(servers: dict[str, Any]) -> None:
    zm = zmsg.sync.Zmsg.open(servers)
    barrier = threading.Barrier(8)

    def work(n: int) -> str:
        barrier.wait()
        try:
            if n % 2:
                zm.close()
            else:
                for _ in range(100):
                    zm.cache_only("k", b"v")
        except ClosedError:
            return "closed"
        return "fine"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(8))) <= {"fine", "closed"}
    with pytest.raises(ClosedError):
        zm.get("k")


def test_an_unreachable_server_is_named_without_its_password(servers: dict[str, Any]) -> None:
    for bad in (
        {"postgres_dsn": "postgresql://me:canary@127.0.0.1:1/x"},
        {"redis_addr": "redis://:canary@127.0.0.1:1"},
    ):
        with pytest.raises(zmsg.ZmsgError) as raised:
            zmsg.sync.Zmsg.open({**servers, **bad}, connect_timeout=2)
        assert raised.value.code in ("store", "cache", "timeout")
        assert "127.0.0.1:1" in str(raised.value)
        assert "canary" not in f"{raised.value!r} {raised.value} {raised.value.__cause__}"


def test_the_engines_log_reaches_logging(servers: dict[str, Any]) -> None:
    heard = threading.Event()
    records: list[logging.LogRecord] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)
            heard.set()

    ear = Ear()
    logger = logging.getLogger("zmsg")
    logger.addHandler(ear)
    try:
        degraded = {**servers, "redis_addr": "127.0.0.1:1", "start_degraded": True, "connect_timeout": 1}
        with zmsg.sync.Zmsg.open(degraded):
            assert heard.wait(10)
    finally:
        logger.removeHandler(ear)
    assert records[0].name == "zmsg"
    assert records[0].levelno == logging.WARNING
