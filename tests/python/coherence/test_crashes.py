"""Writers and readers that are killed where the caches and the database disagree."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from coherence.conftest import BOUND_MS
from coherence.fleet import Fleet
from coherence.proxy import Proxy

# Whether the write is in the database afterwards.
POINTS = {
    "write.fenced": False,
    "write.before_commit": False,
    "write.after_commit": True,
    "write.after_unfence": True,
}


def test_a_writer_that_dies_leaves_nothing_old(fleet: Fleet) -> None:
    one, two = fleet.add("python", "node")
    keys = dict(zip(POINTS, fleet.ITEMS, strict=False))
    expected = {}
    for point, key in keys.items():
        assert (one.get(key), two.get(key)) == ("first",) * 2
        [writer] = fleet.add("python", crash=f"{point}:1")
        dying = writer.start("store", key=key)
        assert writer.killed(), point
        with pytest.raises(EOFError):
            dying.result(60)
        expected[key] = f"{writer.name}.1" if POINTS[point] else "first"
    # Nobody was told; still nobody serves what the database no longer has.
    time.sleep(BOUND_MS / 1_000)
    for key, token in expected.items():
        assert (one.get(key), two.get(key)) == (token,) * 2
        # The fence of the dead one is in nobody's way.
        later = one.write("store", key)
        two.sees(key, later)
    assert not fleet.check(BOUND_MS).kinds


def test_writers_die_while_all_read_and_write(fleet: Fleet, soak: bool) -> None:
    survivors = fleet.add("python", "node")
    deaths = 25 if soak else 1
    with fleet.running(survivors, seed=3):
        for seed, point in enumerate(deaths * [*POINTS]):
            [writer] = fleet.add("python", crash=f"{point}:{1 + seed * 3 % 7}", queue={"worker": False})
            with fleet.running([writer], seed=seed, writes=1.0):
                assert writer.killed()
        time.sleep(1.2 * BOUND_MS / 1_000)
    assert not fleet.check(BOUND_MS).kinds


def test_a_writer_without_redis_dies_and_others_tell_redis(fleet: Fleet, redis_proxy: Proxy) -> None:
    one, two = fleet.add("python", "node")
    cut_off: dict[str, Any] = {"redis_addr": f"127.0.0.1:{redis_proxy.port}", "redis_timeout": "200ms"}
    [writer] = fleet.add("python", crash="write.after_commit:1", **cut_off)
    key = fleet.ITEMS[0]
    assert (one.get(key), two.get(key)) == ("first",) * 2
    redis_proxy.hold()
    writer.start("store", key=key)
    assert writer.killed()
    time.sleep(BOUND_MS / 1_000)
    assert (one.get(key), two.get(key)) == ("p2.1",) * 2
    assert not fleet.check(BOUND_MS).kinds


def test_a_reader_that_dies_before_it_fills_holds_nobody_up(fleet: Fleet) -> None:
    [other] = fleet.add("node", lease_wait="500ms")
    [reader] = fleet.add("python", crash="read.before_fill:1", lease_wait="500ms")
    key = fleet.ITEMS[0]
    reader.start("get", keys=[key])
    assert reader.killed()
    begun = time.monotonic()
    assert other.get(key) == "first"
    assert time.monotonic() - begun < 2
    # Its lease has ended by now: the next one fills.
    time.sleep(0.6)
    assert other.get(key) == "first"
    token = other.write("store_none", key)
    assert other.get(key) == token
    assert not fleet.check(BOUND_MS).kinds


def test_who_dies_between_a_late_commit_and_the_caches_is_made_up_for(fleet: Fleet, tmp_path: Path) -> None:
    [reader] = fleet.add("node", queue={"worker": False})
    item, [like, *_] = fleet.ITEMS[0], fleet.likes("p2")
    assert (reader.get(item), reader.get(like)) == ("first", "0")
    [worker] = fleet.add("python", crash="queue.after_commit:1", queue={"lease": "1s"})
    worker.start("delay", key=item)
    assert worker.killed()
    [liker] = fleet.add("python", crash="flush.after_commit:1", queue={"worker": False}, batch_interval="60s")
    liker.write("like", like)
    liker.start("flush")
    assert liker.killed()
    # What they have done is in the database, and nobody was told. This one takes over the lease and the journal.
    fleet.add("python", journal_dir=str(tmp_path / "journal-p2"))
    end = time.monotonic() + 20
    while (reader.get(item), reader.get(like)) != ("p1.1", "1"):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert not fleet.check(BOUND_MS).kinds
