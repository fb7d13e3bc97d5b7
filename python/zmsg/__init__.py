"""A feed storage engine inside your service.

Reads are served from process memory, then Redis, then PostgreSQL; writes go to PostgreSQL now, later or aggregated.
:class:`Zmsg` is the asyncio door, :class:`zmsg.sync.Zmsg` the blocking one.

``zmsg.slice`` and ``zmsg.map`` stay module-qualified: they shadow built-ins, and are not in ``__all__``.
"""

from ._asyncio import Zmsg
from ._native import Task, sql, version as __version__
from ._process import install as _install
from ._verbs import Migrations
from .config import Config, load_config
from .errors import (
    CacheError,
    ClosedError,
    CommitUnknownError,
    ConfigError,
    IdError,
    NotFoundError,
    OverloadedError,
    QueueError,
    StoreError,
    TaskError,
    TimeoutError,
    UnsupportedInEmbeddedError,
    ZmsgError,
)
from .results import ExecResult, Health, Interval, MigrationReport, Receipt, Row, Stats, TierHealth

__all__ = [
    "CacheError",
    "ClosedError",
    "CommitUnknownError",
    "Config",
    "ConfigError",
    "ExecResult",
    "Health",
    "IdError",
    "Interval",
    "MigrationReport",
    "Migrations",
    "NotFoundError",
    "OverloadedError",
    "QueueError",
    "Receipt",
    "Row",
    "Stats",
    "StoreError",
    "Task",
    "TaskError",
    "TierHealth",
    "TimeoutError",
    "UnsupportedInEmbeddedError",
    "Zmsg",
    "ZmsgError",
    "bind",
    "counter",
    "load_config",
    "sql",
    "table",
]

_install()
