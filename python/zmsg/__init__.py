"""A feed storage engine inside your service.

Reads are served from process memory, then Redis, then PostgreSQL; writes go to PostgreSQL now, later or aggregated.
:class:`Zmsg` is the asyncio door, :class:`zmsg.sync.Zmsg` the blocking one.

``zmsg.slice``, ``zmsg.map`` and ``zmsg.TimeoutError`` stay module-qualified: they shadow built-ins, and are not in
``__all__``.
"""

from ._asyncio import Zmsg
from ._native import (
    Counter,
    Map,
    Slice,
    Task,
    bind,
    counter,
    map,
    slice,
    sql,
    table,
    version as __version__,
)
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
    "Counter",
    "ExecResult",
    "Health",
    "IdError",
    "Interval",
    "Map",
    "MigrationReport",
    "Migrations",
    "NotFoundError",
    "OverloadedError",
    "QueueError",
    "Receipt",
    "Row",
    "Slice",
    "Stats",
    "StoreError",
    "Task",
    "TaskError",
    "TierHealth",
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
