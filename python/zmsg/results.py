"""What calls give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

__all__ = ["ExecResult", "Health", "Interval", "MigrationReport", "Receipt", "Row", "Stats", "TierHealth"]

Row = dict[str, Any]
"""One result row, by column name."""

_T = TypeVar("_T")


class Interval(NamedTuple):
    """A PostgreSQL interval that holds months, which a ``timedelta`` cannot: a month has no fixed length.

    Intervals without months come back as ``timedelta``. Also accepted as an argument of a task.
    """

    months: int
    days: int
    microseconds: int


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a statement, or a list of them, did."""

    rows_affected: int
    """Rows inserted, updated, deleted or selected, summed over the statements."""
    rows: list[Row]
    """RETURNING or SELECT rows of all statements, in order."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an accepted write gives back."""

    op_id: str
    """Identifies the operation in logs and errors."""
    rows_affected: int
    """Rows that the tasks changed, summed."""
    rows: list[Row]
    """RETURNING rows of all tasks, in order."""
    durability: str
    """What survives: ``"postgres"`` for the writes that wait for the COMMIT."""
    cached: bool
    """Whether the caches took the value (or the drop) too; a write never fails because the cache did."""

    async def done(self) -> None:
        """Returns when the effect is committed, or raises what became of it."""


@dataclass(frozen=True, slots=True)
class TierHealth:
    """Reachability of one server."""

    name: str
    """``"postgres"`` or ``"redis"``."""
    ok: bool
    """Whether it answered."""
    latency_ms: float | None
    """Round trip in milliseconds, if it answered."""
    error: str | None
    """Why not, if it did not."""


@dataclass(frozen=True, slots=True)
class Health:
    """Reachability of every server."""

    ok: bool
    """Whether all of them answered."""
    tiers: tuple[TierHealth, ...]
    """One entry per server."""


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What ``migrate`` did."""

    applied: tuple[str, ...]
    """Names that were applied now, in order."""
    skipped: tuple[str, ...]
    """Names that had been applied before."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The engine's own figures, counted since it was opened."""

    l1_hits: int
    """Reads and peeks answered by process memory, cached absences included."""
    l2_hits: int
    """Reads answered by Redis, cached absences included."""
    absent_hits: int
    """Reads answered by a cached absence in either tier."""
    misses: int
    """Reads that neither tier could answer."""
    source_loads: int
    """Source queries sent to PostgreSQL."""
    source_errors: int
    """Source queries that failed."""
    oversized_loads: int
    """Values from a source that were longer than `max_value_bytes`: given to the caller, not cached."""
    joined_loads: int
    """Reads that waited for another caller's load of the same key."""
    unsourced_misses: int
    """Misses of keys that no source covers."""
    unparsable_misses: int
    """Misses of keys that a source covers but whose parts do not parse; such keys are absent."""
    cache_fills: int
    """Values and absences that were cached after a source was read."""
    cache_writes: int
    """Values put into the caches by a write."""
    cache_drops: int
    """Keys dropped from the caches."""
    l2_errors: int
    """Redis commands that failed."""
    l2_undecodable: int
    """Redis entries that could not be understood and were treated as misses."""
    l1_evictions: int
    """Values that L1 gave up for room."""
    l1_refused: int
    """Values that L1 did not take in because their key, or one beside it, was written meanwhile."""
    l1_entries: int
    """Values and absences in L1."""
    l1_bytes: int
    """Bytes in L1, keys and overhead counted."""
    pool_size: int
    """Open PostgreSQL connections."""
    pool_idle: int
    """Open PostgreSQL connections that nobody uses."""
    pool_waiting: int
    """Callers that wait for a PostgreSQL connection."""


def health_from(told: Mapping[str, Any]) -> Health:
    """From what the engine tells as JSON."""
    return Health(ok=told["ok"], tiers=tuple(read(TierHealth, tier) for tier in told["tiers"]))


def report_from(told: Mapping[str, Any]) -> MigrationReport:
    """From what the engine tells as JSON."""
    return MigrationReport(applied=tuple(told["applied"]), skipped=tuple(told["skipped"]))


def read(kind: type[_T], told: Mapping[str, Any]) -> _T:
    """A flat dataclass from the engine's JSON object."""
    return kind(**{field.name: told[field.name] for field in fields(kind)})  # type: ignore[arg-type]
