"""The checker finds what it is there for: histories with one planted violation each, and sound ones without any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from coherence.checker import Checker, Report
from coherence.history import History

MS = 1_000_000
BOUND_MS = 1_000
VERSIONS = {("item_0", "first"): 0, ("item_0", "a.1"): 1, ("item_0", "b.1"): 2}
REMOVED = {**VERSIONS, ("item_0", "-a.2"): 3, ("item_0", "a.3"): 4}
TWICE = {**REMOVED, ("item_0", "-b.2"): 5}
Line = tuple[Any, ...]


def read(begun: int, token: str | None, *, took: int = 1, key: str = "item_0") -> Line:
    """A read at a time in milliseconds."""
    return ("r", begun * MS, (begun + took) * MS, "get", [[key, token]])


def write(begun: int, token: str, outcome: str = "ok", *, key: str = "item_0", life: int | None = None) -> Line:
    """A write that takes a millisecond."""
    line = ("w", begun * MS, (begun + 1) * MS, "store", key, token, outcome)
    return line if life is None else (*line, life)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def check(folder: Path, versions: dict[tuple[str, str], int] = VERSIONS, **lines: list[Line]) -> Report:
    files = {}
    for process, told in lines.items():
        files[process] = folder / f"{process}.jsonl"
        files[process].write_text("".join(json.dumps(line) + "\n" for line in told))
    return Checker(History(files), versions, BOUND_MS).check()


def found(report: Report) -> dict[str, int]:
    return dict(report.kinds)


def test_what_is_in_order_passes(folder: Path) -> None:
    report = check(
        folder,
        a=[read(0, "first"), write(10, "a.1"), read(20, "a.1"), read(2_000, "b.1")],
        b=[read(5, "first"), read(500, "first"), read(900, "a.1"), write(1_000, "b.1")],
    )
    assert found(report) == {}
    assert (report.reads, report.acknowledged) == (6, 2)


def test_a_version_that_goes_back_is_found(folder: Path) -> None:
    report = check(folder, a=[read(0, "a.1"), read(10, "first")])
    assert found(report) == {"went back": 1}
    assert report.violations[0].text.endswith("gave version 0 (first) where 1 (a.1) was due")


def test_reads_that_overlap_come_in_any_order(folder: Path) -> None:
    # The first one began before the second one ended.
    assert found(check(folder, a=[read(5, "a.1"), read(2, "first", took=10)])) == {}
    assert found(check(folder, a=[read(5, "a.1", took=10), read(15, "first")])) == {}
    assert found(check(folder, a=[read(5, "a.1", took=10), read(16, "first")])) == {"went back": 1}


def test_another_process_may_lag_but_not_past_the_bound(folder: Path) -> None:
    acknowledged = [write(0, "a.1")]
    at_the_bound = check(folder, a=acknowledged, b=[read(1 + BOUND_MS, "first")])
    assert (found(at_the_bound), at_the_bound.stale_ms(1)) == ({}, BOUND_MS)
    assert found(check(folder, a=acknowledged, b=[read(2 + BOUND_MS, "first")])) == {"stale": 1}
    # The writer itself has no privilege in this check.
    assert found(check(folder, a=[*acknowledged, read(2 + BOUND_MS, "first")])) == {"stale": 1}


def test_only_what_was_acknowledged_is_due(folder: Path) -> None:
    assert found(check(folder, a=[write(0, "a.1", "unknown")], b=[read(5_000, "first")])) == {}


def test_what_one_process_saw_the_others_see_past_the_bound(folder: Path) -> None:
    # Its writer was killed before it could be acknowledged.
    assert found(check(folder, a=[read(0, "a.1")], b=[read(900, "first")])) == {}
    assert found(check(folder, a=[read(0, "a.1")], b=[read(1_100, "first")])) == {"behind": 1}


def test_the_value_of_an_aborted_write_is_found(folder: Path) -> None:
    aborted = write(0, "a.9", "aborted")
    assert found(check(folder, a=[aborted, read(5, "first")])) == {}
    assert found(check(folder, a=[aborted], b=[read(5, "a.9")])) == {"phantom": 1}
    assert found(check(folder, a=[write(0, "a.1", "aborted")])) == {"phantom": 1}


def test_an_acknowledged_write_that_the_database_does_not_have_is_found(folder: Path) -> None:
    assert found(check(folder, a=[write(0, "a.9")])) == {"lost": 1}


def test_a_row_that_is_there_is_not_absent(folder: Path) -> None:
    assert found(check(folder, a=[read(0, None)])) == {"phantom": 1}
    # What only the caches have may be evicted.
    assert found(check(folder, a=[write(0, "1", key="note_a"), read(5_000, None, key="note_a")])) == {}


def test_a_removed_row_is_absent_and_comes_back(folder: Path) -> None:
    history = [write(0, "b.1"), write(10, "-a.2"), read(20, None), write(30, "a.3"), read(40, "a.3")]
    report = check(folder, REMOVED, a=history, b=[read(20, "b.1"), read(500, None), read(2_000, "a.3")])
    assert (found(report), report.absent) == ({}, 2)


def test_an_absence_that_an_acknowledged_row_has_ended_is_found(folder: Path) -> None:
    history = [write(0, "-a.2"), write(10, "a.3")]
    assert found(check(folder, REMOVED, a=history, b=[read(11 + BOUND_MS, None)])) == {}
    assert found(check(folder, REMOVED, a=history, b=[read(12 + BOUND_MS, None)])) == {"stale": 1}
    # A later removal that had begun may be what it saw; one that began after it may not.
    assert found(check(folder, TWICE, a=[*history, write(5_000, "-b.2")], b=[read(5_000, None)])) == {}
    assert found(check(folder, TWICE, a=[*history, write(5_000, "-b.2")], b=[read(4_000, None)])) == {"stale": 1}
    # Of one whose process was killed nobody knows when it began.
    assert found(check(folder, TWICE, a=history, b=[read(5_000, None)])) == {}


def test_a_row_that_is_read_past_its_removal_is_found(folder: Path) -> None:
    assert found(check(folder, REMOVED, a=[write(0, "-a.2")], b=[read(1_500, "b.1")])) == {"stale": 1}
    assert found(check(folder, REMOVED, a=[write(0, "-a.2"), read(10, "-a.2")])) == {"phantom": 1}


def test_an_absence_before_any_removal_is_found(folder: Path) -> None:
    assert found(check(folder, REMOVED, a=[read(0, None), write(10, "-a.2")])) == {"phantom": 1}


def test_an_absence_goes_back_and_comes_behind_as_a_value_does(folder: Path) -> None:
    writes = [write(0, "-a.2", "unknown"), write(10, "a.3", "unknown"), write(3_000, "-b.2", "unknown")]
    assert found(check(folder, TWICE, a=writes, b=[read(20, "a.3"), read(30, None)])) == {"went back": 1}
    assert found(check(folder, TWICE, a=writes, b=[read(20, None), read(30, "b.1")])) == {"went back": 1}
    assert found(check(folder, TWICE, a=writes, b=[read(20, "a.3")], c=[read(2_000, None)])) == {"behind": 1}
    # After the value that it saw, the absence can only be the second one.
    seen = [read(20, "a.3"), read(3_010, None)]
    assert found(check(folder, TWICE, a=writes, b=[*seen, read(3_020, "a.3")])) == {"went back": 1}
    # Where it may be either, it counts as the first.
    assert found(check(folder, TWICE, a=writes, b=[read(3_010, None), read(3_020, "a.3")])) == {}


def test_a_value_that_outlives_its_life_is_found(folder: Path) -> None:
    flash = [write(0, "1", key="flash_a", life=100)]
    assert found(check(folder, a=flash, b=[read(106 + BOUND_MS, "1", key="flash_a")])) == {}
    assert found(check(folder, a=flash, b=[read(107 + BOUND_MS, "1", key="flash_a")])) == {"outlived": 1}
    unknown = [write(0, "1", "unknown", key="flash_a", life=100)]
    assert found(check(folder, a=unknown, b=[read(5_000, "1", key="flash_a")])) == {}


def test_keys_with_one_writer_count_their_versions(folder: Path) -> None:
    history = [write(0, "9", key="like_a"), write(10, "10", key="like_a")]
    assert found(check(folder, a=history, b=[read(5_000, "10", key="like_a")])) == {}
    assert found(check(folder, a=history, b=[read(5_000, "9", key="like_a")])) == {"stale": 1}


def test_a_torn_last_line_is_passed_over(folder: Path) -> None:
    path = folder / "a.jsonl"
    path.write_text(json.dumps(read(0, "first")) + '\n["r",1,')
    assert Checker(History({"a": path}), VERSIONS, BOUND_MS).check().reads == 1
