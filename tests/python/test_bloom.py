"""Bloom filters from Python: what is declared, what is asked, what writes name."""

from __future__ import annotations

import time

import pytest

import zmsg
import zmsg.sync
from zmsg import TaskError, sql

READ = "SELECT content FROM feeds WHERE id = ?"
KEYS = "SELECT id FROM feeds"
INSERT = "INSERT INTO feeds (id, content) VALUES (?, 'new')"


@pytest.fixture
def feeds(blocking: zmsg.sync.Zmsg) -> zmsg.sync.Zmsg:
    """An engine whose family of feeds has a filter that answers."""
    blocking.sql_exec(sql("CREATE TABLE feeds (id text PRIMARY KEY, content text)"))
    blocking.sql_exec(sql("INSERT INTO feeds VALUES ('feed_1', 'hello')"))
    assert blocking.db_hit("feed_nobody"), "a family without a filter"
    blocking.source("feed_*", sql(READ), bloom=True, keys=sql(KEYS))
    until = time.monotonic() + 20
    while blocking.stats().bloom[0].state != "serving":
        assert time.monotonic() < until
        time.sleep(0.05)
    return blocking


def test_a_filter_says_no_and_every_write_tells_it(feeds: zmsg.sync.Zmsg) -> None:
    assert feeds.db_hit("feed_1") is True
    assert feeds.db_hit("feed_nobody") is False
    assert feeds.get("feed_nobody") is None
    assert feeds.get_many(["feed_1", "feed_no"]) == {"feed_1": b"hello"}
    assert feeds.stats().source_loads == 1

    feeds.cache_and_store("feed_a", "x", [sql(INSERT, "feed_a"), sql(INSERT, "feed_b")], bloom_keys=["feed_b"])
    feeds.del_store(None, sql(INSERT, "feed_c"), bloom_keys=["feed_c"], timeout=5)
    delayed = feeds.cache_and_delay_store(None, None, sql(INSERT, "feed_d"), delay=0, bloom_keys=["feed_d"])
    delayed.done(timeout=20)
    dropped = feeds.del_delay_store("feed_e", sql(INSERT, "feed_f"), delay=0, bloom_keys=["feed_f"])
    dropped.done(timeout=20)
    feeds.cache_and_periodic_store(None, None, sql(INSERT, "feed_g"), bloom_keys=["feed_g"])
    feeds.cache_and_periodic_store("feed_h", "x", sql(INSERT, "feed_h"), bloom_keys=["feed_i"])
    feeds.flush()
    for letter in "abcdefghi":
        assert feeds.db_hit(f"feed_{letter}"), letter

    (figures,) = feeds.stats().bloom
    assert (figures.pattern, figures.state, figures.generation, figures.capacity) == ("feed_*", "serving", 1, 1_000_000)
    assert 0 <= figures.error_rate < 0.01
    assert figures.noes == feeds.stats().bloom_noes >= 3


def test_what_cannot_be_a_filter_is_refused(blocking: zmsg.sync.Zmsg) -> None:
    for options in ({"bloom": True}, {"keys": sql("SELECT 'a'")}, {"bloom": True, "keys": sql("DELETE FROM t")}):
        with pytest.raises(TaskError):
            blocking.source("one", sql("SELECT 1"), **options)


async def test_asyncio_asks_the_same(zm: zmsg.Zmsg) -> None:
    assert await zm.db_hit("feed_1", timeout=5) is True
    with pytest.raises(TaskError):
        await zm.db_hit("")
