"""Forks and the interpreter's end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

Program = Callable[..., subprocess.CompletedProcess[str]]


def check(done: subprocess.CompletedProcess[str], *lines: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n")[:-1] == list(lines), done.stderr
    assert "Traceback" not in done.stderr
    assert "panicked" not in done.stderr


FORK = """
import asyncio, os, sys, zmsg, zmsg.sync
from zmsg import sql

def child_of(work):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            sys.stdout.flush()
            os._exit(0)
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_forked_child_opens_its_own_connections(program: Program) -> None:
    done = program(
        FORK
        + """
zm = zmsg.sync.Zmsg.open()
zm.sql_exec(sql("CREATE TABLE feeds (id text PRIMARY KEY, content text)"))
zm.sql_exec(sql("INSERT INTO feeds VALUES ('feed_1', 'one')"))
zm.source("feed_*", sql("SELECT content FROM feeds WHERE id = ?"))
backend = "SELECT pg_backend_pid() AS pid"
ids = {zm.next_id() for _ in range(1000)}
r, w = os.pipe()

def work():
    assert zm.peek("feed_1") is None
    os.write(w, b"".join(zm.next_id().to_bytes(8, "big") for _ in range(1000)))
    assert zm.get("feed_1") == b"one"
    assert zm.cache_and_store("k", b"v", sql("INSERT INTO feeds VALUES ('k', 'child')")).cached
    zm.close()
    assert zm.closed

child_of(work)
theirs = os.read(r, 8000)
ids |= {int.from_bytes(theirs[at:at + 8], "big") for at in range(0, 8000, 8)}
assert len(ids) == 2000
assert not zm.closed
assert zm.get("k") == b"v"
assert zm.query(sql("SELECT content FROM feeds WHERE id = 'k'")) == [{"content": "child"}]
zm.close()
print("done")
"""
    )
    check(done, "done")


def test_a_child_that_closes_or_ends_leaves_the_parent_alone(program: Program) -> None:
    done = program(
        FORK
        + """
zm = zmsg.sync.Zmsg.open()
child_of(zm.close)
child_of(lambda: None)
child_of(lambda: exec("global zm; del zm", globals()))
def nested():
    assert zm.health().ok
    child_of(lambda: print("grandchild", zm.health().ok))
child_of(nested)
print(zm.health().ok, zm.query(sql("SELECT 1 AS one")))
zm.close()
child_of(lambda: print(zm.closed))
"""
    )
    check(done, "grandchild True", "True [{'one': 1}]", "True")


def test_a_forked_child_uses_the_queue_and_that_of_the_parent_goes_on(program: Program) -> None:
    done = program(
        FORK
        + """
zm = zmsg.sync.Zmsg.open()
zm.sql_exec(sql("CREATE TABLE t (n serial PRIMARY KEY, what text NOT NULL)"))
def add(what, **options):
    return zm.cache_and_delay_store("k", None, sql("INSERT INTO t (what) VALUES (?)", what), **options)

add("before", delay=0).done(timeout="10s")
waiting = add("waiting", delay="500ms")

def work():
    # Behind what the parent had accepted, whoever runs that.
    add("child", delay=0).done(timeout="10s")
    try:
        waiting.done()
    except zmsg.ClosedError:
        pass
    left = add("left", delay="200ms")
    zm.close()

child_of(work)
def opens():
    other = zmsg.sync.Zmsg.open()
    task = sql("INSERT INTO t (what) VALUES (?)", "opened")
    other.cache_and_delay_store("k", None, task, delay=0).done(timeout="10s")
    other.close()

child_of(opens)
waiting.done(timeout="10s")
add("after", delay=0).done(timeout="10s")
print([row["what"] for row in zm.query(sql("SELECT what FROM t ORDER BY n"))])
print(zm.dead_letters())
zm.close()
"""
    )
    check(done, "['before', 'waiting', 'child', 'left', 'opened', 'after']", "[]")


def test_a_forked_child_draws_other_operation_ids_than_its_parent(program: Program) -> None:
    done = program(
        FORK
        + """
zm = zmsg.sync.Zmsg.open()
zm.sql_exec(sql("CREATE TABLE t (n serial PRIMARY KEY)"))
def draw():
    task = sql("INSERT INTO t DEFAULT VALUES")
    return [zm.cache_and_delay_store(None, None, task, delay="1h").op_id for _ in range(20)]

# Whatever they are drawn from has begun before the fork.
drawn, (reading, writing) = draw(), os.pipe()
for _ in range(3):
    child_of(lambda: os.write(writing, (" ".join(draw()) + " ").encode()))
drawn += draw()
drawn += os.read(reading, 1 << 16).decode().split()
print(len(drawn), len(set(drawn)))
zm.close()
"""
    )
    check(done, "100 100")


def test_a_child_of_asyncio_runs_its_own_loop(program: Program) -> None:
    done = program(
        FORK
        + """
async def main():
    zm = await zmsg.Zmsg.open()
    await zm.cache_only("k", b"v")
    task = asyncio.create_task(zm.query(sql("SELECT pg_sleep(0.3)::text AS it")))
    await asyncio.sleep(0.05)
    return zm, task

loop = asyncio.new_event_loop()
zm, task = loop.run_until_complete(main())

async def use():
    found = await asyncio.gather(*(zm.get("k") for _ in range(50)))
    await zm.close()
    return found

def work():
    assert asyncio.run(use())[0] == b"v"

child_of(work)
print(loop.run_until_complete(task))
print(loop.run_until_complete(zm.get("k")))
loop.run_until_complete(zm.close())
loop.close()
"""
    )
    check(done, "[{'it': ''}]", "b'v'")


def test_multiprocessing_children_share_an_engine(program: Program) -> None:
    done = program(
        """
import multiprocessing, zmsg.sync
from zmsg import counter, sql

def work(n):
    for _ in range(20):
        zm.sql_exec(counter("t", "n").inc(1).where("id = ?", 1))
    return [zm.next_id() for _ in range(100)]

zm = zmsg.sync.Zmsg.open()
zm.sql_exec(sql("CREATE TABLE t (id int PRIMARY KEY, n int8 NOT NULL)"))
zm.sql_exec(sql("INSERT INTO t VALUES (1, 0)"))
with multiprocessing.get_context("fork").Pool(3) as pool:
    ids = [id for ids in pool.map(work, range(6)) for id in ids]
assert len(set(ids)) == 600
print(zm.query(sql("SELECT n FROM t")))
"""
    )
    check(done, "[{'n': 120}]")


ENDS = {
    "open": "zm = zmsg.sync.Zmsg.open(); zm.cache_only('k', b'v')",
    "exit": "zm = zmsg.sync.Zmsg.open(); sys.exit(0)",
    "never_opened": "pass",
    "asyncio": "asyncio.run(begin())",
    "pending": "loop = asyncio.new_event_loop(); zm, task = loop.run_until_complete(pending())",
    "daemon": (
        "zm = zmsg.sync.Zmsg.open()\n"
        "threading.Thread(target=lambda: zm.query(zmsg.sql('SELECT pg_sleep(20)')), daemon=True).start()\n"
        "time.sleep(0.3)"
    ),
    "daemons_at_work": (
        "zm = zmsg.sync.Zmsg.open()\n"
        "def work():\n    while True: zm.cache_only('k', b'v'); zm.get('absent')\n"
        "for _ in range(8): threading.Thread(target=work, daemon=True).start()\n"
        "time.sleep(0.3)"
    ),
    "atexit": "zm = zmsg.sync.Zmsg.open(); atexit.register(zm.close)",
    "del": (
        "class Late:\n    def __del__(self): self.zm.peek('k')\n"
        "late = Late(); late.zm = zmsg.sync.Zmsg.open(); late.it = late"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_without_close(end: str, program: Program) -> None:
    done = program(
        f"""
import asyncio, atexit, sys, threading, time, zmsg, zmsg.sync
async def begin():
    zm = await zmsg.Zmsg.open()
    asyncio.create_task(zm.query(zmsg.sql("SELECT pg_sleep(20)")))
    await asyncio.sleep(0.1)
async def pending():
    zm = await zmsg.Zmsg.open()
    task = asyncio.create_task(zm.query(zmsg.sql("SELECT pg_sleep(20)")))
    await asyncio.sleep(0.1)
    return zm, task
{ENDS[end]}
""",
        seconds=15,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fatal" not in done.stderr
    assert "panicked" not in done.stderr


def test_ctrl_c_ends_a_blocking_call(program: Program) -> None:
    done = program(
        """
import os, signal, threading, time, zmsg.sync
# A shell that starts a job in the background has it ignore SIGINT, and a child inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
zm = zmsg.sync.Zmsg.open()
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    zm.query(zmsg.sql("SELECT pg_sleep(20)"))
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 5)
print(zm.query(zmsg.sql("SELECT 1 AS one")))
zm.close()
"""
    )
    check(done, "interrupted True", "[{'one': 1}]")
