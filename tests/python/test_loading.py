"""Loads by the caller's own function: one run for all, whatever becomes of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import zmsg
import zmsg.sync
from zmsg import StoreError, TaskError


class Loader:
    """Counts its runs, and waits until it is let go."""

    def __init__(self, result: Any = b"v") -> None:
        self.result = result
        self.runs = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> Any:
        self.runs += 1
        self.begun.set()
        await self.go.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def joined(zm: zmsg.Zmsg, count: int) -> None:
    while zm.stats().joined_loads < count:  # noqa: ASYNC110 (the engine's own figure)
        await asyncio.sleep(0.005)


async def test_a_thousand_calls_cost_one_run(zm: zmsg.Zmsg) -> None:
    loader = Loader()
    calls = [asyncio.create_task(zm.get_or_load("k", loader)) for _ in range(1_000)]
    await joined(zm, 999)
    loader.go.set()
    assert await asyncio.gather(*calls) == [b"v"] * 1_000
    assert (loader.runs, zm.stats().caller_loads, zm.peek("k")) == (1, 1, b"v")
    assert await zm.get_or_load("k", loader) == b"v"
    assert loader.runs == 1


@pytest.mark.parametrize(("data", "kept"), [("text", b"text"), ({"a": [1, None]}, b'{"a":[1,null]}'), (None, None)])
async def test_what_a_loader_may_give(zm: zmsg.Zmsg, data: Any, kept: bytes | None) -> None:
    loader = Loader(data)
    loader.go.set()
    for _ in range(2):
        assert await zm.get_or_load("k", loader, ttl="10m", absent_ttl=5) == kept
    assert loader.runs == 1
    await zm.cache_only("k", b"now")
    assert await zm.get_or_load("k", loader) == b"now"


async def test_a_plain_function_will_do_here_too(zm: zmsg.Zmsg) -> None:
    plain: Callable[[], Any] = lambda: "v"  # noqa: E731
    assert await zm.get_or_load("k", plain) == b"v"


async def test_an_exception_is_the_callers_own_and_told_to_the_others_once(zm: zmsg.Zmsg) -> None:
    raised = LookupError("no such thing")
    loader = Loader(raised)
    first = asyncio.create_task(zm.get_or_load("k", loader))
    await loader.begun.wait()
    others = [asyncio.create_task(zm.get_or_load("k", loader)) for _ in range(9)]
    await joined(zm, 9)
    loader.go.set()
    with pytest.raises(LookupError) as own:
        await first
    assert own.value is raised
    for error in await asyncio.gather(*others, return_exceptions=True):
        assert isinstance(error, StoreError)
        assert 'the loader of "k" failed: LookupError: no such thing' in str(error)
    loader.result = b"v"
    assert await zm.get_or_load("k", loader) == b"v"
    assert loader.runs == 2


async def test_what_cannot_be_cached_is_the_loaders_failure(zm: zmsg.Zmsg) -> None:
    loader = Loader({1, 2})
    loader.go.set()
    with pytest.raises(TaskError):
        await zm.get_or_load("k", loader)
    loader.result = b"v"
    assert await zm.get_or_load("k", loader) == b"v"


async def test_a_loader_has_to_be_a_function_also_where_the_value_is_cached(zm: zmsg.Zmsg) -> None:
    await zm.cache_only("k", b"v")
    loader = Loader()
    loading: Any = loader()
    with pytest.raises(TaskError, match="a function without arguments, not coroutine"):
        await zm.get_or_load("k", loading)
    loading.close()


async def test_a_cancelled_leader_hands_over(zm: zmsg.Zmsg) -> None:
    loader, second = Loader(), Loader(b"second")
    second.go.set()
    leader = asyncio.create_task(zm.get_or_load("k", loader))
    await loader.begun.wait()
    others = [asyncio.create_task(zm.get_or_load("k", second)) for _ in range(5)]
    await joined(zm, 5)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert await asyncio.gather(*others) == [b"second"] * 5
    assert (loader.runs, second.runs) == (1, 1)


async def test_a_loader_that_writes_its_own_key(zm: zmsg.Zmsg) -> None:
    async def load() -> bytes:
        await zm.cache_only("k", b"written")
        return b"loaded"

    assert await zm.get_or_load("k", load) == b"loaded"
    assert await zm.get("k") == b"written"


async def test_the_last_good_value_covers_a_loader_that_fails_or_takes_long(servers: dict[str, Any]) -> None:
    async with zmsg.Zmsg.open(servers, l1_max_cost=0) as zm:
        loader = Loader(b"old")
        loader.go.set()
        life: dict[str, Any] = {"ttl": "20ms", "stale_ttl": "1h"}
        assert await zm.get_or_load("k", loader, **life) == b"old"
        await asyncio.sleep(0.04)
        loader.result = OSError("down")
        assert await zm.get_or_load("k", loader, **life) == b"old"
        slow = Loader(b"new")
        assert await zm.get_or_load("k", slow, soft_timeout=0.03, **life) == b"old"
        slow.go.set()
        while zm.stats().cache_fills < 2:  # noqa: ASYNC110 (the engine's own figure)
            await asyncio.sleep(0.005)
        assert (slow.runs, zm.stats().stale_served) == (1, 2)
        with pytest.raises(OSError, match="down"):
            await zm.get_or_load("other", loader, **life)


async def hold_numbers(zm: zmsg.Zmsg) -> None:
    """A value past its life, kept for an hour, whose source fails."""
    await zm.sql_exec(zmsg.sql("CREATE TABLE numbers (id text PRIMARY KEY, n text, wait float8 DEFAULT 0)"))
    await zm.sql_exec(zmsg.sql("INSERT INTO numbers (id, n) VALUES ('number:1', '1')"))
    query = "SELECT n::int::text FROM numbers, LATERAL (SELECT pg_sleep(wait)) AS slept WHERE id = ?"
    zm.source("number:*", zmsg.sql(query), ttl="20ms", stale_ttl="1h")
    assert await zm.get("number:1") == b"1"
    await zm.sql_exec(zmsg.sql("UPDATE numbers SET n = 'none'"))
    await asyncio.sleep(0.04)


async def test_a_read_may_do_without_the_last_good_value(zm: zmsg.Zmsg) -> None:
    await hold_numbers(zm)
    for stale in (None, True):
        assert await zm.get("number:1", stale=stale) == b"1"
    assert (zm.peek("number:1"), zm.stats().stale_served) == (b"1", 1)
    reads: list[Callable[..., Awaitable[Any]]] = [zm.get, zm.get_text, zm.get_json]
    for read in reads:
        for required in (False, True):
            with pytest.raises(StoreError) as failed:
                await read("number:1", required=required, stale=False)
            assert failed.value.sqlstate == "22P02"
    with pytest.raises(StoreError):
        await zm.get_many(["number:1", "nobody"], stale=False)
    assert await zm.get_many(["number:1", "nobody"]) == {"number:1": b"1"}
    await zm.sql_exec(zmsg.sql("UPDATE numbers SET n = '2'"))
    assert await zm.get_json("number:1", stale=False) == 2


async def test_a_read_has_a_soft_timeout_of_its_own(servers: dict[str, Any]) -> None:
    async with zmsg.Zmsg.open(servers, l1_max_cost=0) as zm:
        await hold_numbers(zm)
        await zm.sql_exec(zmsg.sql("UPDATE numbers SET n = '2', wait = 0.5"))
        assert await zm.get_text("number:1", soft_timeout=0.01) == "1"
        assert await zm.get_many(["number:1"], soft_timeout="10ms") == {"number:1": b"1"}
        assert await zm.get("number:1", soft_timeout=0) == b"2"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stale": 0}, "stale must be a bool, not int"),
        ({"stale": "no"}, "stale must be a bool, not str"),
        ({"soft_timeout": -1}, "soft_timeout"),
        ({"soft_timeout": float("nan")}, "soft_timeout"),
        ({"soft_timeout": float("inf")}, "soft_timeout"),
        ({"soft_timeout": True}, "soft_timeout must be seconds, a timedelta or text"),
        ({"soft_timeout": "soon"}, "soft_timeout"),
    ],
)
async def test_what_a_read_takes(zm: zmsg.Zmsg, given: dict[str, Any], message: str) -> None:
    for read in (zm.get, zm.get_text, zm.get_json):
        with pytest.raises(TaskError, match=message):
            await read("k", **given)
    with pytest.raises(TaskError, match=message):
        await zm.get_many(["k"], **given)


def test_the_blocking_door_reads_so_too(blocking: zmsg.sync.Zmsg) -> None:
    blocking.source("number:*", zmsg.sql("SELECT 1 / 0 WHERE ? <> ''"), stale_ttl="1h")
    for read in (blocking.get, blocking.get_text, blocking.get_json):
        with pytest.raises(StoreError):
            read("number:1", stale=False, soft_timeout=0)
    with pytest.raises(TaskError):
        blocking.get_many(["number:1"], soft_timeout=-1)


async def test_a_value_that_ends_soon_is_loaded_anew_in_the_background(servers: dict[str, Any]) -> None:
    async with zmsg.Zmsg.open(servers, l1_max_cost=0, refresh_ahead=0.9) as zm:
        old, new = Loader(b"old"), Loader(b"new")
        old.go.set()
        assert await zm.get_or_load("k", old, ttl=10) == b"old"
        while new.runs == 0:
            assert await zm.get_or_load("k", new, ttl=10) == b"old"
            await asyncio.sleep(0)
        assert await zm.get_or_load("k", new, ttl=10) == b"old"
        new.go.set()
        while await zm.get("k") != b"new":  # noqa: ASYNC110 (the end of a load that nobody awaits)
            await asyncio.sleep(0.005)
        assert (old.runs, new.runs) == (1, 1)


async def test_two_engines_cost_one_run(servers: dict[str, Any]) -> None:
    async with zmsg.Zmsg.open(servers) as one, zmsg.Zmsg.open(servers) as two:
        loader = Loader()
        calls = [asyncio.create_task(zm.get_or_load("k", loader)) for zm in (one, two) for _ in range(50)]
        await asyncio.gather(joined(one, 49), joined(two, 49))
        loader.go.set()
        assert await asyncio.gather(*calls) == [b"v"] * 100
        assert loader.runs == 1


async def test_the_decorator_makes_keys_of_arguments(zm: zmsg.Zmsg) -> None:
    runs: list[tuple[int, str]] = []

    @zm.cached("feed:{id}:{lang}", ttl="10m", decode=json.loads)
    async def feed(id: int, lang: str = "en") -> dict[str, Any] | None:
        """A feed."""
        runs.append((id, lang))
        return {"id": id, "lang": lang} if id > 0 else None

    assert await feed(1) == await feed(id=1) == {"id": 1, "lang": "en"}
    assert await feed(1, "de") == {"id": 1, "lang": "de"}
    assert await feed(0) is None
    assert runs == [(1, "en"), (1, "de"), (0, "en")]
    assert (feed.__name__, await zm.get_json("feed:1:de")) == ("feed", {"id": 1, "lang": "de"})

    @zm.cached("plain:{id}")
    async def plain(id: int) -> str:
        return f"v{id}"

    call: Callable[[int], Awaitable[bytes | None]] = plain
    assert await call(7) == b"v7"


def test_blocking_threads_cost_one_run(blocking: zmsg.sync.Zmsg) -> None:
    runs, go = [], threading.Event()

    def load() -> str:
        runs.append(threading.get_ident())
        assert go.wait(20)
        return "v"

    got: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: got.append(blocking.get_or_load("k", load))) for _ in range(20)]
    for thread in threads:
        thread.start()
    while blocking.stats().joined_loads < 19:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert (got, len(runs)) == ([b"v"] * 20, 1)


def test_the_blocking_door_decorates_raises_and_renews(servers: dict[str, Any]) -> None:
    with zmsg.sync.Zmsg.open(servers, l1_max_cost=0, refresh_ahead=0.9) as zm:
        values = iter([b"old", b"new"])

        @zm.cached("n:{n}", ttl=10)
        def number(n: int) -> bytes:
            if n < 0:
                raise ValueError(n)
            return next(values)

        assert number(1) == b"old"
        with pytest.raises(ValueError, match="-1"):
            number(-1)
        while number(1) != b"new":
            pass
        assert zm.stats().refreshes == 1

        async def load() -> bytes:
            return b"v"

        wrong: Any = load
        with pytest.raises(TaskError, match="plain function"):
            zm.get_or_load("k", wrong)


PROGRAM = """
import sys, time, zmsg.sync


def load():
    zm.sql_exec(zmsg.sql("INSERT INTO runs VALUES (1)"))
    while not zm.query(zmsg.sql("SELECT 1 FROM go")):
        time.sleep(0.01)
    return "v"

with zmsg.sync.Zmsg.open() as zm:
    zm.sql_exec(zmsg.sql("INSERT INTO here VALUES (1)"))
    print(zm.get_or_load("k", load).decode())
"""


async def test_two_processes_cost_one_run(zm: zmsg.Zmsg, program: Callable[..., Any]) -> None:
    for table in ("runs", "here", "go"):
        await zm.sql_exec(zmsg.sql(f"CREATE TABLE {table} (n int)"))
    others = [asyncio.create_task(asyncio.to_thread(program, PROGRAM)) for _ in range(2)]
    counted = zmsg.sql("SELECT (SELECT count(*)::int FROM here) AS here, (SELECT count(*)::int FROM runs) AS runs")
    while (await zm.query(counted))[0] != {"here": 2, "runs": 1}:  # noqa: ASYNC110 (the event is in another process)
        await asyncio.sleep(0.01)
    await zm.sql_exec(zmsg.sql("INSERT INTO go VALUES (1)"))
    for done in await asyncio.gather(*others):
        assert (done.returncode, done.stdout) == (0, "v\n"), done.stderr
    assert (await zm.query(counted))[0]["runs"] == 1
    assert await zm.get("k") == b"v"
