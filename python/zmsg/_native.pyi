"""The native half of zmsg, private to the package: what is public is named in `zmsg`."""

import os
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeAlias, final

# An argument of a task: None, bool, int, float, Decimal, str, bytes, UUID, a date or time, list, dict, or `bind`.
_Parameter: TypeAlias = Any
_Number: TypeAlias = int | float | Decimal | Bind
# The completions and the future of a call's loop, or None to block.
_Port: TypeAlias = tuple[Completions, Any] | None
_Time: TypeAlias = Any
# ttl, absent_ttl, stale_ttl, soft_timeout
_Life: TypeAlias = tuple[_Time, _Time, _Time, _Time]
# stale, soft_timeout
_Read: TypeAlias = tuple[bool | None, _Time]
_Texts: TypeAlias = Iterable[str] | None
# ttl, invalidates, tags, bloom_keys, delay, op_id, coalesce, task_timeout
_Delay: TypeAlias = tuple[_Time, _Texts, _Texts, _Texts, _Time, str | None, bool, _Time]
_Runnable: TypeAlias = Task | Counter | Slice | Map
_Tasks: TypeAlias = Any

__all__ = [
    "Bind",
    "Column",
    "Completions",
    "Counter",
    "Engine",
    "Load",
    "Lock",
    "Map",
    "Migrations",
    "OnConflict",
    "Prepared",
    "Receipt",
    "Settings",
    "Slice",
    "Table",
    "Task",
    "after_fork_in_child",
    "at_exit",
    "bind",
    "counter",
    "error_catalogue",
    "map",
    "next_logs",
    "open_engine",
    "set_log_level",
    "slice",
    "sql",
    "stop_logs",
    "table",
    "version",
]

version: str
bind: Bind

def sql(text: str, /, *args: _Parameter) -> Task:
    """A task from SQL text, with one argument for each `?` (`??` is a literal question mark).

    Without arguments for its placeholders it is a template, for `source` and `prepare`.
    """

def table(name: str, /) -> Table:
    """A table by its name, possibly qualified: `feeds`, `public.feeds`."""

def counter(table: str, column: str, /) -> Counter:
    """A counter: a numeric column."""

def slice(table: str, column: str, /) -> Slice:
    """A slice: a JSONB column that holds an array."""

def map(table: str, column: str, /) -> Map:
    """A map: a JSONB column that holds an object."""

def error_catalogue() -> list[tuple[str, str, str, str, bool]]: ...
def next_logs() -> list[tuple[int, str]] | None: ...
def set_log_level(level: int) -> None: ...
def stop_logs() -> None: ...
def after_fork_in_child() -> None: ...
def at_exit() -> None: ...
def open_engine(settings: Settings, port: _Port) -> Any: ...

@final
class Bind:
    """The marker of an argument that a prepared task is given later."""

@final
class Task:
    """One SQL statement with its arguments, checked when it was built. Immutable."""

    def on_conflict(self, *columns: str) -> OnConflict:
        """Says what happens when the inserted row is there already: `.do_update(…)` or `.do_nothing()` follows."""
    def returning(self, *columns: str) -> Task:
        """Gives back these columns of the changed rows; `"*"` gives all."""
    def batch_key(self, key: str, /) -> Task:
        """The same task under a coalescing key."""
    def prepare(self) -> Prepared:
        """A callable that makes tasks from this template cheaply, one argument per open placeholder."""
    def render(self) -> tuple[str, list[Any]]:
        """What would run: the PostgreSQL text and its parameters."""

@final
class OnConflict:
    """An INSERT whose conflict clause is not finished."""

    def do_update(self, *columns: str) -> Task:
        """Takes these columns from the row that was to be inserted."""
    def do_nothing(self) -> Task:
        """Keeps the row as it is."""

@final
class Prepared:
    """Makes tasks from a template: call it with one argument per open placeholder."""

    def __call__(self, *args: _Parameter) -> Task: ...

@final
class Table:
    """A table; its columns make builders."""

    def column(self, name: str, /) -> Column:
        """One of its columns."""

@final
class Column:
    """A column of a table, not yet said to be a counter, a slice or a map."""

    def counter(self) -> Counter:
        """As a number: integer, numeric or float."""
    def slice(self) -> Slice:
        """As a JSONB array."""
    def map(self) -> Map:
        """As a JSONB object."""

@final
class Counter:
    """Operations on a numeric column, applied in order; NULL reads as 0."""

    def inc(self, n: _Number, /) -> Counter:
        """Adds."""
    def dec(self, n: _Number, /) -> Counter:
        """Subtracts."""
    def mul(self, n: _Number, /) -> Counter:
        """Multiplies."""
    def set(self, n: _Number, /) -> Counter:
        """Replaces; operations before it are dropped."""
    def clean(self) -> Counter:
        """Sets to 0; operations before it are dropped."""
    def where(self, text: str, /, *args: _Parameter) -> Counter:
        """A condition with a `?` for each argument; repeated calls are joined by AND."""
    def or_insert(self, **columns: _Parameter) -> Counter:
        """Inserts the row with these values first if it is missing."""
    def returning(self, *columns: str) -> Counter:
        """Gives back these columns of the changed rows; `"*"` gives all."""
    def batch_key(self, key: str, /) -> Counter:
        """Names the row for sharding and statistics; it never changes the result."""
    def all_rows(self) -> Counter:
        """Allows a change of every row, without a condition."""
    def build(self) -> Task:
        """The task. Optional: whatever takes a task takes a finished builder too."""
    def prepare(self) -> Prepared:
        """A callable that makes tasks cheaply, one argument per `bind`."""
    def render(self) -> tuple[str, list[Any]]:
        """What would run: the PostgreSQL text and its parameters."""

@final
class Slice:
    """Operations on a JSONB array, applied in order; NULL reads as `[]`."""

    def add(self, element: _Parameter, /) -> Slice:
        """Appends an element."""
    def delete(self, element: _Parameter, /) -> Slice:
        """Removes every equal element."""
    def clean(self) -> Slice:
        """Removes every element; operations before it are dropped."""
    def where(self, text: str, /, *args: _Parameter) -> Slice:
        """A condition with a `?` for each argument; repeated calls are joined by AND."""
    def or_insert(self, **columns: _Parameter) -> Slice:
        """Inserts the row with these values first if it is missing."""
    def returning(self, *columns: str) -> Slice:
        """Gives back these columns of the changed rows; `"*"` gives all."""
    def batch_key(self, key: str, /) -> Slice:
        """Names the row for sharding and statistics; it never changes the result."""
    def all_rows(self) -> Slice:
        """Allows a change of every row, without a condition."""
    def build(self) -> Task:
        """The task. Optional: whatever takes a task takes a finished builder too."""
    def prepare(self) -> Prepared:
        """A callable that makes tasks cheaply, one argument per `bind`."""
    def render(self) -> tuple[str, list[Any]]:
        """What would run: the PostgreSQL text and its parameters."""

@final
class Map:
    """Operations on a JSONB object, applied in order; NULL reads as `{}`."""

    def set(self, key: str | Bind, value: _Parameter, /) -> Map:
        """Sets a key."""
    def delete(self, key: str | Bind, /) -> Map:
        """Removes a key."""
    def where(self, text: str, /, *args: _Parameter) -> Map:
        """A condition with a `?` for each argument; repeated calls are joined by AND."""
    def or_insert(self, **columns: _Parameter) -> Map:
        """Inserts the row with these values first if it is missing."""
    def returning(self, *columns: str) -> Map:
        """Gives back these columns of the changed rows; `"*"` gives all."""
    def batch_key(self, key: str, /) -> Map:
        """Names the row for sharding and statistics; it never changes the result."""
    def all_rows(self) -> Map:
        """Allows a change of every row, without a condition."""
    def build(self) -> Task:
        """The task. Optional: whatever takes a task takes a finished builder too."""
    def prepare(self) -> Prepared:
        """A callable that makes tasks cheaply, one argument per `bind`."""
    def render(self) -> tuple[str, list[Any]]:
        """What would run: the PostgreSQL text and its parameters."""

@final
class Settings:
    """A checked configuration; `zmsg.Config` is its face."""

    @staticmethod
    def resolve(file: str | os.PathLike[str] | None, arguments: str) -> Settings: ...
    def overridden(self, arguments: str) -> Settings: ...
    def describe(self) -> str: ...

@final
class Completions:
    """The calls that one event loop waits for."""

    def __new__(cls) -> Completions: ...
    def __len__(self) -> int: ...
    def fileno(self) -> int: ...
    def drain(self) -> None: ...
    def cancel(self, ticket: int) -> None: ...

@final
class Engine:
    """An engine. What does I/O gives the ticket of the call with a port, and the result itself without."""

    def lookup(self, key: str) -> Any: ...
    def peek(self, key: str) -> bytes | None: ...
    def get(self, key: str, read: _Read, timeout: _Time, port: _Port) -> Any: ...
    def get_required(self, key: str, read: _Read, timeout: _Time, port: _Port) -> Any: ...
    def get_or_begin(self, key: str, life: _Life, timeout: _Time, port: _Port) -> Any: ...
    def db_hit(self, key: str, timeout: _Time, port: _Port) -> Any: ...
    def get_many(self, keys: Iterable[str], read: _Read, timeout: _Time, port: _Port) -> Any: ...
    def cache_only(
        self, key: str, data: Any, ttl: _Time, tags: Iterable[str] | None, timeout: _Time, port: _Port
    ) -> Any: ...
    def cache_and_store(
        self,
        key: str | None,
        data: Any,
        task: _Tasks,
        ttl: _Time,
        invalidates: Iterable[str] | None,
        tags: Iterable[str] | None,
        bloom_keys: Iterable[str] | None,
        timeout: _Time,
        port: _Port,
    ) -> Any: ...
    def periodic_now(
        self, key: str | None, task: _Tasks, invalidates: Iterable[str] | None, bloom_keys: Iterable[str] | None
    ) -> Receipt | None: ...
    def cache_and_periodic_store(
        self,
        key: str | None,
        data: Any,
        task: _Tasks,
        ttl: _Time,
        invalidates: Iterable[str] | None,
        tags: Iterable[str] | None,
        bloom_keys: Iterable[str] | None,
        timeout: _Time,
        port: _Port,
    ) -> Any: ...
    def cache_and_delay_store(
        self, key: str | None, data: Any, task: _Tasks, options: _Delay, timeout: _Time, port: _Port
    ) -> Any: ...
    def del_delay_store(self, key: str | None, task: _Tasks, options: _Delay, timeout: _Time, port: _Port) -> Any: ...
    def cancel_delayed(self, op_id: str, timeout: _Time, port: _Port) -> Any: ...
    def pause_queue(self, timeout: _Time, port: _Port) -> Any: ...
    def resume_queue(self, timeout: _Time, port: _Port) -> Any: ...
    def flush(self, timeout: _Time, port: _Port) -> Any: ...
    def pending(self, task: _Runnable, timeout: _Time, port: _Port) -> Any: ...
    def dead_letters(self, after: int, limit: int, timeout: _Time, port: _Port) -> Any: ...
    def retry_dead(self, id: int, timeout: _Time, port: _Port) -> Any: ...
    def retry_all_dead(self, timeout: _Time, port: _Port) -> Any: ...
    def drop_dead(self, id: int, timeout: _Time, port: _Port) -> Any: ...
    def delete(self, key: str, timeout: _Time, port: _Port) -> Any: ...
    def add(self, key: str, data: Any, ttl: _Time, tags: Iterable[str] | None, timeout: _Time, port: _Port) -> Any: ...
    def touch(self, key: str, ttl: _Time, timeout: _Time, port: _Port) -> Any: ...
    def ttl(self, key: str, timeout: _Time, port: _Port) -> Any: ...
    def incr(self, key: str, by: int, ttl: _Time, timeout: _Time, port: _Port) -> Any: ...
    def cache_many(
        self,
        items: Iterable[tuple[str, Any]],
        ttl: _Time,
        tags: Iterable[str] | None,
        timeout: _Time,
        port: _Port,
    ) -> Any: ...
    def delete_many(self, keys: Iterable[str], timeout: _Time, port: _Port) -> Any: ...
    def keys(self, prefix: str, timeout: _Time, port: _Port) -> Any: ...
    def clear(self, prefix: str, timeout: _Time, port: _Port) -> Any: ...
    def invalidate_tag(self, tag: str, timeout: _Time, port: _Port) -> Any: ...
    def lock(self, name: str, ttl: _Time, wait: _Time, port: _Port) -> Any: ...
    def del_store(
        self,
        key: str | None,
        task: _Tasks,
        invalidates: Iterable[str] | None,
        bloom_keys: Iterable[str] | None,
        timeout: _Time,
        port: _Port,
    ) -> Any: ...
    def sql_exec(self, task: _Tasks, timeout: _Time, port: _Port) -> Any: ...
    def query(self, task: _Runnable, timeout: _Time, port: _Port) -> Any: ...
    def next_id(self, prefix: str | None = None) -> Any: ...
    def source(
        self,
        pattern: str,
        task: _Runnable,
        life: _Life,
        refresh_ahead: float | None,
        bloom: bool,
        keys: _Runnable | None,
    ) -> None: ...
    def load_dir(self, path: str | os.PathLike[str]) -> Migrations: ...
    def load(self, path: str | os.PathLike[str]) -> Migrations: ...
    def load_sql(self, text: str, name: str) -> Migrations: ...
    def health(self, timeout: _Time, port: _Port) -> Any: ...
    def stats(self) -> str: ...
    def close(self, port: _Port) -> Any: ...
    @property
    def closed(self) -> bool: ...

@final
class Load:
    """The duty to load a key. Dropped without a result it goes to somebody who waits."""

    @property
    def soft_timeout(self) -> float | None: ...
    def complete(self, data: Any, port: _Port) -> Any: ...
    def fail(self, cause: str, port: _Port) -> Any: ...
    def last_good(self, port: _Port) -> Any: ...
    def give_up(self) -> None: ...

@final
class Lock:
    """A lock of the core; `zmsg.Lock` is its face."""

    @property
    def name(self) -> str: ...
    @property
    def token(self) -> int: ...
    @property
    def held(self) -> bool: ...
    def extend(self, port: _Port) -> Any: ...
    def release(self, port: _Port) -> Any: ...
    def lost(self, port: _Port) -> Any: ...

@final
class Receipt:
    """A receipt of the core; `zmsg.Receipt` is its face."""

    @property
    def op_id(self) -> str: ...
    @property
    def rows_affected(self) -> int: ...
    @property
    def rows(self) -> list[dict[str, Any]]: ...
    @property
    def durability(self) -> str: ...
    @property
    def cached(self) -> bool: ...
    def done(self, timeout: _Time, port: _Port) -> Any: ...

@final
class Migrations:
    """Migrations that were loaded and not yet run."""

    def migrate(self, port: _Port) -> Any: ...
