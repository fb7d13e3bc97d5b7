"""Writers and readers that are killed where the caches and the database disagree."""

from __future__ import annotations

import time

import pytest
from coherence.conftest import BOUND_MS
from coherence.fleet import Fleet

# Whose value is in the database afterwards is not the writer's to say: for two of them it is that of the killed write.
POINTS = {
    "write.fenced": False,
    "write.before_commit": False,
    "write.after_commit": True,
    "write.after_unfence": True,
}


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_dies_at_its_point(fleet: Fleet, point: str) -> None:
    one, two = fleet.add("python", "node")
    [writer] = fleet.add("python", crash=f"{point}:1")
    key = fleet.ITEMS[0]
    assert (one.get(key), two.get(key), writer.get(key)) == ("first",) * 3
    dying = writer.start("store", key=key)
    assert writer.killed()
    with pytest.raises(EOFError):
        dying.result(60)
    # Nobody was told; still nobody serves what the database no longer has.
    time.sleep(BOUND_MS / 1_000)
    expected = "c.1" if POINTS[point] else "first"
    assert (one.get(key), two.get(key)) == (expected,) * 2
    assert {token for key, token in fleet.database.versions()} >= {expected}
    # The fence of the dead one is in nobody's way.
    token = one.write("store", key)
    assert two.get(key) == token
    assert not fleet.check(BOUND_MS).kinds


@pytest.mark.parametrize("point", POINTS)
def test_writers_die_while_all_read_and_write(fleet: Fleet, point: str, soak: bool) -> None:
    survivors = fleet.add("python", "node")
    with fleet.running(survivors, seed=3):
        for n in range(25 if soak else 1):
            [writer] = fleet.add("python", crash=f"{point}:{1 + n * 3 % 7}", queue={"worker": False})
            with fleet.running([writer], seed=n, writes=1.0):
                assert writer.killed()
        time.sleep(1.2 * BOUND_MS / 1_000)
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
