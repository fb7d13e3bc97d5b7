"""Races that are forced, not hoped for."""

from __future__ import annotations

import signal
import time

from coherence.conftest import BOUND_MS
from coherence.fleet import Fleet
from coherence.redis_server import RedisServer

PAST = 1.1 * BOUND_MS / 1_000


def test_a_slow_reader_does_not_put_back_what_was_overwritten(fleet: Fleet) -> None:
    writer, reader, other = fleet.add("node", "python", "python")
    verbs = ["store", "store_none", "del_store", "named", "delay"]
    for n, (verb, key) in enumerate(zip(verbs, fleet.SLOW, strict=True)):
        with fleet.database.gate("after read", key):
            slow = reader.start("get", keys=[key])
            # It has the old row in its hands.
            fleet.database.wait_at_gate(n + 1)
            token = writer.write(verb, key)
        assert slow.result(60)["tokens"] == ["first"]
        assert (reader.get(key), other.get(key), writer.get(key)) == (token,) * 3, verb
    assert not fleet.check(BOUND_MS).kinds


def test_a_read_after_a_write_does_not_join_an_older_load(fleet: Fleet) -> None:
    [process] = fleet.add("python")
    database, key = fleet.database, fleet.SLOW[0]
    with database.gate("after read", key):
        older = process.start("get", keys=[key])
        database.wait_at_gate(1)
        token = process.write("store_none", key)
        newer = process.start("get", keys=[key])
        database.wait_at_gate(2)
    assert older.result(60)["tokens"] == ["first"]
    assert newer.result(60)["tokens"] == [token]
    assert process.get(key) == token
    assert not fleet.check(BOUND_MS).kinds


def test_a_reader_that_saw_a_delayed_write_sees_nothing_older_later(fleet: Fleet) -> None:
    [process] = fleet.add("python", queue={"worker": False})
    database, key = fleet.database, fleet.SLOW[0]
    with database.gate("before read", key):
        with database.gate("write", key):
            storing = process.start("store", key=key)
            database.wait_at_gate(1)
            # The fence sends it to the database, whatever becomes of the key.
            slow = process.start("get", keys=[key])
            database.wait_at_gate(2)
        assert storing.result(60)["outcome"] == "ok"
        # Commits after that value was cached, and tells nobody.
        [worker] = fleet.add("python", crash="queue.after_commit:1", queue={"lease": "1s"})
        worker.start("delay", key=key)
        assert worker.killed()
    assert slow.result(60)["tokens"] == ["p1.1"]
    process.get(key)
    assert not fleet.check(BOUND_MS).kinds


def test_writers_that_overlap_leave_no_value_of_the_earlier_one(fleet: Fleet) -> None:
    one, two, reader = fleet.add("python", "node", "python")
    key = fleet.ITEMS[0]
    assert reader.get(key) == "first"
    with fleet.database.gate("write", key):
        # Both have fenced the key; the second waits for the row.
        first = one.start("store", key=key)
        fleet.database.wait_at_gate()
        second = two.start("store", key=key)
        time.sleep(0.3)
    assert {first.result(60)["outcome"], second.result(60)["outcome"]} == {"ok"}
    assert (one.get(key), two.get(key), reader.get(key)) == ("p1.1",) * 3
    assert not fleet.check(BOUND_MS).kinds


def test_a_writer_that_stood_still_past_its_fence_does_not_commit(fleet: Fleet) -> None:
    [reader] = fleet.add("node")
    # Its fence ends two seconds after its calls.
    [writer] = fleet.add("python", timeout="1s")
    key = fleet.ITEMS[0]
    assert reader.get(key) == "first"
    with fleet.database.gate("write", key):
        late = writer.start("store", key=key)
        fleet.database.wait_at_gate()
        writer.send(signal.SIGSTOP)
    time.sleep(3.2)
    # Nothing is in the way of this one, which fills the caches.
    assert reader.get(key) == "first"
    writer.send(signal.SIGCONT)
    assert late.result(60)["outcome"] == "unknown"
    time.sleep(PAST)
    assert reader.get(key) == "first"
    assert (key, "p1.1") not in fleet.database.versions()
    assert not fleet.check(BOUND_MS).kinds


def test_absences_and_short_lives_end_in_every_process(fleet: Fleet) -> None:
    writer, *readers = fleet.add("python", "node", "python")
    verbs = ["store", "store_none", "brief", "del_store", "named", "delay"]
    rows = dict(zip(fleet.ITEMS, verbs, strict=False))
    flash, *_ = fleet.flashes("p0")
    for key in rows:
        writer.write("remove", key)
    token = writer.write("flash", flash)
    # Those who come in time have it in memory by now, as they have the absences.
    assert all(reader.get(flash) in (None, token) for reader in readers)
    for reader in readers:
        assert reader.ask("get_many", keys=[*rows])["tokens"] == [None] * len(rows)
    tokens = [writer.write(verb, key) for key, verb in rows.items()]
    time.sleep(PAST + 0.1)
    for reader in readers:
        assert reader.ask("get", keys=[*rows])["tokens"] == tokens
        assert reader.get(flash) is None
    report = fleet.check(BOUND_MS)
    assert not report.kinds
    assert report.absent == len(readers) * len(rows)


def test_what_was_cleared_is_in_nobodys_memory(fleet: Fleet, redis: RedisServer) -> None:
    processes = fleet.add("python", "node", "python")
    writer, keys = processes[0], fleet.notes("p0")
    for clearing in processes[:2]:
        tokens = [writer.write("note", key) for key in keys]
        for process in processes:
            # From Redis at first, and then from memory.
            for key, token in zip(keys, tokens, strict=True):
                process.sees(key, token)
            while process.ask("peek", keys=keys)["tokens"] != tokens:
                process.ask("get", keys=keys)
        # Of what Redis has evicted it cannot say that it was dropped.
        assert redis.ask("DEL", f"{fleet.config['namespace']}:v:{{.{keys[0]}}}") == b":1"
        assert clearing.ask("clear", prefix="note_")["dropped"] == len(keys) - 1
        end = time.monotonic() + BOUND_MS / 1_000
        nothing = [None] * len(keys)
        # For itself at once, for the others in time.
        assert clearing.ask("get", keys=keys)["tokens"] == nothing
        for process in processes:
            begun = time.monotonic()
            while process.ask("get", keys=keys)["tokens"] != nothing:
                assert begun < end, f"{process.name} still has it"
                begun = time.monotonic()
            assert process.ask("peek", keys=keys)["tokens"] == nothing
    assert not fleet.check(BOUND_MS).kinds


def test_a_like_of_another_process_ends_what_memory_holds(fleet: Fleet) -> None:
    reader, liker = fleet.add("python", "node")
    [key, *_] = fleet.likes("p1")
    assert reader.get(key) == "0"
    assert reader.ask("peek", keys=[key])["tokens"] == ["0"]
    liker.write("like", key)
    liker.ask("flush")
    time.sleep(PAST)
    assert reader.get(key) == "1"
    assert not fleet.check(BOUND_MS).kinds


def test_a_delayed_write_of_another_process_ends_what_memory_holds(fleet: Fleet, redis: RedisServer) -> None:
    reader, writer = fleet.add("python", "node")
    kept, evicted = fleet.ITEMS[:2]
    for key in (kept, evicted):
        assert reader.get(key) == "first"
        assert reader.ask("peek", keys=[key])["tokens"] == ["first"]
    assert redis.ask("DEL", f"{fleet.config['namespace']}:v:{{.{evicted}}}") == b":1"
    tokens = {key: writer.write("delay", key) for key in (kept, evicted)}
    time.sleep(PAST)
    assert {key: reader.get(key) for key in tokens} == tokens
    assert not fleet.check(BOUND_MS).kinds
