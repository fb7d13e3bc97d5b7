"""Values between Python and PostgreSQL."""

from __future__ import annotations

import datetime as dt
import enum
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest

import zmsg
from zmsg import Interval, TaskError, sql

UTC = dt.timezone.utc
ROUND_TRIPS: list[tuple[str, Any]] = [
    ("int8", None),
    ("bool", True),
    ("int2", -(2**15)),
    ("int4", 2**31 - 1),
    ("int8", -(2**63)),
    ("float8", 1.5),
    ("float8", math.inf),
    ("float4", 0.5),
    ("numeric", Decimal("123456789012345678901234567890.123456789")),
    ("numeric", Decimal("-0.00000000000000000001")),
    ("numeric", Decimal("1E+3")),
    ("text", "héllo \U0001f600 '\"\\ ; --"),
    ("text", ""),
    ("varchar", "x"),
    ("bytea", bytes(range(256))),
    ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("date", dt.date(1, 1, 2)),
    ("date", dt.date(2024, 2, 29)),
    ("date", dt.date.max),
    ("time", dt.time(23, 59, 59, 999999)),
    ("timestamp", dt.datetime(1969, 12, 31, 23, 59, 59, 999999)),
    ("timestamp", dt.datetime.max),
    ("timestamp", dt.datetime.min),
    ("timestamptz", dt.datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC)),
    ("timestamptz", dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-9, minutes=-30)))),
    ("interval", dt.timedelta(days=-3, microseconds=1)),
    ("interval", Interval(months=14, days=-1, microseconds=3)),
    ("int8[]", [1, 2, 3]),
    ("int8[]", []),
    ("text[]", ["a", None, 'with "quotes", and commas']),
    ("int4[]", [[1, 2], [3, 4]]),
    ("jsonb", {"a": [1, 2.5, None, True, {"é": "ü"}]}),
    ("jsonb", [1, "two", None]),
    ("json", {"z": 1, "a": 2}),
]


@pytest.mark.parametrize(("kind", "value"), ROUND_TRIPS, ids=[f"{kind}-{value!r}"[:40] for kind, value in ROUND_TRIPS])
def test_a_value_comes_back_as_it_went(kind: str, value: Any, blocking: zmsg.sync.Zmsg) -> None:
    (row,) = blocking.query(sql(f"SELECT ?::{kind} AS it", value))
    assert row == {"it": value}
    assert type(row["it"]) is type(value)


def test_bytes_like_objects_are_bytes() -> None:
    assert sql("SELECT ?, ?", bytearray(b"a"), memoryview(b"xbx")[1:2]).render()[1] == [b"a", b"b"]


def test_an_aware_datetime_is_its_instant() -> None:
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    (value,) = sql("SELECT ?", dt.datetime(2020, 1, 1, tzinfo=zone)).render()[1]
    assert value == dt.datetime(2019, 12, 31, 18, 30, tzinfo=UTC)


class Colour(enum.Enum):
    RED = 1


class Unknown:
    def __repr__(self) -> str:
        return "Unknown()"


_deep: list[Any] = []
_deep.append(_deep)
_cycle: dict[str, Any] = {}
_cycle["a"] = _cycle


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        ("\ud800", "lone surrogate"),
        ({"k": "\ud800"}, "lone surrogate"),
        (Colour.RED, "Colour"),
        (Unknown(), "Unknown"),
        (1j, "complex"),
        ({"a": [1, {2}]}, "$.a[1] is of type set"),
        ({"a": {"b": math.nan}}, "$.a.b is nan"),
        ({(1, 2): 3}, "$ has a key of type tuple"),
        (_deep, "holds itself"),
        (_cycle, "$.a holds itself"),
        ([1, [2, Unknown()]], "argument 1[1][1]"),
        (dt.time(1, tzinfo=UTC), "zone"),
        ("a\0b", "NUL"),
    ],
    ids=repr,
)
def test_what_has_no_counterpart_is_refused_by_name(value: Any, said: str) -> None:
    with pytest.raises(TaskError) as raised:
        sql("SELECT ?", value)
    assert said in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_a_year_that_python_lacks_is_an_error(blocking: zmsg.sync.Zmsg) -> None:
    with pytest.raises(zmsg.StoreError, match="9999"):
        blocking.query(sql("SELECT '0044-03-15 BC'::date AS d"))
    assert blocking.query(sql("SELECT 1 AS one")) == [{"one": 1}]


async def test_data_is_bytes_text_or_json(zm: zmsg.Zmsg) -> None:
    for data, stored in [
        (b"\xff\x00", b"\xff\x00"),
        (bytearray(b"x"), b"x"),
        ("é", "é".encode()),
        ({"é": [1, None]}, '{"é":[1,null]}'.encode()),
        (7, b"7"),
        (False, b"false"),
        ("", b""),
    ]:
        await zm.cache_only("k", data)
        assert await zm.get("k") == stored
        assert zm.peek("k") == stored
    await zm.cache_only("k", {"a": 1})
    assert await zm.get_json("k") == {"a": 1}
    assert await zm.get_text("k") == '{"a":1}'
    await zm.cache_only("k", b"\xff")
    for read in (zm.get_json, zm.get_text):
        with pytest.raises(TaskError, match="'k'"):
            await read("k")


@pytest.mark.parametrize("data", [None, {1, 2}, math.nan, Unknown(), "\udfff"], ids=repr)
async def test_data_without_a_form_is_refused(zm: zmsg.Zmsg, data: Any) -> None:
    with pytest.raises(TaskError):
        await zm.cache_only("k", data)
    assert await zm.get("k") is None
