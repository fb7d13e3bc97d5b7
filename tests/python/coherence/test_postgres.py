"""A PostgreSQL that ends sessions, or answers late."""

from __future__ import annotations

import time
from typing import Any

from coherence.conftest import BOUND_MS, through
from coherence.fleet import Fleet
from coherence.proxy import Proxy

STALL = 5
"""Seconds, as a failover or a full disk cache takes."""


def test_sessions_end_while_all_read_and_write(fleet: Fleet, soak: bool) -> None:
    processes = fleet.add("python", "node", "python")
    with fleet.running(processes, seed=8):
        for _ in range(60 if soak else 4):
            time.sleep(0.5)
            fleet.database.end_sessions()
        time.sleep(1.1 * BOUND_MS / 1_000)
    assert not fleet.check(BOUND_MS).kinds


def test_the_database_stalls_while_all_read_and_write(
    fleet: Fleet, servers: dict[str, Any], postgres_proxy: Proxy, soak: bool
) -> None:
    dsn = through(servers["postgres_dsn"], postgres_proxy)
    processes = fleet.add("python", "node", "python", postgres_dsn=dsn)
    with fleet.running(processes, seed=9):
        for n in range(10 if soak else 1):
            time.sleep(0.5)
            postgres_proxy.hold()
            time.sleep(STALL)
            if n % 2:
                # COMMITs whose answers are lost.
                postgres_proxy.cut()
            postgres_proxy.release()
        time.sleep(1.1 * BOUND_MS / 1_000)
    assert not fleet.check(BOUND_MS).kinds
