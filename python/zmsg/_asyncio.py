"""The asyncio door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any

from . import _loading, _logging, _native
from ._ports import close_port, wait
from ._verbs import Verbs
from .config import Source, settings_of


class Zmsg(Verbs):
    """An open engine, for asyncio (and uvloop).

    One engine serves every event loop of the process. After a fork the child may go on using it: its first call opens
    connections of its own.
    """

    __slots__ = ()
    __module__ = "zmsg"

    @classmethod
    def open(cls, config: Source = None, /, **overrides: Any) -> Opening:
        """Opens an engine: ``async with Zmsg.open(…) as zm`` or ``zm = await Zmsg.open(…)``.

        ``config`` is the path of a YAML file, a :class:`Config`, a dict, or nothing; keyword arguments win over it.

        Raises:
            ConfigError: the configuration is refused.
            StoreError, CacheError, TimeoutError: a server cannot be reached.
        """
        return Opening(cls, config, overrides)

    async def _wait(self, method: Callable[..., Any], *arguments: Any) -> Any:
        return await wait(method, *arguments)

    async def _load(self, load: _native.Load, loader: Callable[[], Any]) -> Any:
        return await _loading.run_softly(load, loader)

    def _renew(self, load: _native.Load, loader: Callable[[], Any]) -> None:
        _loading.renew(load, loader)

    async def close(self) -> None:
        """Ends what is in flight, stops the engine and gives its node id back. Closing twice is fine."""
        await super().close()
        close_port(asyncio.get_running_loop())

    async def __aenter__(self) -> Zmsg:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Opening:
    """What ``Zmsg.open`` gives: to be awaited, or entered with ``async with``."""

    __slots__ = ("_cls", "_config", "_overrides", "_zm")

    def __init__(self, cls: type[Zmsg], config: Source, overrides: Mapping[str, Any]) -> None:
        self._cls = cls
        self._config = config
        self._overrides = overrides
        self._zm: Zmsg | None = None

    async def _open(self) -> Zmsg:
        settings = settings_of(self._config, self._overrides)
        _logging.start()
        return self._cls(await wait(_native.open_engine, settings))

    def __await__(self) -> Generator[Any, None, Zmsg]:
        return self._open().__await__()

    async def __aenter__(self) -> Zmsg:
        self._zm = await self._open()
        return self._zm

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._zm is not None:
            await self._zm.close()
