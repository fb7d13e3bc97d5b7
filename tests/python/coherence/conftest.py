"""A run: a database of its own, a Redis of its own, and the processes that the test starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from coherence.database import Database
from coherence.fleet import Fleet
from coherence.proxy import Proxy
from coherence.redis_server import RedisServer

import zmsg.sync

BOUND_MS = 1_000
"""The coherence bound of a run."""


_SOAK = bool(os.environ.get("ZMSG_SOAK"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _SOAK and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(3_600))


@pytest.fixture
def soak() -> bool:
    """Whether there is time for long runs."""
    return _SOAK


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis to be harmed."""
    server = RedisServer(tmp_path / "redis")
    yield server
    server.close()


@pytest.fixture
def redis_proxy(redis: RedisServer) -> Iterator[Proxy]:
    """A way to it that can be closed."""
    proxy = Proxy(("127.0.0.1", redis.port))
    yield proxy
    proxy.close()


@pytest.fixture
def database(servers: dict[str, Any]) -> Iterator[Database]:
    """The test's own view of the rows."""
    # No worker: what it ran for the others it could tell no Redis.
    alone = {"redis_addr": None, "queue": {"worker": False}, "pool_size": 3, "journal": "memory"}
    with zmsg.sync.Zmsg.open(servers, **alone) as zm:
        yield Database(zm)


@pytest.fixture
def postgres_proxy(servers: dict[str, Any]) -> Iterator[Proxy]:
    """A way to PostgreSQL that can be closed."""
    address = urlsplit(servers["postgres_dsn"])
    proxy = Proxy((address.hostname or "127.0.0.1", address.port or 5432))
    yield proxy
    proxy.close()


def through(dsn: str, proxy: Proxy) -> str:
    """The same database by way of the proxy."""
    address = urlsplit(dsn)
    login = address.netloc.rpartition("@")[0]
    return urlunsplit(address._replace(netloc=f"{login}@127.0.0.1:{proxy.port}"))


@pytest.fixture
def fleet(servers: dict[str, Any], redis: RedisServer, database: Database, tmp_path: Path) -> Iterator[Fleet]:
    """No process yet."""
    config = {
        **servers,
        "redis_addr": f"127.0.0.1:{redis.port}",
        "coherence_bound": f"{BOUND_MS}ms",
        "batch_interval": "100ms",
        "pool_size": 4,
    }
    fleet = Fleet(config, database, tmp_path)
    yield fleet
    fleet.end()
