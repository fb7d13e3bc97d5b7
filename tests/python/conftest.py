"""A database and a Redis namespace for each test, on the servers of ZMSG_POSTGRES_DSN and ZMSG_REDIS_ADDR.

A missing server fails the run: nothing here is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

import zmsg
import zmsg.sync

_NEEDED = ("ZMSG_POSTGRES_DSN", "ZMSG_REDIS_ADDR")


def pytest_collection_finish(session: pytest.Session) -> None:
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing and any("servers" in getattr(item, "fixturenames", ()) for item in session.items):
        raise pytest.UsageError(
            f"{' and '.join(missing)} must name real servers; `make test-python` starts them, or run `make up`"
        )


@pytest.fixture(scope="session")
def admin() -> Iterator[zmsg.sync.Zmsg]:
    """Makes databases; it uses none of the engine's own tables."""
    with zmsg.sync.Zmsg.open(redis_addr=None, pool_size=2, journal="memory") as zm:
        yield zm


@pytest.fixture
def servers(admin: zmsg.sync.Zmsg, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The configuration of an empty database, an empty Redis namespace and a folder for journals."""
    name = f"zmsg_test_{uuid.uuid4().hex}"
    admin.sql_exec(zmsg.sql(f"CREATE DATABASE {name}"))
    dsn = urlunsplit(urlsplit(os.environ["ZMSG_POSTGRES_DSN"])._replace(path=f"/{name}"))
    journals = str(tmp_path / "journals")
    yield {
        "postgres_dsn": dsn,
        "redis_addr": os.environ["ZMSG_REDIS_ADDR"],
        "namespace": name,
        "journal_dir": journals,
    }
    # A killed child may have left a session; DROP … WITH (FORCE) is newer than the oldest server.
    admin.query(zmsg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?", name))
    admin.sql_exec(zmsg.sql(f"DROP DATABASE {name}"))


@pytest.fixture
async def zm(servers: dict[str, Any]) -> AsyncIterator[zmsg.Zmsg]:
    """An open asyncio engine."""
    async with zmsg.Zmsg.open(servers) as zm:
        yield zm


@pytest.fixture
def blocking(servers: dict[str, Any]) -> Iterator[zmsg.sync.Zmsg]:
    """An open blocking engine."""
    with zmsg.sync.Zmsg.open(servers) as zm:
        yield zm


@pytest.fixture
def program(servers: dict[str, Any]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an interpreter of its own, with the test's servers as its environment."""

    def run(text: str, *, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **{f"ZMSG_{key.upper()}": value for key, value in servers.items()}}
        command = [sys.executable, "-X", "faulthandler", "-W", "error::ResourceWarning", "-c", text]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)

    return run
