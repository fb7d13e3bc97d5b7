"""A Redis that is killed, emptied, or comes back with what it had at an earlier time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from coherence.conftest import BOUND_MS
from coherence.fleet import Fleet
from coherence.redis_server import RedisServer

PAST = 1.1 * BOUND_MS / 1_000


def kill(redis: RedisServer) -> None:
    """It comes back empty."""
    redis.forget_saved()
    redis.kill()
    time.sleep(0.3)
    redis.start()


def flush(redis: RedisServer) -> None:
    """It goes on without what it had."""
    assert redis.ask("FLUSHALL") == b"+OK"


def go_back(redis: RedisServer) -> None:
    """It comes back with what it had when it was saved last."""
    redis.kill()
    redis.start()


@pytest.mark.parametrize("harm", [kill, flush])
def test_redis_loses_everything_while_all_read_and_write(
    fleet: Fleet, redis: RedisServer, harm: Callable[[RedisServer], None], soak: bool
) -> None:
    processes = fleet.add("python", "node", "python", redis_timeout="300ms")
    with fleet.running(processes, seed=6):
        for _ in range(30 if soak else 2):
            time.sleep(0.6)
            harm(redis)
        time.sleep(PAST)
    assert not fleet.check(BOUND_MS).kinds


def test_writes_go_on_without_redis(fleet: Fleet, redis: RedisServer) -> None:
    one, two = fleet.add("python", "node", redis_timeout="300ms")
    key, other = fleet.ITEMS[:2]
    assert (one.get(key), two.get(key)) == ("first",) * 2
    redis.kill()
    token = one.write("store", key)
    time.sleep(PAST)
    assert (one.get(key), two.get(key)) == (token,) * 2
    second = two.write("store", other)
    redis.start()
    time.sleep(PAST)
    assert (one.get(other), two.get(key)) == (second, token)
    # Whoever hears Redis again tells it what it was not told.
    deadline = time.monotonic() + 20
    while fleet.database.outbox():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not fleet.check(BOUND_MS).kinds


def test_redis_goes_back_to_an_older_dump(fleet: Fleet, redis: RedisServer) -> None:
    one, two = fleet.add("python", "node", redis_timeout="300ms")
    key = fleet.ITEMS[0]
    assert (one.get(key), two.get(key)) == ("first",) * 2
    redis.save()
    token = one.write("store", key)
    two.sees(key, token)
    go_back(redis)
    time.sleep(PAST)
    assert (one.get(key), two.get(key)) == (token,) * 2
    assert not fleet.check(BOUND_MS).kinds


@pytest.fixture
def appending(redis: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """In its place, one that has everything on disk before it answers."""
    redis.kill()
    server = RedisServer(tmp_path / "appending", append=True)
    yield server
    server.close()


def test_redis_goes_back_to_an_older_append_only_file(fleet: Fleet, appending: RedisServer, tmp_path: Path) -> None:
    one, two = fleet.add("python", "node", redis_addr=f"127.0.0.1:{appending.port}", redis_timeout="300ms")
    kept, overwritten, removed = fleet.ITEMS[:3]
    entry = f"{fleet.config['namespace']}:v:{{.{overwritten}}}"
    for key in (kept, overwritten, removed):
        assert (one.get(key), two.get(key)) == ("first",) * 2
    appending.copy_log(tmp_path / "copy")
    token = one.write("store", overwritten)
    one.write("remove", removed)
    two.sees(overwritten, token)
    two.sees(removed, None)
    appending.kill()
    appending.put_log_back(tmp_path / "copy")
    appending.start()
    # The old value is there again, as sound as it was.
    assert appending.ask("EXISTS", entry) == b":1"
    time.sleep(PAST)
    for process in (one, two):
        assert [process.get(key) for key in (kept, overwritten, removed)] == ["first", token, None]
    assert not fleet.check(BOUND_MS).kinds


def test_redis_goes_back_while_all_read_and_write(fleet: Fleet, redis: RedisServer, soak: bool) -> None:
    processes = fleet.add("python", "node", "python", redis_timeout="300ms")
    with fleet.running(processes, seed=7):
        for _ in range(30 if soak else 2):
            time.sleep(0.3)
            redis.save()
            time.sleep(0.6)
            go_back(redis)
        time.sleep(PAST)
    assert not fleet.check(BOUND_MS).kinds
