"""Finding the server programs of this machine, newest first, and installing them when they are missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import debian
from devservers.report import Failure, say

OLDEST_POSTGRES = 12
OLDEST_REDIS = 6


@dataclass(frozen=True)
class Postgres:
    """A folder that holds `postgres`, `initdb` and `pg_ctl` of one version."""

    folder: Path
    major: int


@dataclass(frozen=True)
class Redis:
    server: Path
    version: str


Found = TypeVar("Found", Postgres, Redis)


def find_postgres(major: int | None = None) -> Postgres | None:
    """The newest PostgreSQL that is new enough, or the one of that major version."""
    found = [p for p in map(_postgres_in, _postgres_folders()) if p is not None and p.major >= OLDEST_POSTGRES]
    fitting = [p for p in found if major is None or p.major == major]
    return max(fitting, key=lambda p: p.major, default=None)


def find_redis() -> Redis | None:
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/bin:/usr/bin")
        if path is None:
            continue
        match = re.search(r"v=(\d+)(\.[\d.]+)?", _version_text(Path(path)))
        if match and int(match[1]) >= OLDEST_REDIS:
            return Redis(Path(path), f"{name.split('-')[0]} {match[1]}{match[2] or ''}")
    return None


def find_or_install(find: Callable[[], Found | None], package: str) -> Found | None:
    """None if the machine has no such program and we may not install it."""
    found = find()
    if found is not None or not debian.may_install():
        return found
    say(f"no usable {package} on this machine: installing the Debian package")
    if not debian.install([package]):
        raise Failure(
            f"apt-get could not install {package}; what it said is above. By hand: {debian.by_hand([package])}"
        )
    found = find()
    if found is None:
        raise Failure(f"the Debian package {package} is installed, but its server is too old or not where it should be")
    return found


def _postgres_folders() -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path:
        # A link on PATH leads to the folder that also has initdb and pg_ctl.
        yield Path(on_path).resolve().parent
    for pattern in ("lib/postgresql/*/bin", "pgsql-*/bin"):
        yield from Path("/usr").glob(pattern)


def _postgres_in(folder: Path) -> Postgres | None:
    if not all((folder / name).exists() for name in ("postgres", "initdb", "pg_ctl")):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", _version_text(folder / "postgres"))
    return Postgres(folder, int(match[1])) if match else None


def _version_text(program: Path) -> str:
    try:
        return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
