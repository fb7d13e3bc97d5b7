"""Aggregated writes from Python: processes that fork, end, are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import typing
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import zmsg
import zmsg.sync
from zmsg import counter, sql

Program = Callable[..., subprocess.CompletedProcess[str]]

TABLE = "CREATE TABLE t (id int PRIMARY KEY, n int8 NOT NULL DEFAULT 0)"
LIKE = "zmsg.counter('t', 'n').inc(1).where('id = ?', 1)"


@pytest.fixture
def table(blocking: zmsg.sync.Zmsg) -> zmsg.sync.Zmsg:
    """An engine beside a table with one row."""
    blocking.sql_exec(sql(TABLE))
    blocking.sql_exec(sql("INSERT INTO t VALUES (1, 0)"))
    return blocking


def count(zm: zmsg.sync.Zmsg) -> int:
    number: int = zm.query(sql("SELECT n FROM t WHERE id = 1"))[0]["n"]
    return number


def becomes(zm: zmsg.sync.Zmsg, expected: int) -> None:
    """Waits until the row is what it should be: whoever adopts a journal looks every few seconds."""
    end = time.monotonic() + 20
    while (found := count(zm)) != expected:
        assert time.monotonic() < end, f"{found} of {expected}"
        time.sleep(0.02)


async def test_a_receipt_knows_when_its_operation_is_committed(zm: zmsg.Zmsg) -> None:
    await zm.sql_exec(sql(TABLE))
    await zm.sql_exec(sql("INSERT INTO t VALUES (1, 0)"))
    like = counter("t", "n").inc(1).where("id = ?", 1)
    receipts = [await zm.cache_and_periodic_store(None, None, like) for _ in range(3)]
    assert len({receipt.op_id for receipt in receipts}) == 3
    assert (receipts[0].durability, receipts[0].rows, receipts[0].rows_affected) == ("journal", [], 0)
    report = await zm.flush()
    assert (report.operations, report.rows) == (3, 1)
    await receipts[-1].done()
    poison = await zm.cache_and_periodic_store(None, None, counter("t", "n").inc(2**63 - 1).where("id = ?", 1))
    await zm.flush()
    with pytest.raises(zmsg.StoreError) as raised:
        await poison.done()
    assert (raised.value.sqlstate, raised.value.op_id) == ("22003", poison.op_id)


def test_the_blocking_door_waits_for_a_receipt(table: zmsg.sync.Zmsg) -> None:
    receipt = table.cache_and_periodic_store("key", b"value", counter("t", "n").inc(1).where("id = ?", 1))
    assert receipt.cached
    assert table.pending(counter("t", "n").inc(1).where("id = ?", 1)) == 1
    table.flush()
    receipt.done()
    assert count(table) == 1


def test_a_receipt_shows_its_operation(table: zmsg.sync.Zmsg) -> None:
    receipt = table.cache_and_periodic_store(None, None, counter("t", "n").inc(1).where("id = ?", 1))
    shown = f"op_id={receipt.op_id!r} durability='journal' cached=True"
    assert repr(receipt) == f"<zmsg.sync.Receipt {shown}>"
    assert repr(zmsg.Receipt(receipt._receipt)) == f"<zmsg.Receipt {shown}>"


def test_a_receipts_rows_are_made_once(table: zmsg.sync.Zmsg) -> None:
    receipt = table.cache_and_store(None, None, sql("UPDATE t SET n = 5").returning("n"))
    assert receipt.rows == [{"n": 5}]
    assert receipt.rows is receipt.rows


def test_waiting_for_a_receipt_may_end_before_the_flush(table: zmsg.sync.Zmsg) -> None:
    like = counter("t", "n").inc(1).where("id = ?", 1)
    receipt = table.cache_and_periodic_store(None, None, like)
    with pytest.raises(zmsg.TimeoutError, match=r"in the journal and will be applied") as raised:
        receipt.done(timeout="20ms")
    assert (raised.value.op_id, raised.value.retryable) == (receipt.op_id, True)
    assert table.pending(like) == 1
    table.flush()
    receipt.done(timeout=5)
    assert count(table) == 1


async def test_the_wait_for_a_receipt_is_timed_in_asyncio_too(zm: zmsg.Zmsg, servers: dict[str, Any]) -> None:
    await zm.sql_exec(sql(TABLE))
    async with zmsg.Zmsg.open(servers, journal="memory", batch_interval="1h") as forgetful:
        receipt = await forgetful.cache_and_periodic_store(None, None, counter("t", "n").inc(1).where("id = ?", 1))
        with pytest.raises(TimeoutError, match=r"in this process's memory") as raised:
            await receipt.done(timeout=timedelta(milliseconds=20))
        assert isinstance(raised.value, zmsg.TimeoutError)
        assert raised.value.op_id == receipt.op_id
        waiting = asyncio.create_task(receipt.done(timeout="1h"))
        await forgetful.flush()
        await waiting
    committed = await zm.cache_and_store(None, None, sql("INSERT INTO t VALUES (1, 0)"))
    await committed.done(timeout=1)
    for accepted in (receipt, committed):
        with pytest.raises(zmsg.TaskError, match="timeout"):
            await accepted.done(timeout=0)


async def test_pending_takes_a_builder_without_operations(zm: zmsg.Zmsg) -> None:
    await zm.sql_exec(sql("CREATE TABLE t (id int PRIMARY KEY, n int8, tags jsonb, extra jsonb)"))
    first = counter("t", "n").where("id = ?", 1).or_insert(id=1)
    assert await zm.pending(first) is None
    await zm.cache_and_periodic_store(None, None, first.inc(1))
    assert await zm.pending(first) == 1
    await zm.flush()
    number = counter("t", "n").where("id = ?", 1)
    tags = zmsg.slice("t", "tags").where("id = ?", 1)
    extra = zmsg.map("t", "extra").where("id = ?", 1)
    changes = [number.inc(1), tags.add("new"), extra.set("k", "v")]
    await zm.cache_and_periodic_store(None, None, changes)
    for _ in ("accepted", "flushed"):
        assert [await zm.pending(cell) for cell in (number, tags, extra)] == [2, ["new"], {"k": "v"}]
        await zm.flush()
    assert await zm.pending(number.inc(5)) == 2, "its own operations are not applied"
    with pytest.raises(zmsg.TaskError, match="no WHERE"):
        await zm.pending(counter("t", "n"))
    with pytest.raises(zmsg.TaskError, match="no operation"):
        await zm.cache_and_periodic_store(None, None, number)


def test_what_pending_gives_has_a_type() -> None:
    given = typing.get_type_hints(zmsg.Zmsg.pending)["return"]
    assert set(typing.get_args(given)) == {int, float, Decimal, list[Any], dict[str, Any], type(None)}


BAD_IDS = [
    ("1", "not str"),
    (b"1", "not bytes"),
    (1.0, "not float"),
    (True, "not bool"),
    (None, "not NoneType"),
    (0, "not 0"),
    (-1, "not -1"),
    (2**63, "not one of more than 64 bits"),
    (-(2**70), "not one of more than 64 bits"),
]


@pytest.mark.parametrize(("bad", "said"), BAD_IDS, ids=repr)
async def test_what_is_no_id_of_a_dead_letter_is_refused_by_name(zm: zmsg.Zmsg, bad: Any, said: str) -> None:
    for call in (zm.retry_dead(bad), zm.drop_dead(bad)):
        with pytest.raises(zmsg.TaskError) as raised:
            await call
        assert "the id of a dead letter must be a positive int, as dead_letters() gives it" in str(raised.value)
        assert str(raised.value).endswith(said)


async def test_dead_letters_come_in_pages_and_all_of_them_are_run_again(zm: zmsg.Zmsg) -> None:
    await zm.sql_exec(sql("CREATE TABLE t (id int PRIMARY KEY, n int8 NOT NULL CHECK (n < 10))"))
    await zm.sql_exec(sql("INSERT INTO t VALUES (1, 9), (2, 9)"))
    for row in (1, 2):
        await zm.cache_and_periodic_store(None, None, counter("t", "n").inc(1).where("id = ?", row))
        await zm.flush()
    older, newer = await zm.dead_letters()
    assert await zm.dead_letters(limit=1) == [older]
    assert await zm.dead_letters(after=older.id, limit=10_000) == [newer]
    assert await zm.dead_letters(after=newer.id) == []

    await zm.sql_exec(sql("UPDATE t SET n = 0 WHERE id = 2"))
    assert await zm.retry_all_dead(timeout=5) == zmsg.RetryReport(retried=1, refused=1)
    assert await zm.dead_letters() == [older]


def test_all_dead_letters_are_run_again_without_asyncio(table: zmsg.sync.Zmsg) -> None:
    table.cache_and_periodic_store(None, None, sql("INSERT INTO t VALUES (1, 1)"))
    table.flush()
    [letter] = table.dead_letters(limit=1)
    assert table.retry_all_dead() == zmsg.RetryReport(retried=0, refused=1)
    table.sql_exec(sql("DELETE FROM t"))
    assert table.retry_all_dead() == zmsg.RetryReport(retried=1, refused=0)
    assert (count(table), table.dead_letters(after=letter.id - 1)) == (1, [])


BAD_PAGES = [
    ({"after": "1"}, "after must be an int, not str"),
    ({"after": True}, "after must be an int, not bool"),
    ({"after": 2**63}, "after must be an int of at most 64 bits"),
    ({"limit": None}, "limit must be an int, not NoneType"),
    ({"limit": 1.0}, "limit must be an int, not float"),
    ({"limit": 0}, "dead letters are listed 1 to 10,000 at a time"),
    ({"limit": -1}, "dead letters are listed 1 to 10,000 at a time"),
    ({"limit": 2**32 + 1}, "dead letters are listed 1 to 10,000 at a time"),
]


@pytest.mark.parametrize(("page", "said"), BAD_PAGES, ids=repr)
async def test_what_is_no_page_of_dead_letters_is_refused_by_name(zm: zmsg.Zmsg, page: Any, said: str) -> None:
    with pytest.raises(zmsg.TaskError, match=said):
        await zm.dead_letters(**page)


def test_what_changes_rows_in_a_function_is_aggregated_by_call_or_do(table: zmsg.sync.Zmsg) -> None:
    add = "UPDATE t SET n = n + by WHERE id = 1"
    table.sql_exec(sql(f"CREATE FUNCTION add(by int) RETURNS void LANGUAGE sql AS $$ {add} $$"))
    table.sql_exec(sql(f"CREATE PROCEDURE add_too(by int) LANGUAGE sql AS $$ {add} $$"))
    with pytest.raises(zmsg.TaskError, match=r"DO \$\$BEGIN PERFORM f\(\); END\$\$, or CALL a procedure"):
        table.cache_and_periodic_store(None, None, sql("SELECT add(?)", 1))
    table.cache_and_periodic_store(None, None, sql("DO $$BEGIN PERFORM add(1); END$$"))
    table.cache_and_periodic_store(None, None, sql("CALL add_too(?)", 10))
    assert table.flush().dead == 0
    assert count(table) == 11


def test_parent_and_forked_child_each_count_on_their_own(program: Program, table: zmsg.sync.Zmsg) -> None:
    done = program(
        f"""
import os, zmsg, zmsg.sync
zm = zmsg.sync.Zmsg.open(batch_interval="1h")
like = {LIKE}
for _ in range(10): zm.cache_and_periodic_store(None, None, like)
pid = os.fork()
if pid == 0:
    try:
        for _ in range(5): zm.cache_and_periodic_store(None, None, like)
        assert zm.flush().operations == 5
        zm.close()
        os._exit(0)
    except BaseException as error:
        print("child:", repr(error), flush=True)
        os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
assert zm.query(zmsg.sql("SELECT n FROM t"))[0]["n"] == 5
assert zm.flush().operations == 10
zm.close()
"""
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert count(table) == 15


def test_a_receipt_of_the_parent_cannot_be_awaited_in_a_child(program: Program, table: zmsg.sync.Zmsg) -> None:
    done = program(
        f"""
import os, zmsg, zmsg.sync
zm = zmsg.sync.Zmsg.open(batch_interval="1h")
receipt = zm.cache_and_periodic_store(None, None, {LIKE})
committed = zm.cache_and_store(None, None, zmsg.sql("UPDATE t SET n = n"))
pid = os.fork()
if pid == 0:
    try:
        committed.done()
        receipt.done()
    except zmsg.ClosedError as error:
        os._exit(0 if "before the fork" in str(error) else 1)
    os._exit(2)
assert os.waitpid(pid, 0)[1] == 0
zm.flush()
receipt.done()
zm.close()
"""
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert count(table) == 1


def test_a_ttl_is_checked_also_where_nothing_is_cached(table: zmsg.sync.Zmsg) -> None:
    with zmsg.sync.Zmsg.open(batch_interval="1h") as zm, pytest.raises(zmsg.TaskError, match="ttl"):
        zm.cache_and_periodic_store(None, None, zmsg.counter("t", "n").inc(1).where("id = ?", 1).build(), ttl=-1)


def test_a_pool_of_forked_workers_loses_nothing(program: Program, table: zmsg.sync.Zmsg) -> None:
    done = program(
        f"""
import multiprocessing, zmsg, zmsg.sync
zm = zmsg.sync.Zmsg.open(batch_interval="1h")
def work(n):
    for _ in range(100): zm.cache_and_periodic_store(None, None, {LIKE})
work(0)
with multiprocessing.get_context("fork").Pool(3) as pool:
    pool.map(work, range(6), chunksize=1)
work(0)
"""
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # The pool ends its workers by a signal, and the program ends without close.
    becomes(table, 800)


ENDS = {
    "end of the script": "",
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "an exception": "raise SystemExit(0)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "a daemon thread": (
        "told, never = threading.Event(), threading.Event(); threading.Thread(daemon=True, target=lambda:"
        " (zm.cache_and_periodic_store(None, None, like), told.set(), never.wait())).start(); told.wait()"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_was_acknowledged_survives_an_end_without_close(end: str, program: Program, table: zmsg.sync.Zmsg) -> None:
    done = program(
        f"""
import os, signal, sys, threading, zmsg, zmsg.sync
zm = zmsg.sync.Zmsg.open(batch_interval="1h")
like = {LIKE}
for _ in range(1000): zm.cache_and_periodic_store(None, None, like)
{ENDS[end]}
"""
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    becomes(table, 1001 if end == "a daemon thread" else 1000)


def test_asyncio_ends_with_the_engine_open(program: Program, table: zmsg.sync.Zmsg) -> None:
    done = program(
        f"""
import asyncio, zmsg
async def main():
    zm = await zmsg.Zmsg.open(batch_interval="1h")
    for _ in range(1000): await zm.cache_and_periodic_store(None, None, {LIKE})
asyncio.run(main())
"""
    )
    assert done.returncode == 0, done.stdout + done.stderr
    becomes(table, 1000)


CONFIG = """
postgres_dsn: "{dsn}"
redis_addr: "{redis}"
l1_max_cost: 104857600
batch_interval: 5s
batch_size: 1000
default_ttl: 24h
queue:
  addr: "{redis}"
  concurrency: 10
  task_delay: 1s
"""


def test_the_documented_configuration_survives_a_kill(
    servers: dict[str, Any], table: zmsg.sync.Zmsg, tmp_path: Path
) -> None:
    """Nothing says where the journal is: it is in the user's state directory. One Redis is cache and queue."""
    file = tmp_path / "zmsg.yaml"
    file.write_text(CONFIG.format(dsn=servers["postgres_dsn"], redis=os.environ["ZMSG_QUEUE__ADDR"]))
    text = f"""
import os, signal, sys, zmsg, zmsg.sync
zm = zmsg.sync.Zmsg.open({str(file)!r})
for _ in range(5000): zm.cache_and_periodic_store(None, None, {LIKE})
os.kill(os.getpid(), signal.SIGKILL)
"""
    state = tmp_path / "state"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZMSG_")}
    environment["XDG_STATE_HOME"] = str(state)
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    [folder] = (state / "zmsg").iterdir()
    assert folder.name.startswith(servers["namespace"])
    settings = {**servers, "journal_dir": str(folder), "namespace": f"{servers['namespace']}_next"}
    with zmsg.sync.Zmsg.open(settings):
        becomes(table, 5000)


@pytest.fixture
def gunicorn(servers: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A service under `gunicorn --preload`, and where it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, **{f"ZMSG_{key.upper()}": value for key, value in servers.items()}}
    options = ["--preload", "--workers", "2", "--bind", address, "--log-level", "error", "--graceful-timeout", "5"]
    command = [sys.executable, "-m", "gunicorn", *options, "service:application"]
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parent, start_new_session=True)
    try:
        yield process, f"http://{address}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def post(url: str) -> str | None:
    """The answer to a like, or nothing if there was none."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def test_a_preloaded_gunicorn_loses_no_acknowledged_like(
    gunicorn: tuple[subprocess.Popen[bytes], str], table: zmsg.sync.Zmsg
) -> None:
    process, url = gunicorn
    end = time.monotonic() + 20
    while post(url) is None:
        assert time.monotonic() < end, "the service does not answer"
        assert process.poll() is None, "gunicorn ended"
        time.sleep(0.05)
    sent, told = 1, 1
    workers: set[int] = set()
    for number in range(400):
        answer = post(url)
        sent += 1
        if answer is not None:
            told += 1
            workers.add(int(answer))
        if number == 200:
            os.kill(max(workers), signal.SIGKILL)
    assert workers, "some worker answered"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert told > 300
    end = time.monotonic() + 20
    while count(table) < told:
        assert time.monotonic() < end, f"{count(table)} of {told}"
        time.sleep(0.02)
    assert told <= count(table) <= sent
