"""Delayed writes that are accepted in one language and run in the other. The Node package has to be built."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import zmsg.sync
from zmsg import sql

NODE = Path(__file__).resolve().parents[2] / "node"
TABLE = """
CREATE TABLE typed
    (i int8, f float8, n numeric, t timestamptz, b bytea, u uuid, x text, j jsonb, l int8[], nothing text)
"""
INSERT = "INSERT INTO typed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
VALUES = {
    "i": 2**53 + 1,
    "f": 0.1,
    "n": Decimal("12345678901234567890.123456789"),
    "t": datetime(2026, 1, 31, 12, 30, 0, 123000, timezone.utc),
    "b": bytes([0, 255, 10]),
    "u": UUID("0b7c1a2e-5d0f-4e7a-9c3d-1f2e3d4c5b6a"),
    "x": "é\U0010ffff",
    "j": {"a": [1, None], "b": "\u2028"},
    "l": [-(2**63), 2**63 - 1],
    "nothing": None,
}
# The same values as a Node program writes them.
IN_NODE = """[
    9007199254740993n, 0.1, "12345678901234567890.123456789", new Date("2026-01-31T12:30:00.123Z"),
    Buffer.from([0, 255, 10]), "0b7c1a2e-5d0f-4e7a-9c3d-1f2e3d4c5b6a", "é\\u{10ffff}", { a: [1, null], b: "\\u2028" },
    [-9223372036854775808n, 9223372036854775807n], null,
]"""


def node(program: str, config: dict[str, Any]) -> subprocess.Popen[str]:
    """A Node process in which `zm` is open, until its standard input ends."""
    assert (NODE / "dist" / "index.js").exists(), "the Node package is not built; run `make build-node`"
    text = f"""
const {{ sql, Zmsg }} = require("./dist/index.js");
(async () => {{
  const zm = await Zmsg.open({json.dumps(config)});
  {program}
  process.stdin.resume().once("end", () => zm.close());
}})();
"""
    return subprocess.Popen(["node", "-e", text], cwd=NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def typed(servers: dict[str, Any]) -> dict[str, Any]:
    """A configuration beside a table of many types."""
    with zmsg.sync.Zmsg.open(servers, queue={"worker": False}) as zm:
        zm.sql_exec(sql(TABLE))
    return servers


def test_what_python_accepts_runs_in_node(typed: dict[str, Any]) -> None:
    with zmsg.sync.Zmsg.open(typed, queue={"worker": False}) as zm, node("", typed) as worker:
        receipt = zm.cache_and_delay_store("k", "value", sql(INSERT, *VALUES.values()), delay=0, invalidates=["other"])
        refused = zm.cache_and_delay_store(None, None, sql("UPDATE typed SET i = 1 / ?::int8", 0), delay=0)
        receipt.done(timeout=60)
        assert zm.query(sql("SELECT * FROM typed")) == [VALUES]
        assert zm.get_text("k") == "value"
        with pytest.raises(zmsg.StoreError) as raised:
            refused.done(timeout=60)
        assert (raised.value.sqlstate, raised.value.op_id) == ("22012", refused.op_id)
        worker.communicate(timeout=30)
        assert worker.returncode == 0


def test_what_node_accepts_runs_in_python(typed: dict[str, Any]) -> None:
    program = f"""
  const task = sql({INSERT!r}, ...{IN_NODE});
  const receipt = await zm.cacheAndDelayStore("k", "value", task, {{ delay: 0, opId: "from-node" }});
  await receipt.done({{ timeout: "60s" }});
  const refused = await zm.delDelayStore(null, sql("UPDATE typed SET i = 1 / ?::int8", 0), {{ delay: 0 }});
  const error = await refused.done({{ timeout: "60s" }}).catch((error) => error);
  console.log(receipt.opId, receipt.durability, error.name, error.sqlstate);
"""
    enqueuing = {**typed, "queue": {"worker": False}}
    with zmsg.sync.Zmsg.open(typed) as zm, node(program, enqueuing) as other:
        told, _ = other.communicate(timeout=90)
        assert (other.returncode, told) == (0, "from-node redis_aof StoreError 22012\n")
        assert zm.query(sql("SELECT * FROM typed")) == [VALUES]
        assert zm.get_text("k") == "value"
        assert [letter.path for letter in zm.dead_letters()] == ["queue"]
