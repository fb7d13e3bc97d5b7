"""One port per event loop: the engine's completions and the loop's watch on their descriptor."""

from __future__ import annotations

from asyncio import AbstractEventLoop
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
