"""Races that are forced, not hoped for."""

from __future__ import annotations

import time

from coherence.conftest import BOUND_MS
from coherence.fleet import Fleet
from coherence.redis_server import RedisServer

PAST = 1.1 * BOUND_MS / 1_000


def test_a_slow_reader_does_not_put_back_what_was_overwritten(fleet: Fleet) -> None:
    writer, reader, other = fleet.add("node", "python", "python")
    database = fleet.database
    verbs = ["store", "store_none", "del_store", "named", "delay"]
    for n, (verb, key) in enumerate(zip(verbs, fleet.SLOW, strict=True)):
        database.close_gate(key)
        slow = reader.start("get", keys=[key])
        while database.waits() == n:
            time.sleep(0.01)
        # The reader has the old row in its hands.
        token = writer.write(verb, key)
        database.open_gate(key)
        assert slow.result(60)["tokens"] == ["first"]
        assert (reader.get(key), other.get(key), writer.get(key)) == (token,) * 3, verb
    assert not fleet.check(BOUND_MS).kinds


def test_a_read_after_a_write_does_not_join_an_older_load(fleet: Fleet) -> None:
    [process] = fleet.add("python")
    database, key = fleet.database, fleet.SLOW[0]
    database.close_gate(key)
    older = process.start("get", keys=[key])
    while database.waits() == 0:
        time.sleep(0.01)
    token = process.write("store_none", key)
    newer = process.start("get", keys=[key])
    while database.waits() == 1:
        time.sleep(0.01)
    database.open_gate(key)
    assert older.result(60)["tokens"] == ["first"]
    assert newer.result(60)["tokens"] == [token]
    assert process.get(key) == token
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
