"""A process that does not hear the others, because of the network or because it stands still."""

from __future__ import annotations

import signal
import time

import pytest
from coherence.conftest import BOUND_MS
from coherence.fleet import Fleet
from coherence.proxy import Proxy

PAST = 1.1 * BOUND_MS / 1_000
"""Seconds after which trust has certainly ended."""


def through(proxy: Proxy) -> str:
    return f"127.0.0.1:{proxy.port}"


def test_who_is_cut_off_asks_the_database_once_the_bound_has_passed(fleet: Fleet, redis_proxy: Proxy) -> None:
    [writer] = fleet.add("node")
    [cut_off] = fleet.add("python", redis_addr=through(redis_proxy), redis_timeout="200ms")
    key = fleet.ITEMS[0]
    assert cut_off.get(key) == "first"
    assert cut_off.ask("peek", keys=[key])["tokens"] == ["first"]
    redis_proxy.hold()
    token = writer.write("store", key)
    # Its memory may be read for as long as the bound, and no longer.
    assert cut_off.get(key) in ("first", token)
    time.sleep(PAST)
    assert cut_off.ask("peek", keys=[key])["tokens"] == [None]
    assert cut_off.get(key) == token
    # What was held back arrives late, and does no harm.
    redis_proxy.release()
    later = writer.write("store_none", key)
    time.sleep(PAST)
    assert cut_off.get(key) == later
    assert not fleet.check(BOUND_MS).kinds


def test_who_cannot_reach_redis_writes_all_the_same_and_others_are_told(fleet: Fleet, redis_proxy: Proxy) -> None:
    [reader] = fleet.add("node")
    [writer] = fleet.add("python", redis_addr=through(redis_proxy), redis_timeout="200ms")
    key = fleet.ITEMS[0]
    assert reader.get(key) == "first"
    redis_proxy.hold()
    token = writer.write("store", key)
    time.sleep(PAST)
    assert reader.get(key) == token
    assert fleet.database.outbox() == 0
    redis_proxy.release()
    assert not fleet.check(BOUND_MS).kinds


def test_strict_writes_fail_before_the_database_is_touched(fleet: Fleet, redis_proxy: Proxy) -> None:
    [reader] = fleet.add("node")
    [writer] = fleet.add("python", redis_addr=through(redis_proxy), redis_timeout="200ms", on_cache_down="strict")
    key = fleet.ITEMS[0]
    redis_proxy.hold()
    assert writer.ask("store", key=key)["outcome"] == "unknown"
    assert fleet.database.versions()[key, "first"] == 0
    assert (key, "p1.1") not in fleet.database.versions()
    assert reader.get(key) == "first"
    redis_proxy.release()
    assert not fleet.check(BOUND_MS).kinds


def test_cuts_come_and_go_while_all_read_and_write(fleet: Fleet, redis_proxy: Proxy, soak: bool) -> None:
    sound = fleet.add("python", "node")
    cut_off = fleet.add("python", redis_addr=through(redis_proxy), redis_timeout="200ms")
    with fleet.running([*sound, *cut_off], seed=4):
        for n in range(40 if soak else 2):
            time.sleep(0.5)
            redis_proxy.hold()
            time.sleep(PAST + 0.3)
            if n % 2:
                redis_proxy.cut()
            redis_proxy.release()
        time.sleep(PAST)
    assert not fleet.check(BOUND_MS).kinds


@pytest.mark.parametrize("language", ["python", "node"])
def test_who_stood_still_longer_than_the_bound_trusts_nothing_it_had(fleet: Fleet, language: str) -> None:
    writer, stopped = fleet.add("node", language)
    key = fleet.ITEMS[0]
    # More than once: Node then has a copy of its own.
    assert [stopped.get(key) for _ in range(3)] == ["first"] * 3
    stopped.send(signal.SIGSTOP)
    token = writer.write("store", key)
    time.sleep(PAST)
    # Asked while it stands still: its first act is this read.
    answer = stopped.start("peek", keys=[key])
    stopped.send(signal.SIGCONT)
    assert answer.result(60)["tokens"] in ([None], [token])
    assert stopped.get(key) == token
    assert not fleet.check(BOUND_MS).kinds


def test_processes_stand_still_while_all_read_and_write(fleet: Fleet, soak: bool) -> None:
    processes = fleet.add("python", "node", "python")
    with fleet.running(processes, seed=5):
        for n in range(30 if soak else 2):
            stopped = processes[n % 3]
            time.sleep(0.4)
            stopped.send(signal.SIGSTOP)
            time.sleep(PAST)
            stopped.send(signal.SIGCONT)
        time.sleep(PAST)
    assert not fleet.check(BOUND_MS).kinds
