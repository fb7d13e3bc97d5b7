"""Locks: one holder per name among all processes, with a token that grows."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any

from ._native import Lock as NativeLock
from .errors import CacheError

Wait = Callable[..., Any]
"""How a door waits for a native method: ``Verbs._wait``."""


class Lock:
    """A lock that is held. It is extended by itself until it is released, lost, or forgotten by this process.

    Redis may forget a lock in a failover, and a process may be stopped for longer than its ``ttl``: pass :attr:`token`
    to what the lock protects, and let that refuse a token below the highest one it has seen.
    """

    __slots__ = ("_lock", "_wait")

    def __init__(self, lock: NativeLock, wait: Wait) -> None:
        self._lock = lock
        self._wait = wait

    @property
    def name(self) -> str:
        """Its name."""
        return self._lock.name

    @property
    def token(self) -> int:
        """The fencing token: above that of every earlier holder."""
        return self._lock.token

    @property
    def held(self) -> bool:
        """Whether it is held, as far as this process knows. No I/O."""
        return self._lock.held

    async def extend(self) -> bool:
        """Extends it now to its whole ``ttl``, which happens by itself as well; says whether it is still held."""
        extended: bool = await self._wait(self._lock.extend)
        return extended

    async def release(self) -> bool:
        """Gives it back; says whether it was held until now. One that was lost is left to whoever has it."""
        released: bool = await self._wait(self._lock.release)
        return released

    async def lost(self) -> None:
        """Returns when it is lost or given back."""
        await self._wait(self._lock.lost)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.Lock {self.name!r} {'held' if self.held else 'not held'}>"


def lost(name: str) -> CacheError:
    """What a holder is told whose lock was lost while it worked."""
    return CacheError(f"the lock {name!r} was lost before the block ended: what it protects may have had two holders")


class Locking:
    """What ``lock`` gives: to be awaited, or entered with ``async with``."""

    __slots__ = ("_held", "_lock")

    def __init__(self, lock: Callable[[], Any]) -> None:
        self._lock = lock
        self._held: Lock | None = None

    async def _take(self) -> Lock:
        lock: Lock = await self._lock()
        return lock

    def __await__(self) -> Generator[Any, None, Lock]:
        return self._take().__await__()

    async def __aenter__(self) -> Lock:
        self._held = await self._take()
        return self._held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        if held is not None and not await held.release() and error is None:
            raise lost(held.name)
