"""What calls give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from ._native import Receipt as NativeReceipt
from ._ports import wait
from .config import Span

__all__ = [
    "BloomFigures",
    "CellValue",
    "DeadLetter",
    "ExecResult",
    "FlushReport",
    "Health",
    "Interval",
    "MigrationReport",
    "Receipt",
    "RetryReport",
    "Row",
    "Stats",
    "TierHealth",
]

Row = dict[str, Any]
"""One result row, by column name."""
CellValue: TypeAlias = int | float | Decimal | list[Any] | dict[str, Any] | None
"""The value of a builder's cell: a counter's number, a slice's list, a map's dict."""

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


class Receipt:
    """What an accepted write gives back."""

    __slots__ = ("_receipt",)
    __module__ = "zmsg"

    def __init__(self, receipt: NativeReceipt) -> None:
        self._receipt = receipt

    @property
    def op_id(self) -> str:
        """Identifies the operation in logs, errors and dead letters."""
        return self._receipt.op_id

    @property
    def rows_affected(self) -> int:
        """Rows that the tasks changed, summed; 0 for what is applied later."""
        return self._receipt.rows_affected

    @property
    def rows(self) -> list[Row]:
        """RETURNING rows of all tasks, in order; the same list each time."""
        return self._receipt.rows

    @property
    def durability(self) -> str:
        """What the write survives: ``"postgres"`` once its COMMIT was seen; ``"journal"``, ``"journal_fsync"`` or
        ``"memory"``, as the setting ``journal`` says, for an aggregated write; ``"redis_aof"`` or ``"redis"``, as the
        queue's Redis is set up, for a delayed one."""
        return self._receipt.durability

    @property
    def cached(self) -> bool:
        """Whether the caches took the value (or the drop) too; a write never fails because the cache did."""
        return self._receipt.cached

    async def done(self, *, timeout: Span | None = None) -> None:
        """Returns when the effect is committed, or raises what became of it.

        Without a ``timeout`` it waits as long as that takes.

        Raises:
            TimeoutError: the write was not committed in time. It stays where it is and will be applied.
            StoreError: the database refused what had been accepted; it is a dead letter now.
            QueueError: a delayed write was cancelled, replaced by a later one (``coalesce``), or Redis has lost it.
            ClosedError: the engine was closed before. A delayed write stays in the queue, and any worker runs it.
        """
        if timeout is not None or self.durability != "postgres":
            await wait(self._receipt.done, timeout)

    def __repr__(self) -> str:
        shown = f"op_id={self.op_id!r} durability={self.durability!r} cached={self.cached}"
        return f"<{type(self).__module__}.{type(self).__name__} {shown}>"


@dataclass(frozen=True, slots=True)
class FlushReport:
    """What a flush did."""

    operations: int
    """Operations and statements that were accepted and are now applied, dead ones included."""
    rows: int
    """Rows changed by composed operations, and statements of the caller that ran."""
    statements: int
    """Statements sent that change data."""
    zero_row_updates: int
    """Composed changes that found no row: they are lost, as an UPDATE of a missing row is."""
    dead: int
    """Operations that the database refused; see :meth:`zmsg.Zmsg.dead_letters`."""
    duration_ms: float
    """Milliseconds from the freeze to the end."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An accepted operation that the database refused."""

    id: int
    """For ``retry_dead``, ``drop_dead`` and ``after``. Later letters have higher ones."""
    path: str
    """Which way it came: ``"batch"`` or ``"queue"``."""
    op_id: str
    """As its receipt had it."""
    key: str | None
    """Its cache key, if it had one."""
    statement: str
    """What would run, without its parameters."""
    sqlstate: str | None
    """Why the database refused."""
    message: str
    """The same in words."""
    dead_at: str
    """When, as PostgreSQL writes a ``timestamptz``."""


@dataclass(frozen=True, slots=True)
class RetryReport:
    """What running all dead letters again did."""

    retried: int
    """Letters that had their effect and are gone."""
    refused: int
    """Letters that the database refused again; they stay."""


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
class BloomFigures:
    """The Bloom filter of one source."""

    pattern: str
    """The pattern of the source."""
    state: Literal["building", "serving", "open", "lost"]
    """``"building"``: there is none yet, every key may exist. ``"serving"``: it answers. ``"open"``: a writer could not
    reach it, every key may exist until it is built anew. ``"lost"``: Redis does not have it as it should be; it is
    built anew."""
    generation: int
    """Counts the times that it was built."""
    capacity: int
    """Keys that it is made for."""
    fill: float
    """The part of its bits that are set, as last seen."""
    error_rate: float
    """Of keys that do not exist, the part that is "maybe", as the fill says."""
    noes: int
    """Questions that this process answered with "no"."""


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
    fills_refused: int
    """Values and absences of a source that were not cached: the key was being written, or another process was
    loading it."""
    lease_waits: int
    """Reads that waited for another process's load of the same key."""
    invalidations_sent: int
    """Changes of a key that the other processes were told of."""
    invalidations_received: int
    """Keys of which other processes said that they have changed."""
    bus_losses: int
    """Times that the connection on which this process hears the others was lost."""
    outbox_relayed: int
    """Keys that this process dropped for transactions which had been committed while Redis was away."""
    coherent: bool
    """Whether the other processes are heard, so that the caches are read."""
    bus_p50_ms: float
    """From the sending of a message on the bus to its coming back, in milliseconds: half of them took no longer."""
    bus_p999_ms: float
    """The same for 999 of a thousand."""
    l2_p50_ms: float
    """How long Redis took to answer a read, in milliseconds: half of them took no longer. Quantiles are right to a
    quarter."""
    l2_p99_ms: float
    """The same for 99 of a hundred."""
    source_p50_ms: float
    """How long PostgreSQL took to answer a source query, in milliseconds: half of them took no longer."""
    source_p99_ms: float
    """The same for 99 of a hundred."""
    lease_wait_p50_ms: float
    """How long a read waited for another process's load of its key, in milliseconds: half of them waited no longer."""
    lease_wait_p99_ms: float
    """The same for 99 of a hundred."""
    stale_served: int
    """Reads that were given the last good value: the source or loader failed, or took longer than its soft timeout."""
    refreshes: int
    """Values that were loaded anew before they ended."""
    caller_loads: int
    """Loads that callers of ``get_or_load`` ran."""
    breaker_openings: int
    """Times that a server was left alone because it had failed ``breaker_failures`` times in a row."""
    redis_breaker: str
    """Whether the cache's Redis is asked: "closed" if it is, "open" if it is left alone, "half_open" in the trial."""
    source_breaker: str
    """The same of PostgreSQL, for sources."""
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
    batch_operations: int
    """Aggregated writes that were applied, dead ones included."""
    batch_rows: int
    """Rows that they changed."""
    batch_statements: int
    """Statements that changed them."""
    flushes: int
    """Flushes that were committed."""
    flush_failures: int
    """Tries to flush that failed; the same batch was sent again."""
    flush_ms: int
    """Milliseconds that the committed flushes took, summed."""
    zero_row_updates: int
    """Aggregated changes that found no row."""
    batch_dead: int
    """Aggregated writes that the database refused; see the dead letters."""
    batch_waits: int
    """Aggregated writes that waited for room."""
    batch_overloads: int
    """Aggregated writes that were not accepted, because there was no room in time."""
    journals_adopted: int
    """Journals of ended processes that this one applied."""
    journals_refused: int
    """Journals that this process leaves alone: damaged, or of another database."""
    aggregation_ratio: float
    """Aggregated writes that were applied for each row changed; 0 before the first flush."""
    pending_cells: int
    """Distinct rows with pending aggregated writes."""
    pending_bytes: int
    """Memory of pending aggregated writes."""
    journal_bytes: int
    """Disk space of this process's journal; memory in class `memory`."""
    oldest_pending_ms: int
    """Age of the oldest pending aggregated write in milliseconds."""
    last_flush_ms: int
    """Duration of the last committed flush in milliseconds."""
    queue_scheduled: int
    """Delayed writes whose time is still to come. These figures of the queue are of all processes, and a second old at
    most while this process uses it."""
    queue_due: int
    """Delayed writes that could run now."""
    queue_waiting: int
    """Delayed writes in line behind an earlier one of their key."""
    queue_leased: int
    """Delayed writes that a worker has."""
    queue_oldest_due_ms: int
    """For how long the oldest due one could have run, in milliseconds."""
    queue_paused: bool
    """Whether the queue is paused."""
    queue_done: int
    """Delayed writes that had their effect, since the queue was made."""
    queue_retried: int
    """Tries of delayed writes that failed and were repeated."""
    queue_dead: int
    """Delayed writes that became dead letters."""
    queue_replaced: int
    """Delayed writes that a later one of their key replaced."""
    queue_cancelled: int
    """Delayed writes that were taken back."""
    queue_damaged: int
    """Delayed writes whose content was gone when it was their turn: somebody has been at the keys in Redis."""
    queue_losses: int
    """Times that this process found that Redis had lost accepted writes."""
    queue_p50_ms: float
    """From the time that a delayed write was due to its end, in milliseconds: half of those that this process ran took
    no longer."""
    queue_p99_ms: float
    """The same for 99 of a hundred."""
    bloom_noes: int
    """Keys that a Bloom filter said "no" to in this process, for `get`, `get_many` and `db_hit`."""
    bloom: tuple[BloomFigures, ...]
    """The Bloom filters of the declared sources."""
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


def stats_from(told: Mapping[str, Any]) -> Stats:
    """From what the engine tells as JSON."""
    return read(Stats, {**told, "bloom": tuple(read(BloomFigures, filter) for filter in told["bloom"])})


def report_from(told: Mapping[str, Any]) -> MigrationReport:
    """From what the engine tells as JSON."""
    return MigrationReport(applied=tuple(told["applied"]), skipped=tuple(told["skipped"]))


def read(kind: type[_T], told: Mapping[str, Any]) -> _T:
    """A flat dataclass from the engine's JSON object."""
    return kind(**{field.name: told[field.name] for field in fields(kind)})  # type: ignore[arg-type]
