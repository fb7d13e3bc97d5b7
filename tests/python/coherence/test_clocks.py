"""A process whose wall clock is wrong, and is put right and wrong again while it runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from coherence.conftest import BOUND_MS
from coherence.fleet import Fleet, Process
from coherence.proxy import Proxy
from coherence.wall_clock import WallClock

OFF = 600
"""Seconds."""
PAST = 1.1 * BOUND_MS / 1_000
# The first millisecond of ids, and the bits below their time (`core/src/id/layout.rs`).
EPOCH_MS, BELOW_TIME = 1_704_067_200_000, 22


def minutes_off(process: Process) -> int:
    """How far its wall clock is off. Its ids are not: PostgreSQL says when they begin."""
    told = process.ask("time")
    assert abs((told["made"] >> BELOW_TIME) + EPOCH_MS - 1_000 * time.time()) < 60_000
    off: float = told["wall"] - time.time()
    return round(off / 60)


@pytest.mark.parametrize("language", ["python", "node"])
def test_a_wall_clock_that_is_off_changes_nothing(
    fleet: Fleet, redis_proxy: Proxy, tmp_path: Path, language: str
) -> None:
    sound = fleet.add("python", "node")
    clock = WallClock(tmp_path)
    clock.put(OFF)
    behind = {"redis_addr": f"127.0.0.1:{redis_proxy.port}", "redis_timeout": "200ms"}
    [wrong] = fleet.add(language, clock=clock, **behind)
    key = fleet.SLOW[0]
    with fleet.running([*sound, wrong], seed=10):
        assert [minutes_off(process) for process in [*sound, wrong]] == [0, 0, OFF // 60]
        while wrong.ask("peek", keys=[key])["tokens"] != ["first"]:
            assert wrong.get(key) == "first"
        # Where ages were counted by this clock, what it has would be young for twenty minutes.
        redis_proxy.hold()
        clock.put(-OFF)
        assert minutes_off(wrong) == -OFF // 60
        token = sound[0].write("store", key)
        time.sleep(PAST)
        assert wrong.ask("peek", keys=[key])["tokens"] == [None]
        assert wrong.get(key) == token
        redis_proxy.release()
        time.sleep(0.5)
    report = fleet.check(BOUND_MS)
    assert not report.kinds
    assert report.reads > 500
