"""A feed storage engine inside your service.

Reads are served from process memory, then Redis, then PostgreSQL; writes go to PostgreSQL now, later or aggregated.
:class:`Zmsg` is the asyncio door, :class:`zmsg.sync.Zmsg` the blocking one.

``zmsg.slice``, ``zmsg.map`` and ``zmsg.TimeoutError`` stay module-qualified: they shadow built-ins, and are not in
``__all__``.
"""

from ._asyncio import Zmsg
from ._locks import Lock, Locking
from ._native import (
    Counter,
    Map,
    Slice,
    Task,
    bind,
    counter,
    sql,
    table,
    version,
)

# Not in __all__, and so imported under their own names only.
from ._native import map as map
from ._native import slice as slice
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
    UnsupportedInEmbeddedError,
    ZmsgError,
)
from .errors import TimeoutError as TimeoutError
from .results import (
    BloomFigures,
    DeadLetter,
    ExecResult,
    FlushReport,
    Health,
    Interval,
    MigrationReport,
    Receipt,
    RetryReport,
    Row,
    Stats,
    TierHealth,
)

__all__ = [
    "BloomFigures",
    "CacheError",
    "ClosedError",
    "CommitUnknownError",
    "Config",
    "ConfigError",
    "Counter",
    "DeadLetter",
    "ExecResult",
    "FlushReport",
    "Health",
    "IdError",
    "Interval",
    "Lock",
    "Locking",
    "Map",
    "MigrationReport",
    "Migrations",
    "NotFoundError",
    "OverloadedError",
    "QueueError",
    "Receipt",
    "RetryReport",
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

__version__: str = version

_install()
