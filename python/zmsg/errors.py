"""What can go wrong, as instructions to the caller.

Every class is a :class:`ZmsgError`; its docstring says what to do. The list is the core's catalogue, and a test holds
these classes to it. Messages never hold passwords, statement parameters or cached values.
"""

from __future__ import annotations

import builtins
from typing import ClassVar

__all__ = [
    "CacheError",
    "ClosedError",
    "CommitUnknownError",
    "ConfigError",
    "IdError",
    "NotFoundError",
    "OverloadedError",
    "QueueError",
    "StoreError",
    "TaskError",
    "TimeoutError",
    "UnsupportedInEmbeddedError",
    "ZmsgError",
]


class ZmsgError(Exception):
    """Any failure of zmsg; by itself it is a bug of zmsg to report."""

    code: ClassVar[str] = "internal"
    """The same string in every language."""
    _retryable: ClassVar[bool] = False

    retryable: bool
    """Whether repeating the same call may succeed."""
    sqlstate: str | None
    """The five-character SQLSTATE, if the database gave one."""
    op_id: str | None
    """The operation that failed, if it had got an id."""

    def __init__(
        self,
        message: str = "",
        *,
        retryable: bool | None = None,
        sqlstate: str | None = None,
        op_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = type(self)._retryable if retryable is None else retryable
        self.sqlstate = sqlstate
        self.op_id = op_id

    def __str__(self) -> str:
        # KeyError would show the repr of the message, and OSError its own idea of it.
        return str(self.args[0]) if self.args else ""


class ConfigError(ZmsgError, ValueError):
    """Correct the configuration that the message names."""

    code = "config"


class TaskError(ZmsgError, ValueError):
    """Correct the call: a task, key, value or option was not acceptable. Nothing was sent."""

    code = "task"


class NotFoundError(ZmsgError, KeyError):
    """Create the item or handle its absence; only ``required=True`` raises this."""

    code = "not_found"


class TimeoutError(ZmsgError, builtins.TimeoutError):
    """Try again later or allow more time; the deadline of the call has passed."""

    code = "timeout"
    _retryable = True


class StoreError(ZmsgError):
    """Look at ``sqlstate``: the database refused the statement or could not be reached. Nothing was stored."""

    code = "store"


class CommitUnknownError(StoreError):
    """Check the database before repeating: the connection was lost while a COMMIT was on its way."""

    code = "commit_unknown"


class UnsupportedInEmbeddedError(StoreError):
    """Use PostgreSQL for this construct; the embedded mode cannot run it."""

    code = "unsupported_in_embedded"


class CacheError(ZmsgError):
    """Go on without the cache or try again; Redis could not be reached or refused the command."""

    code = "cache"
    _retryable = True


class QueueError(ZmsgError):
    """Try again; the queue could not accept or move the task."""

    code = "queue"
    _retryable = True


class IdError(ZmsgError):
    """Try again once PostgreSQL can be reached; no node id could be had for new ids."""

    code = "id"
    _retryable = True


class OverloadedError(ZmsgError):
    """Slow down; a bound was reached and the operation was not accepted."""

    code = "overloaded"
    _retryable = True


class ClosedError(ZmsgError):
    """Open a new engine; this one is closed."""

    code = "closed"
