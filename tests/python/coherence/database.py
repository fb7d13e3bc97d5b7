"""The rows that a run reads and writes, and what the database knows of the order of its writes.

A trigger counts the versions of each item and logs which write made which, in the transaction of the write. So an
acknowledged, an aborted, an unknown and a delayed write are all told apart afterwards, whoever ran them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import zmsg.sync
from zmsg import sql

# Who writes an id that is in `gates` has its lock before it waits. Who reads one there by `read_slowly` waits before it
# has the row, or after. `waits` counts them, `reads` how often a slow source was asked.
_SCHEMA = """
CREATE TABLE items (id text PRIMARY KEY, version int8 NOT NULL DEFAULT 0, token text NOT NULL);
CREATE TABLE item_log (id text NOT NULL, version int8 NOT NULL, token text NOT NULL);
CREATE TABLE likes (id text PRIMARY KEY, n int8 NOT NULL DEFAULT 0);
CREATE TABLE gates (id text, at text, PRIMARY KEY (id, at));
CREATE SEQUENCE reads;
CREATE SEQUENCE waits;
CREATE FUNCTION wait_at(text, text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM gates WHERE id = $1 AND at = $2) THEN PERFORM nextval('waits'); END IF;
    WHILE EXISTS (SELECT FROM gates WHERE id = $1 AND at = $2) LOOP PERFORM pg_sleep(0.01); END LOOP;
END $$;
CREATE FUNCTION count_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wait_at(NEW.id, 'write');
    NEW.version := OLD.version + 1;
    INSERT INTO item_log VALUES (NEW.id, NEW.version, NEW.token);
    RETURN NEW;
END $$;
CREATE TRIGGER count_version BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION count_version();
CREATE FUNCTION read_slowly(text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    PERFORM nextval('reads');
    PERFORM wait_at($1, 'before read');
    SELECT token INTO found FROM items WHERE id = $1;
    PERFORM wait_at($1, 'after read');
    RETURN found;
END $$
"""


class Database:
    """The rows of one run."""

    def __init__(self, zm: zmsg.sync.Zmsg) -> None:
        self._zm = zm

    def create(self, items: Iterable[str], likes: Iterable[str]) -> None:
        """Makes the tables and one row for each of these keys."""
        self._zm.load_sql(_SCHEMA, name="coherence").migrate()
        self._zm.sql_exec(sql("INSERT INTO items (id, token) SELECT id, 'first' FROM unnest(?::text[]) id", [*items]))
        self._zm.sql_exec(sql("INSERT INTO likes (id) SELECT unnest(?::text[])", [*likes]))

    def versions(self) -> dict[tuple[str, str], int]:
        """The version of every token that was committed."""
        rows = self._zm.query(sql("SELECT id, token, version FROM item_log UNION SELECT id, 'first', 0 FROM items"))
        return {(row["id"], row["token"]): row["version"] for row in rows}

    @contextmanager
    def gate(self, at: str, key: str) -> Iterator[None]:
        """Meanwhile nobody gets past this point with this key: ``write``, and with slow keys before or after a read."""
        assert at in ("write", "before read", "after read")
        self._zm.sql_exec(sql("INSERT INTO gates VALUES (?, ?)", key, at))
        yield
        self._zm.sql_exec(sql("DELETE FROM gates WHERE id = ? AND at = ?", key, at))

    def wait_at_gate(self, count: int = 1) -> None:
        """Waits until so many have come to a closed gate."""
        end = time.monotonic() + 30
        while self._called("waits") < count:
            assert time.monotonic() < end, "nobody comes to the gate"
            time.sleep(0.01)

    def _called(self, sequence: str) -> int:
        row = self._zm.query(sql(f"SELECT last_value, is_called FROM {sequence}"))[0]
        return int(row["last_value"]) if row["is_called"] else 0

    def reads(self) -> int:
        """How often the slow source was asked."""
        return self._called("reads")

    def outbox(self) -> int:
        """What Redis has yet to be told."""
        return int(self._zm.query(sql("SELECT count(*) AS n FROM zmsg_outbox"))[0]["n"])

    def end_sessions(self) -> None:
        """Ends every other session, as a restart of the server does."""
        text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> ?"
        own = self._zm.query(sql("SELECT pg_backend_pid() AS pid"))[0]["pid"]
        self._zm.query(sql(text, own))
