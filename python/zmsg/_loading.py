"""Loads by the caller's own function: what ``get_or_load`` and ``cached`` do with the duty that the engine gives."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ._native import Load
from ._ports import wait

_log = logging.getLogger("zmsg")

# A task that nobody holds may be collected before it ends.
_running: set[asyncio.Task[Any]] = set()


async def run(load: Load, loader: Callable[[], Any], wait: Callable[..., Awaitable[Any]]) -> Any:
    """Runs the loader once and tells everybody who waits what came of it; gives the bytes, or raises as it raised."""
    try:
        data = loader()
        if inspect.isawaitable(data):
            data = await data
        return await wait(load.complete, data)
    except Exception as error:
        covered = await wait(load.fail, f"{type(error).__name__}: {error}"[:1_000])
        if covered is ...:
            raise
        _log.warning("a loader failed, and the last good value was served: %s", type(error).__name__)
        return covered
    finally:
        # Cancelled: one of those who wait goes on.
        load.give_up()


async def run_softly(load: Load, loader: Callable[[], Any]) -> Any:
    """The same in a task, no longer than the soft timeout if there is a last good value; the task goes on."""
    soft = load.soft_timeout
    if soft is None:
        return await run(load, loader, wait)
    task = in_background(load, loader)
    try:
        done, _ = await asyncio.wait({task}, timeout=soft)
        if not done:
            covered = await wait(load.last_good)
            if covered is not ...:
                task.add_done_callback(_note)
                return covered
        return await task
    except asyncio.CancelledError:
        task.cancel()
        raise


def renew(load: Load, loader: Callable[[], Any]) -> None:
    """Loads a value anew that is still fresh, in a task of its own."""
    in_background(load, loader).add_done_callback(_note)


def in_background(load: Load, loader: Callable[[], Any]) -> asyncio.Task[Any]:
    task = asyncio.get_running_loop().create_task(run(load, loader, wait))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


def _note(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("a loader failed in the background: %s", type(error).__name__)


def key_maker(pattern: str, function: Callable[..., Any]) -> Callable[..., str]:
    """What makes the key of a call: the pattern, filled with the call's arguments by name."""
    signature = inspect.signature(function)

    def key_of(*arguments: Any, **options: Any) -> str:
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        return pattern.format(**bound.arguments)

    return key_of
