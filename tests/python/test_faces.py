"""The public face: errors as the catalogue says, both doors alike, configuration, tasks."""

from __future__ import annotations

import builtins
import copy
import inspect
import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import zmsg
import zmsg.errors
import zmsg.sync
from zmsg import Config, ConfigError, TaskError, bind, counter, sql, table
from zmsg._native import error_catalogue

ROOT = Path(__file__).resolve().parents[2]
DSN = "postgresql://me:canary@localhost/x"


@pytest.mark.parametrize("line", error_catalogue(), ids=lambda line: line[0])
def test_an_error_is_what_the_catalogue_says(line: tuple[str, str, str, str, bool]) -> None:
    code, name, parent, also, retryable = line
    kind = getattr(zmsg.errors, name)
    assert getattr(zmsg, name) is kind
    error = kind("why")
    assert (kind.code, error.retryable, str(error)) == (code, retryable, "why")
    assert issubclass(kind, zmsg.ZmsgError)
    if parent:
        assert kind.__bases__[0] is getattr(zmsg.errors, parent)
    if also:
        assert issubclass(kind, getattr(builtins, also))
    again = pickle.loads(pickle.dumps(kind("why", sqlstate="40001", op_id="x", retryable=True)))
    assert (str(again), again.sqlstate, again.op_id, again.retryable) == ("why", "40001", "x", True)


def test_every_error_class_is_in_the_catalogue() -> None:
    assert set(zmsg.errors.__all__) == {line[1] for line in error_catalogue()}


async def test_a_store_error_says_what_the_database_said(zm: zmsg.Zmsg) -> None:
    with pytest.raises(zmsg.StoreError) as raised:
        await zm.query(sql("SELECT * FROM nowhere WHERE id = ?", "canary"))
    assert raised.value.sqlstate == "42P01"
    assert not raised.value.retryable
    assert "canary" not in f"{raised.value!r}{raised.value.__cause__!r}"
    with pytest.raises(KeyError) as absent:
        await zm.get("nope", required=True)
    assert str(absent.value).startswith("there is no value")


def verbs(cls: type) -> dict[str, Any]:
    return {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}


def test_both_doors_have_the_same_verbs_and_parameters() -> None:
    ours, theirs = verbs(zmsg.Zmsg), verbs(zmsg.sync.Zmsg)
    assert ours.keys() == theirs.keys()
    for name, verb in ours.items():
        if callable(verb) and name != "open":
            assert inspect.signature(verb) == inspect.signature(theirs[name]), name
        assert not inspect.iscoroutinefunction(theirs[name]), name
    for ours_too, theirs_too in ((zmsg.Migrations, zmsg.sync.Migrations), (zmsg.Receipt, zmsg.sync.Receipt)):
        assert verbs(ours_too).keys() == verbs(theirs_too).keys()


def test_the_blocking_doors_types_are_generated_from_the_verbs() -> None:
    command = [sys.executable, ROOT / "tools" / "sync_stub.py"]
    stub = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "python/zmsg/sync.pyi").read_text(encoding="utf-8") == stub, "run python tools/sync_stub.py --write"


def test_stats_has_every_figure_of_the_engine(blocking: zmsg.sync.Zmsg) -> None:
    told = json.loads(blocking._engine.stats())
    assert told.keys() == {field.name for field in fields(zmsg.Stats)}
    with pytest.raises(FrozenInstanceError):
        blocking.stats().l1_hits = 5  # type: ignore[misc]


def test_star_import_shadows_no_builtin() -> None:
    assert not set(zmsg.__all__) & set(dir(builtins))
    assert all(hasattr(zmsg, name) for name in zmsg.__all__)


# ---- configuration ------------------------------------------------------------------------------------------------


def test_a_config_is_checked_immutable_and_silent_about_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZMSG_REDIS_ADDR", raising=False)
    monkeypatch.setenv("ZMSG_POSTGRES_DSN", "postgresql://env@localhost/env")
    config = Config(postgres_dsn=DSN, default_ttl=timedelta(hours=3), timeout=2.5, queue={"concurrency": 3})
    assert config.describe()["default_ttl"] == "3h"
    assert config.describe()["queue"]["concurrency"] == 3
    assert "canary" not in repr(config) + str(config) + repr(config.describe())
    assert copy.copy(config).describe() == config.describe()
    for change in (lambda: setattr(config, "timeout", 3), lambda: delattr(config, "_settings")):
        with pytest.raises(AttributeError):
            change()
    path = tmp_path / "zmsg.yaml"
    path.write_text("postgres_dsn: postgresql://file@localhost/file\nnamespace: filed\n")
    loaded = zmsg.load_config(path)
    assert loaded.describe()["namespace"] == "filed"
    assert "/env" in loaded.describe()["postgres_dsn"], "the environment wins over the file"
    assert loaded.overridden(namespace="other").describe()["namespace"] == "other"


@pytest.mark.parametrize(
    "keys",
    [
        {"postgres_dns": DSN},
        {"postgres_dsn": DSN, "timeout": "soon"},
        {"postgres_dsn": DSN, "timeout": -1},
        {"postgres_dsn": DSN, "pool_size": "many"},
        {"postgres_dsn": DSN, "pool_size": 2**70},
        {"postgres_dsn": DSN, "tls_ca": 1j},
        {"postgres_dsn": 5},
        {"postgres_dsn": DSN, "ttl_jitter": float("nan")},
        {"postgres_dsn": DSN, "namespace": "\ud800"},
    ],
    ids=lambda keys: str(list(keys.items())[-1])[:40],
)
def test_a_bad_configuration_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(**keys)
    assert "canary" not in str(raised.value)


def test_open_takes_a_path_a_config_a_dict_or_nothing(
    servers: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POSTGRES_DSN", "REDIS_ADDR"):
        monkeypatch.delenv(f"ZMSG_{name}")
    path = tmp_path / "zmsg.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in servers.items()))
    for config in (path, str(path), servers, Config(**servers)):
        with zmsg.sync.Zmsg.open(config, timeout=9) as zm:
            assert zm.health().ok
    with zmsg.sync.Zmsg.open(**servers) as zm:
        assert zm.health().ok
    with pytest.raises(ConfigError):
        zmsg.sync.Zmsg.open(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        zmsg.sync.Zmsg.open(tmp_path / "absent.yaml")


# ---- tasks --------------------------------------------------------------------------------------------------------


def test_a_task_shows_its_text_and_never_its_values() -> None:
    for made in (
        sql("SELECT ?", "canary"),
        counter("t", "n").inc(7331).where("id = ?", "canary"),
        zmsg.slice("t", "tags").add("canary").where("id = ?", "canary"),
        zmsg.map("t", "extra").set("canary", "canary").where("id = ?", 1),
        sql("SELECT ?::text").prepare(),
    ):
        assert "canary" not in repr(made)
        assert "7331" not in repr(made)
        assert "SELECT" in repr(made) or "UPDATE" in repr(made)
    assert "unfinished" in repr(counter("t", "n").inc(1))


def test_builders_are_immutable_and_build_is_optional(blocking: zmsg.sync.Zmsg) -> None:
    base = table("t").column("n").counter()
    half = base.inc(1)
    assert half.inc(1).where("id = ?", 1).render() != half.where("id = ?", 1).render()
    assert half.where("id = ?", 1).build().render() == half.where("id = ?", 1).batch_key("k").render()
    blocking.sql_exec(sql("CREATE TABLE t (id int PRIMARY KEY, n numeric NOT NULL DEFAULT 0)"))
    like = half.where("id = ?", bind).or_insert(id=bind).prepare()
    for _ in range(3):
        blocking.sql_exec(like(7, 7))
    blocking.sql_exec([counter("t", "n").inc(Decimal("0.5")).where("id = ?", 7), sql("INSERT INTO t VALUES (8)")])
    assert blocking.query(sql("SELECT id, n FROM t ORDER BY id")) == [{"id": 7, "n": Decimal("3.5")}, {"id": 8, "n": 0}]


@pytest.mark.parametrize(
    "make",
    [
        lambda: sql("SELECT ?", 1, 2),
        lambda: sql("SELECT 'open"),
        lambda: sql("SELECT /* open"),
        lambda: sql("SELECT $1", 1),
        lambda: sql("SELECT %s", 1),
        lambda: sql("SELECT a ?| b"),
        lambda: sql("SELECT 1; SELECT 2"),
        lambda: sql(""),
        lambda: sql(None),
        lambda: sql(b"SELECT 1"),
        lambda: sql("SELECT \ud800"),
        lambda: table(""),
        lambda: table("x" * 64),
        lambda: table("a\0b"),
        lambda: counter("t", None),
        lambda: counter("t", "n").build(),
        lambda: counter("t", "n").inc(1).build(),
        lambda: counter("t", "n").inc("1").where("id = ?", 1).build(),
        lambda: counter("t", "n").inc(float("nan")).where("id = ?", 1).build(),
        lambda: counter("t", "n").inc(2**64),
        lambda: counter("t", "n").inc(1).where("id = ?; DROP TABLE t", 1),
        lambda: counter("t", "n").inc(1).where("id = 1) OR (true"),
        lambda: zmsg.map("t", "m").set("k", {1, 2}),
        lambda: sql("SELECT 1").prepare(),
        lambda: sql("SELECT ?").prepare()(1, 2),
        lambda: sql("INSERT INTO t VALUES (?)", 1).on_conflict("id").do_update(),
        lambda: sql("SELECT 1").returning(5),
    ],
)
def test_a_bad_task_is_refused_when_it_is_built(make: Any) -> None:
    with pytest.raises(TaskError):
        make()


async def test_a_template_does_not_run(zm: zmsg.Zmsg) -> None:
    template = sql("SELECT ?")
    for call in (zm.sql_exec(template), zm.query(template), zm.cache_and_store("k", b"v", template)):
        with pytest.raises(TaskError, match="template"):
            await call
