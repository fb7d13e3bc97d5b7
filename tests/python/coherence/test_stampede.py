"""A cold key that everybody wants at once."""

from __future__ import annotations

import time

from coherence.conftest import BOUND_MS
from coherence.fleet import Fleet

READS = 10_000


def test_ten_thousand_reads_ask_the_source_once(fleet: Fleet) -> None:
    processes = fleet.add("python", "node", "python", lease_wait="30s")
    database, key = fleet.database, fleet.SLOW[0]
    count = READS // 3 + 1
    # Nobody has the answer before all have asked: each process loads once, and the others of it join.
    with database.gate("after read", key):
        crowds = [process.start("crowd", key=key, count=count) for process in processes]
        for process in processes:
            while process.ask("stats", names=["joined_loads"])["joined_loads"] < count - 1:
                time.sleep(0.01)
    assert [crowd.result(60)["tokens"] for crowd in crowds] == [["first"]] * 3
    assert database.reads() == 1
    assert not fleet.check(BOUND_MS).kinds
