"""One port per event loop: the engine's completions and the loop's watch on their descriptor."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from ._native import Completions

ports: WeakKeyDictionary[AbstractEventLoop, Completions] = WeakKeyDictionary()
"""The open ports of this process. Emptied in a forked child: the descriptors are the parent's."""


def port_of(loop: AbstractEventLoop) -> Completions:
    """The port of a running loop, opened at its first call."""
    port = ports.get(loop)
    if port is None:
        port = ports[loop] = Completions()
        loop.add_reader(port.fileno(), port.drain)
    return port


def close_port(loop: AbstractEventLoop) -> None:
    """Ends the loop's watch if nothing is awaited through it; the next call opens it again."""
    port = ports.get(loop)
    if port is not None and len(port) == 0:
        del ports[loop]
        loop.remove_reader(port.fileno())


async def wait(method: Callable[..., Any], *arguments: Any) -> Any:
    """Starts a native call and awaits its end; a cancelled caller drops the call."""
    loop = asyncio.get_running_loop()
    port = port_of(loop)
    future: asyncio.Future[Any] = loop.create_future()
    ticket: int = method(*arguments, (port, future))
    try:
        return await future
    except BaseException:
        port.cancel(ticket)
        raise
