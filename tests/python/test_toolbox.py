"""The cache toolbox and locks through both doors; what all languages share is in tests/scenarios/toolbox.json."""

from __future__ import annotations

import asyncio

import pytest

import zmsg
import zmsg.sync


async def test_a_counter_begins_at_zero_and_ttl_is_in_seconds(zm: zmsg.Zmsg) -> None:
    assert await zm.incr("n", ttl=600) == 1
    assert await zm.incr("n", -(2**63)) == 1 - 2**63
    left = await zm.ttl("n")
    assert isinstance(left, float)
    assert 500 < left < 700
    for by in (2**63, 1.5, True, "1"):
        with pytest.raises(zmsg.TaskError, match="by must be"):
            await zm.incr("n", by)  # type: ignore[arg-type]


async def test_many_values_of_every_kind(zm: zmsg.Zmsg) -> None:
    await zm.cache_many({"a": b"bytes", "b": "text", "c": {"json": [1]}}, ttl="10m", tags=["t"])
    assert await zm.get_many(["a", "b", "c"]) == {"a": b"bytes", "b": b"text", "c": b'{"json":[1]}'}
    await zm.invalidate_tag("t")
    assert await zm.keys("") == []
    with pytest.raises(zmsg.TaskError, match="cache_many needs data"):
        await zm.cache_many({"a": None})  # type: ignore[dict-item]
    for tags in ("user:7", ["t"] * 65, [7]):
        with pytest.raises(zmsg.TaskError, match="tag"):
            await zm.cache_only("a", "x", tags=tags)  # type: ignore[arg-type]


async def test_a_lock_is_held_in_its_block_by_one_and_tokens_grow(zm: zmsg.Zmsg) -> None:
    inside, tokens = 0, []

    async def work() -> None:
        nonlocal inside
        async with zm.lock("x", ttl=5, wait=20) as lock:
            inside += 1
            assert inside == 1
            assert lock.held
            assert lock.name == "x"
            tokens.append(lock.token)
            await asyncio.sleep(0)
            inside -= 1
        assert not lock.held

    await asyncio.gather(*(work() for _ in range(10)))
    assert tokens == sorted(set(tokens))


async def test_a_lock_that_is_taken_is_a_timeout_and_one_that_was_lost_is_told(zm: zmsg.Zmsg) -> None:
    lock = await zm.lock("x", ttl=60)
    with pytest.raises(TimeoutError):
        await zm.lock("x", wait=0)
    assert await lock.extend()
    assert await lock.release()
    assert not await lock.release()
    await lock.lost()
    with pytest.raises(zmsg.CacheError, match="was lost"):
        async with zm.lock("x") as lost:
            await lost.release()

    async def fail() -> None:
        async with zm.lock("x") as lost:
            await lost.release()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    with pytest.raises(zmsg.TaskError, match="ttl"):
        await zm.lock("x", ttl="1ms")


async def test_a_lock_that_nobody_waits_for_any_more_is_not_taken(zm: zmsg.Zmsg) -> None:
    async with zm.lock("x"):
        waiting = asyncio.ensure_future(zm.lock("x", wait=30)._take())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with zm.lock("x", wait=20) as lock:
        assert lock.held


def test_the_blocking_door_locks_too(blocking: zmsg.sync.Zmsg) -> None:
    with blocking.lock("x", ttl="5s") as lock:
        assert lock.held
        assert lock.extend()
        with pytest.raises(TimeoutError), blocking.lock("x", wait=0):
            pass
    assert not lock.held
    taken = blocking.lock("x").acquire()
    assert taken.token > lock.token
    assert repr(taken) == "<zmsg.sync.Lock 'x' held>"
    assert taken.release()
    with pytest.raises(zmsg.CacheError, match="was lost"), blocking.lock("x") as lost:
        lost.release()
