"""The blocking door: the verbs of :class:`zmsg.Zmsg` without ``await``, for scripts, Celery tasks and Django views.

Made from the same verbs: where they wait, this door blocks (other threads run on, and Ctrl-C works), so each coroutine
ends at its first step and its result is the call's. ``sync.pyi`` has the types.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading

from . import _loading, _locks, _logging, _native, _verbs, errors, results
from .config import settings_of

__all__ = ["Lock", "Locking", "Migrations", "Receipt", "Zmsg"]


def _blocking(method):
    """The blocking form of a coroutine method."""

    @functools.wraps(method)
    def call(*arguments, **options):
        try:
            method(*arguments, **options).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("a verb awaited something that does not block")

    return call


def _plain(loader):
    """The loader, which must not be a coroutine function: nobody would await it."""

    def load():
        data = loader()
        if inspect.isawaitable(data):
            getattr(data, "close", lambda: None)()
            raise errors.TaskError("a loader of the blocking door is a plain function, not an async one")
        return data

    return load


def _quietly(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        logging.getLogger("zmsg").warning("a loader failed in the background: %s", type(error).__name__)


def _block(cls):
    """Gives a class the blocking form of every public coroutine method that it inherits."""
    for name, method in inspect.getmembers(cls, inspect.iscoroutinefunction):
        if not name.startswith("_"):
            setattr(cls, name, _blocking(method))
    return cls


@_block
class Migrations(_verbs.Migrations):
    """Migrations that were loaded and not yet run."""

    __slots__ = ()


class Receipt(results.Receipt):
    """What an accepted write gives back."""

    __slots__ = ()

    def done(self, *, timeout=None):
        """Returns when the effect is committed, or raises what became of it; ``timeout`` ends the wait alone."""
        if timeout is not None or self.durability != "postgres":
            self._receipt.done(timeout, None)


@_block
class Lock(_locks.Lock):
    """A lock that is held; see :class:`zmsg.Lock`."""

    __slots__ = ()


class Locking:
    """What ``lock`` gives: to be entered with ``with``, or taken with ``acquire()``."""

    __slots__ = ("_held", "_lock")

    def __init__(self, lock):
        self._lock = _blocking(lock)
        self._held = None

    def acquire(self):
        """Takes the lock."""
        return self._lock()

    def __enter__(self):
        self._held = self._lock()
        return self._held

    def __exit__(self, kind, error, traceback):
        held, self._held = self._held, None
        if held is not None and not held.release() and error is None:
            raise _locks.lost(held.name)


@_block
class Zmsg(_verbs.Verbs):
    """An open engine, for blocking code. Threads may share it, and share it with :class:`zmsg.Zmsg`'s event loops."""

    __slots__ = ()
    _migrations = Migrations
    _receipt = Receipt
    _lock = Lock
    _locking = Locking

    @classmethod
    def open(cls, config=None, /, **overrides):
        """Opens an engine; use it with ``with``, or call ``close()`` at the end.

        ``config`` is the path of a YAML file, a :class:`zmsg.Config`, a dict, or nothing; keyword arguments win
        over it.

        Raises:
            ConfigError: the configuration is refused.
            StoreError, CacheError, TimeoutError: a server cannot be reached.
        """
        settings = settings_of(config, overrides)
        _logging.start()
        return cls(_native.open_engine(settings, None))

    async def _wait(self, method, *arguments):
        return method(*arguments, None)

    async def _load(self, load, loader):
        # In the calling thread, so for as long as it takes: the soft timeout is for those who wait for it.
        return await _loading.run(load, _plain(loader), self._wait)

    def _renew(self, load, loader):
        renewing = _blocking(_loading.run)
        threading.Thread(target=_quietly, args=(renewing, load, _plain(loader), self._wait), daemon=True).start()

    @staticmethod
    def _as_call(call):
        return _blocking(call)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()
