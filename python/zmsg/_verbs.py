"""The verbs, written once.

Both doors are made from this class. :class:`zmsg.Zmsg` awaits a future of its event loop where a verb waits;
:class:`zmsg.sync.Zmsg` blocks there, so that its coroutines end at their first step (see ``sync.py``). A verb therefore
awaits nothing but ``_wait``, ``_load`` and verbs of this class by name (``Verbs.get(self, …)``). ``sync.pyi`` is
generated from this file by ``tools/sync_stub.py``, and a test holds it to that.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, overload

from ._loading import key_maker
from ._locks import Lock, Locking
from ._native import Counter, Engine, Load, Map, Slice, Task
from ._native import Migrations as NativeMigrations
from .config import Span
from .errors import TaskError
from .results import (
    CellValue,
    DeadLetter,
    ExecResult,
    FlushReport,
    Health,
    MigrationReport,
    Receipt,
    RetryReport,
    Row,
    Stats,
    health_from,
    read,
    report_from,
    stats_from,
)

Data: TypeAlias = bytes | bytearray | memoryview | str | Mapping[str, Any] | Sequence[Any] | int | float | bool
"""What the caches take: bytes, text (UTF-8), or anything JSON-serialisable."""
Runnable: TypeAlias = Task | Counter | Slice | Map
"""A task, or a finished builder of one."""
Tasks: TypeAlias = Runnable | Sequence[Runnable]
"""One task (or finished builder), or several that run in one transaction."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Verbs:
    """What every engine can do."""

    __slots__ = ("__weakref__", "_engine", "_lookup", "_periodic_now")
    _receipt: type[Receipt] = Receipt
    _migrations: type[Migrations]
    _lock: type[Lock] = Lock
    _locking: type[Locking] = Locking

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lookup = engine.lookup
        self._periodic_now = engine.periodic_now

    async def _wait(self, method: Callable[..., Any], *arguments: Any) -> Any:
        raise NotImplementedError

    # ---- reading --------------------------------------------------------------------------------------------------

    @overload
    async def get(
        self,
        key: str,
        default: None = None,
        *,
        required: Literal[False] = False,
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> bytes | None: ...
    @overload
    async def get(
        self,
        key: str,
        default: _T,
        *,
        required: Literal[False] = False,
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> bytes | _T: ...
    @overload
    async def get(
        self,
        key: str,
        default: object = None,
        *,
        required: Literal[True],
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> bytes: ...
    async def get(
        self,
        key: str,
        default: Any = None,
        *,
        required: bool = False,
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> Any:
        """The bytes under ``key``: from memory, Redis, or the source declared for it; ``default`` if there are none.

        ``soft_timeout`` overrides the source's for this call, 0 is as long as it takes. With ``stale=False`` the call
        is never given a last good value, be it from memory: it waits for the source, and raises if that fails. ``None``
        and ``True`` are as the source says, which keeps none without a ``stale_ttl``.

        Raises:
            NotFoundError: there are none and ``required`` is set.
            StoreError, TimeoutError: the source could not be read.
        """
        value = self._lookup(key) if stale is None else ...
        if value is ... or (value is None and required):
            method = self._engine.get_required if required else self._engine.get
            value = await self._wait(method, key, (stale, soft_timeout), timeout)
        return default if value is None else value

    @overload
    async def get_text(
        self,
        key: str,
        default: None = None,
        *,
        required: Literal[False] = False,
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> str | None: ...
    @overload
    async def get_text(
        self,
        key: str,
        default: _T,
        *,
        required: Literal[False] = False,
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> str | _T: ...
    @overload
    async def get_text(
        self,
        key: str,
        default: object = None,
        *,
        required: Literal[True],
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> str: ...
    async def get_text(
        self,
        key: str,
        default: Any = None,
        *,
        required: bool = False,
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> Any:
        """As :meth:`get`, decoded as UTF-8.

        Raises:
            TaskError: the bytes are not UTF-8.
        """
        value = await Verbs.get(  # type: ignore[call-overload, misc]
            self, key, required=required, stale=stale, soft_timeout=soft_timeout, timeout=timeout
        )
        if value is None:
            return default
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise TaskError(f"the value of {key[:80]!r} is not UTF-8 text; read it with get()") from error

    async def get_json(
        self,
        key: str,
        default: Any = None,
        *,
        required: bool = False,
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> Any:
        """As :meth:`get`, decoded as JSON.

        Raises:
            TaskError: the bytes are not JSON.
        """
        value = await Verbs.get(  # type: ignore[call-overload, misc]
            self, key, required=required, stale=stale, soft_timeout=soft_timeout, timeout=timeout
        )
        if value is None:
            return default
        try:
            return json.loads(value)
        except ValueError:
            raise TaskError(f"the value of {key[:80]!r} is not JSON; read it with get()") from None

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[Data | None]],
        *,
        ttl: Span | None = None,
        absent_ttl: Span | None = None,
        stale_ttl: Span | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> bytes | None:
        """The bytes under ``key``; if nobody has them, what ``loader()`` gives, which is cached.

        Of all calls for a key at the same time, in all processes on one Redis, one runs its loader, and the others get
        what it gave. ``None`` is an absence, and cached as one (``absent_ttl``). Nothing is cached if the key is
        written or dropped while the loader runs, be it by the loader itself. A loader must not load its own key.

        With ``stale_ttl``, or the setting of that name, the last good value is given when the loader raises, or takes
        longer than ``soft_timeout``; it goes on then. ``timeout`` is for the wait for another call's loader, not for
        one's own.

        Raises:
            what the loader raised, in the call that ran it; a cancelled one leaves the load to one of those who wait.
            StoreError: the loader of another call raised; the message says what. It is not cached.
            TaskError: the loader is no function, or gave something that cannot be cached.
        """
        if not callable(loader):
            raise TaskError(f"the loader is a function without arguments, not {type(loader).__name__}")
        value = self._lookup(key)
        if value is ...:
            life = (ttl, absent_ttl, stale_ttl, soft_timeout)
            value, load = await self._wait(self._engine.get_or_begin, key, life, timeout)
            if value is ...:
                return await self._load(load, loader)  # type: ignore[no-any-return]
            if load is not None:
                self._renew(load, loader)
        return value  # type: ignore[no-any-return]

    async def _load(self, load: Load, loader: Callable[[], Any]) -> Any:
        raise NotImplementedError

    def _renew(self, load: Load, loader: Callable[[], Any]) -> None:
        raise NotImplementedError

    @overload
    def cached(
        self,
        pattern: str,
        *,
        decode: None = None,
        ttl: Span | None = None,
        absent_ttl: Span | None = None,
        stale_ttl: Span | None = None,
        soft_timeout: Span | None = None,
    ) -> Callable[[Callable[_P, Awaitable[Data | None]]], Callable[_P, Awaitable[bytes | None]]]: ...
    @overload
    def cached(
        self,
        pattern: str,
        *,
        decode: Callable[[bytes], _T],
        ttl: Span | None = None,
        absent_ttl: Span | None = None,
        stale_ttl: Span | None = None,
        soft_timeout: Span | None = None,
    ) -> Callable[[Callable[_P, Awaitable[Data | None]]], Callable[_P, Awaitable[_T | None]]]: ...
    def cached(self, pattern: str, *, decode: Callable[[bytes], Any] | None = None, **life: Any) -> Any:
        """Puts :meth:`get_or_load` around a function: ``@zm.cached("feed:{id}", ttl="10m")``.

        The key is ``pattern`` with the call's arguments by name. Calls give bytes, as ``get`` does, or what ``decode``
        (``json.loads``, say) makes of them, whether the function ran or not; ``None`` for an absence.
        """

        def around(function: Callable[..., Any]) -> Callable[..., Any]:
            key_of = key_maker(pattern, function)

            @functools.wraps(function)
            async def call(*arguments: Any, **options: Any) -> Any:
                key = key_of(*arguments, **options)
                value = await Verbs.get_or_load(self, key, lambda: function(*arguments, **options), **life)
                return value if value is None or decode is None else decode(value)

            return self._as_call(call)

        return around

    @staticmethod
    def _as_call(call: Callable[..., Any]) -> Callable[..., Any]:
        return call

    async def get_many(
        self,
        keys: Iterable[str],
        *,
        stale: bool | None = None,
        soft_timeout: Span | None = None,
        timeout: Span | None = None,
    ) -> dict[str, bytes]:
        """The keys that are there, with their bytes, in one trip per tier; absent keys are omitted.

        ``stale`` and ``soft_timeout`` as in :meth:`get`.
        """
        found: dict[str, bytes] = await self._wait(self._engine.get_many, keys, (stale, soft_timeout), timeout)
        return found

    def peek(self, key: str) -> bytes | None:
        """The bytes under ``key`` if process memory has them right now. No I/O."""
        return self._engine.peek(key)

    # ---- writing --------------------------------------------------------------------------------------------------

    async def cache_only(
        self,
        key: str,
        data: Data,
        *,
        ttl: Span | None = None,
        tags: Iterable[str] | None = None,
        timeout: Span | None = None,
    ) -> None:
        """Puts ``data`` into the caches only. ``ttl=None`` is ``default_ttl``, ``"never"`` has no expiry.

        ``tags`` are names under which :meth:`invalidate_tag` drops the value along with others, at most 64.
        """
        await self._wait(self._engine.cache_only, key, data, ttl, tags, timeout)

    async def cache_and_store(
        self,
        key: str | None,
        data: Data | None,
        task: Tasks,
        *,
        ttl: Span | None = None,
        invalidates: Iterable[str] | None = None,
        tags: Iterable[str] | None = None,
        bloom_keys: Iterable[str] | None = None,
        timeout: Span | None = None,
    ) -> Receipt:
        """Runs the task (a list in one transaction), then caches ``data`` under ``key``, after the COMMIT.

        ``key=None`` concerns no key, ``data=None`` leaves the cached value to be invalidated. ``invalidates`` names
        further keys that the task changes, ``bloom_keys`` further keys of rows that it makes, for the Bloom filters of
        their families; both are dropped from the caches. By ``tags`` :meth:`invalidate_tag` drops the value along with
        others. A failed statement leaves no trace in any cache; a failed cache is told by ``receipt.cached`` and never
        raised.
        """
        method = self._engine.cache_and_store
        return self._receipt(await self._wait(method, key, data, task, ttl, invalidates, tags, bloom_keys, timeout))

    async def cache_and_periodic_store(
        self,
        key: str | None,
        data: Data | None,
        task: Tasks,
        *,
        ttl: Span | None = None,
        invalidates: Iterable[str] | None = None,
        tags: Iterable[str] | None = None,
        bloom_keys: Iterable[str] | None = None,
        timeout: Span | None = None,
    ) -> Receipt:
        """Accepts the task for the next flush, and caches ``data`` under ``key`` at once.

        Operations of builders on one cell are merged: 500 times ``inc(1)`` become one ``+ 500``. Without data the
        caches are left as they are until the flush; after its COMMIT the key is dropped, unless the caches still hold
        the value of the last operation on it. A list of tasks is accepted and applied as one.

        Raises:
            TaskError: the task cannot be aggregated: it reads, or has RETURNING, or is a template.
            OverloadedError: there was no room within ``overload_timeout``; nothing was accepted.
        """
        if data is None and ttl is None and timeout is None:
            receipt = self._periodic_now(key, task, invalidates, bloom_keys)
            if receipt is not None:
                return self._receipt(receipt)
        method = self._engine.cache_and_periodic_store
        return self._receipt(await self._wait(method, key, data, task, ttl, invalidates, tags, bloom_keys, timeout))

    async def cache_and_delay_store(
        self,
        key: str | None,
        data: Data | None,
        task: Tasks,
        *,
        ttl: Span | None = None,
        delay: Span | None = None,
        op_id: str | None = None,
        coalesce: bool = False,
        task_timeout: Span | None = None,
        invalidates: Iterable[str] | None = None,
        tags: Iterable[str] | None = None,
        bloom_keys: Iterable[str] | None = None,
        timeout: Span | None = None,
    ) -> Receipt:
        """Accepts the task for the queue in Redis, and caches ``data`` under ``key`` at once.

        It runs after ``delay`` (0 is at once, ``None`` the setting ``queue.task_delay``), once, in whichever process
        has a worker; tasks of one key run in the order in which they were accepted. Without data the caches are left as
        they are until then; after the COMMIT the key is dropped, unless they hold the value of this write or of a later
        one.

        ``op_id`` names the operation: a second call with the name finds the first, and there is one effect. With
        ``coalesce`` it takes the place of the last waiting write of its key that had it too. ``task_timeout`` is for
        one try (the setting ``queue.task_timeout``), ``timeout`` for the acceptance.

        Raises:
            TaskError: the task cannot run later: it reads, or has RETURNING, or is a template; or an option is refused.
            QueueError: Redis did not accept it, or nobody knows: a call with the same ``op_id`` finds out.
        """
        options = (ttl, invalidates, tags, bloom_keys, delay, op_id, coalesce, task_timeout)
        method = self._engine.cache_and_delay_store
        return self._receipt(await self._wait(method, key, data, task, options, timeout))

    async def del_delay_store(
        self,
        key: str | None,
        task: Tasks,
        *,
        delay: Span | None = None,
        op_id: str | None = None,
        coalesce: bool = False,
        task_timeout: Span | None = None,
        invalidates: Iterable[str] | None = None,
        bloom_keys: Iterable[str] | None = None,
        timeout: Span | None = None,
    ) -> Receipt:
        """As :meth:`cache_and_delay_store`, but ``key`` is dropped from every cache, now and again after the COMMIT."""
        options = (None, invalidates, None, bloom_keys, delay, op_id, coalesce, task_timeout)
        return self._receipt(await self._wait(self._engine.del_delay_store, key, task, options, timeout))

    async def cancel_delayed(
        self, op_id: str, *, timeout: Span | None = None
    ) -> Literal["cancelled", "started", "unknown"]:
        """Takes back a delayed write that no worker has begun.

        ``"cancelled"``: it will not run, and its ``done()`` raises ``QueueError``. ``"started"``: a worker has begun
        it, now or before. ``"unknown"``: it is not in the queue; it has ended, or never was.
        """
        word: Literal["cancelled", "started", "unknown"] = await self._wait(self._engine.cancel_delayed, op_id, timeout)
        return word

    async def pause_queue(self, *, timeout: Span | None = None) -> None:
        """Keeps the workers of all processes from beginning a delayed write. Writes are accepted all the same."""
        await self._wait(self._engine.pause_queue, timeout)

    async def resume_queue(self, *, timeout: Span | None = None) -> None:
        """Lets the workers go on."""
        await self._wait(self._engine.resume_queue, timeout)

    async def flush(self, *, timeout: Span | None = None) -> FlushReport:
        """Flushes everything that was accepted so far.

        Raises:
            StoreError, TimeoutError: the first try failed; the operations stay, and the background tries again.
        """
        return read(FlushReport, json.loads(await self._wait(self._engine.flush, timeout)))

    async def pending(self, task: Runnable, *, timeout: Span | None = None) -> CellValue:
        """The value of the cell that a builder is about, with everything pending in this process applied.

        The builder needs no operation; those that it has are not applied. ``None`` if the row is missing and nothing
        pending makes it, or the column is NULL.

        Raises:
            TaskError: the task is no builder's, or WHERE finds several rows.
        """
        value: CellValue = await self._wait(self._engine.pending, task, timeout)
        return value

    async def dead_letters(
        self, *, after: int = 0, limit: int = 10_000, timeout: Span | None = None
    ) -> list[DeadLetter]:
        """What the database refused after it had been accepted, oldest first.

        At most ``limit`` letters, 1 to 10,000, with ids above ``after``: the id of the last one is what the next page
        comes after.

        Raises:
            TaskError: another ``limit``.
        """
        told = json.loads(await self._wait(self._engine.dead_letters, after, limit, timeout))
        return [read(DeadLetter, letter) for letter in told]

    async def retry_dead(self, id: int, *, timeout: Span | None = None) -> None:
        """Runs a dead letter again and deletes it, in one transaction.

        Raises:
            NotFoundError: there is no such letter.
            StoreError: the database refused again; the letter stays.
        """
        await self._wait(self._engine.retry_dead, id, timeout)

    async def retry_all_dead(self, *, timeout: Span | None = None) -> RetryReport:
        """Runs all dead letters again that are there when it begins, oldest first, each in its own transaction.

        Letters that are refused again are counted and stay. ``timeout`` is that of each letter, not of all together.
        Cancelled, or when the engine is closed, it ends between two letters.

        Raises:
            StoreError, TimeoutError: the server is away, or a letter could not be run in time; the message says which
                and what was done before. The letters behind were not touched. Calling again begins anew with the
                oldest, so a letter that is never done in time has to be dropped, or run by itself with more.
        """
        return read(RetryReport, json.loads(await self._wait(self._engine.retry_all_dead, timeout)))

    async def drop_dead(self, id: int, *, timeout: Span | None = None) -> None:
        """Deletes a dead letter without running it.

        Raises:
            NotFoundError: there is no such letter.
        """
        await self._wait(self._engine.drop_dead, id, timeout)

    async def delete(self, key: str, *, timeout: Span | None = None) -> None:
        """Drops ``key`` from every cache."""
        await self._wait(self._engine.delete, key, timeout)

    async def del_store(
        self,
        key: str | None,
        task: Tasks,
        *,
        invalidates: Iterable[str] | None = None,
        bloom_keys: Iterable[str] | None = None,
        timeout: Span | None = None,
    ) -> Receipt:
        """Runs the task (a list in one transaction), then drops ``key`` from every cache."""
        return self._receipt(await self._wait(self._engine.del_store, key, task, invalidates, bloom_keys, timeout))

    # ---- the cache toolbox ----------------------------------------------------------------------------------------

    async def add(
        self,
        key: str,
        data: Data,
        *,
        ttl: Span | None = None,
        tags: Iterable[str] | None = None,
        timeout: Span | None = None,
    ) -> bool:
        """Puts ``data`` into the caches if there is no value; says whether it did.

        A cached absence is no value. The database is not asked. While a write of the key is under way nothing happens.
        """
        added: bool = await self._wait(self._engine.add, key, data, ttl, tags, timeout)
        return added

    async def touch(self, key: str, *, ttl: Span | None = None, timeout: Span | None = None) -> bool:
        """Gives what is cached under ``key`` a new life, from now on; says whether there was a value."""
        touched: bool = await self._wait(self._engine.touch, key, ttl, timeout)
        return touched

    async def ttl(self, key: str, *, timeout: Span | None = None) -> float | Literal["never"] | None:
        """The seconds that are left of what is cached under ``key``; ``"never"`` if it does not expire.

        ``None`` if there is no value. Without Redis it is what is left in process memory, which ``l1_ttl`` bounds.
        """
        left: float | Literal["never"] | None = await self._wait(self._engine.ttl, key, timeout)
        return left

    async def incr(self, key: str, by: int = 1, *, ttl: Span | None = None, timeout: Span | None = None) -> int:
        """Adds to a counter in the caches and returns the sum: exact, 64 bits, atomic among all processes.

        It begins at 0, and its value is the number as text. ``ttl`` is the life of a counter that this call makes; one
        that is there keeps its end.

        Raises:
            TaskError: the value is no such number, or has tags, or the sum would exceed 64 bits; nothing has changed.
            CacheError: a write of the key is under way (try again), or Redis failed (nobody knows whether it counted).
        """
        total: int = await self._wait(self._engine.incr, key, by, ttl, timeout)
        return total

    async def cache_many(
        self,
        items: Mapping[str, Data],
        *,
        ttl: Span | None = None,
        tags: Iterable[str] | None = None,
        timeout: Span | None = None,
    ) -> None:
        """:meth:`cache_only` for many values at once."""
        await self._wait(self._engine.cache_many, items.items(), ttl, tags, timeout)

    async def delete_many(self, keys: Iterable[str], *, timeout: Span | None = None) -> None:
        """Drops many keys from every cache at once."""
        await self._wait(self._engine.delete_many, keys, timeout)

    async def keys(self, prefix: str, *, timeout: Span | None = None) -> list[str]:
        """The keys that begin with ``prefix`` and have a value in Redis, in order.

        All keys of the server, or of every master of a cluster, are walked over: for maintenance, not for requests.

        Raises:
            CacheError: Redis failed, or slots of the cluster are being moved; it may be tried again.
        """
        found: list[str] = await self._wait(self._engine.keys, prefix, timeout)
        return found

    async def clear(self, prefix: str, *, timeout: Span | None = None) -> int:
        """Drops every key that begins with ``prefix`` from every cache; returns how many entries Redis had.

        The memory of every process is emptied as a whole. All keys of the server, or of every master of a cluster, are
        walked over: for maintenance.

        Raises:
            CacheError: Redis failed, or slots of the cluster are being moved; it may be tried again.
        """
        dropped: int = await self._wait(self._engine.clear, prefix, timeout)
        return dropped

    async def invalidate_tag(self, tag: str, *, timeout: Span | None = None) -> None:
        """Drops everything that was written with ``tag`` from every cache, in one step, however much it is.

        A write that was under way is dropped too; one that begins after this stays.
        """
        await self._wait(self._engine.invalidate_tag, tag, timeout)

    def lock(self, name: str, *, ttl: Span | None = None, wait: Span | None = None) -> Locking:
        """A lock that one holder at a time has among all processes: ``async with zm.lock("x") as lock``.

        It is kept for as long as the block runs; ``ttl`` (30 s) is when others get it after this process has died.
        ``wait`` is how long to wait for it, 0 tries once, ``None`` is the setting ``timeout``. Pass ``lock.token`` to
        what it protects (:class:`Lock`). A block that ends well although its lock was lost raises ``CacheError``;
        ``lock.held`` and ``lock.lost()`` tell it earlier.

        Raises:
            TimeoutError: somebody else held it all the time.
            ConfigError: there is no Redis.
        """

        async def take() -> Lock:
            return self._lock(await self._wait(self._engine.lock, name, ttl, wait), self._wait)

        return self._locking(take)

    # ---- SQL ------------------------------------------------------------------------------------------------------

    async def sql_exec(self, task: Tasks, *, timeout: Span | None = None) -> ExecResult:
        """Runs a task by itself, or several in one transaction."""
        return ExecResult(*await self._wait(self._engine.sql_exec, task, timeout))

    async def query(self, task: Runnable, *, timeout: Span | None = None) -> list[Row]:
        """The rows of a read, each a dict by column name."""
        rows: list[Row] = await self._wait(self._engine.query, task, timeout)
        return rows

    async def db_hit(self, key: str, *, timeout: Span | None = None) -> bool:
        """Whether the database may have ``key``.

        ``False`` is certain: no committed write of zmsg has made such a row. ``True`` is not: the key's family has no
        Bloom filter, or it is being built, or cannot be reached, or the key is one of the ``bloom_error_rate``.
        """
        may: bool = await self._wait(self._engine.db_hit, key, timeout)
        return may

    def source(
        self,
        pattern: str,
        task: Runnable,
        *,
        ttl: Span | None = None,
        absent_ttl: Span | None = None,
        stale_ttl: Span | None = None,
        soft_timeout: Span | None = None,
        refresh_ahead: float | None = None,
        bloom: bool = False,
        keys: Runnable | None = None,
    ) -> None:
        """Tells ``get`` how to read a key family from the database.

        ``"feed_*"``: the task's single ``?`` is the whole key. ``"user:{uid:int}:post:{pid}"``: the parts fill the
        ``?``\\ s in order. One column comes back as its bytes, several as one JSON object.

        ``stale_ttl``: how long a value is kept past its life, and given if the source fails, or takes longer than
        ``soft_timeout``. ``refresh_ahead``: in which last part of its life a value is loaded anew, 0 to 0.9. Each is
        the setting (``source_soft_timeout`` for the second) if it is not given, and off with 0.

        ``bloom=True`` gives the family a Bloom filter, which answers for keys that do not exist before the database is
        asked. ``keys`` is the query that gives every key of the family, whole and as text.
        """
        life = (ttl, absent_ttl, stale_ttl, soft_timeout)
        self._engine.source(pattern, task, life, refresh_ahead, bloom, keys)

    def load_dir(self, path: str | os.PathLike[str]) -> Migrations:
        """The ``*.sql`` files of a directory in name order, to be applied by ``migrate()``."""
        return self._migrations(self, self._engine.load_dir(os.fspath(path)))

    def load(self, path: str | os.PathLike[str]) -> Migrations:
        """One SQL file, to be applied by ``migrate()``."""
        return self._migrations(self, self._engine.load(os.fspath(path)))

    def load_sql(self, text: str, *, name: str) -> Migrations:
        """A text, to be applied by ``migrate()`` under that name."""
        return self._migrations(self, self._engine.load_sql(text, name))

    # ---- the engine itself ----------------------------------------------------------------------------------------

    @overload
    def next_id(self, prefix: None = None) -> int: ...
    @overload
    def next_id(self, prefix: str) -> str: ...
    def next_id(self, prefix: str | None = None) -> int | str:
        """A new id, unique among all processes: ``prefix_number``, or the bare number. No I/O."""
        made: int | str = self._engine.next_id(prefix)
        return made

    async def health(self, *, timeout: Span | None = None) -> Health:
        """Asks every server."""
        return health_from(json.loads(await self._wait(self._engine.health, timeout)))

    def stats(self) -> Stats:
        """The engine's own figures. No I/O."""
        return stats_from(json.loads(self._engine.stats()))

    async def close(self) -> None:
        """Ends what is in flight, stops the engine and gives its node id back. Closing twice is fine."""
        await self._wait(self._engine.close)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._engine.closed

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {'closed' if self.closed else 'open'}>"


class Migrations:
    """Migrations that were loaded and not yet run."""

    __slots__ = ("_loaded", "_verbs")

    def __init__(self, verbs: Verbs, loaded: NativeMigrations) -> None:
        self._verbs = verbs
        self._loaded = loaded

    async def migrate(self) -> MigrationReport:
        """Applies what has not been applied: each file once, in a transaction, under an advisory lock.

        Raises:
            ConfigError: an applied file has changed; the message names it.
            StoreError: a statement failed; the message names the file and the line.
        """
        return report_from(json.loads(await self._verbs._wait(self._loaded.migrate)))


Verbs._migrations = Migrations
