"""Runs tests/scenarios/*.json through both front doors of the package. Rust and Node run the same files."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scenario_json import data, decode, parse_json, same, shown, tagged

import zmsg
import zmsg.sync

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tests" / "scenarios").glob("*.json"))
SCENARIOS = [(file.stem, scenario) for file in FILES for scenario in parse_json(file.read_text())]
PARTIAL = {
    "cache_and_store",
    "cache_and_periodic_store",
    "cache_and_delay_store",
    "del_delay_store",
    "del_store",
    "flush",
    "sql_exec",
    "health",
    "stats",
    "migrate",
}


def chain(calls: list[list[Any]]) -> Any:
    """Builds a task from its chain of calls."""
    (name, *args), *rest = calls
    made = getattr(zmsg, name)(*map(argument, args))
    for step, *arguments in rest:
        if step == "call":
            made = made(*map(argument, arguments))
        elif step == "or_insert":
            made = made.or_insert(**{column: argument(value) for column, value in arguments[0].items()})
        else:
            made = getattr(made, step)(*map(argument, arguments))
    return made


def argument(value: Any) -> Any:
    return zmsg.bind if tagged(value) == ("bind", True) else decode(value)


def task(written: Any) -> Any:
    if isinstance(written, dict):
        return [chain(calls) for calls in written["all"]]
    return chain(written)


class Stage:
    """One scenario at work: its database, its namespace, its engines."""

    def __init__(self, door: Any, config: dict[str, Any]) -> None:
        self.door = door
        self.config = config
        self.engines: dict[str, Any] = {}
        self.receipts: dict[str, Any] = {}

    async def wait(self, result: Any) -> Any:
        return await result if inspect.isawaitable(result) else result

    async def engine(self, name: str) -> Any:
        if name not in self.engines:
            self.engines[name] = await self.wait(self.door.open(**self.config))
        return self.engines[name]

    async def run(self, step: dict[str, Any]) -> Any:
        verb = step["do"]
        if verb == "open":
            return await self.wait(self.door.open(**{**self.config, **step.get("config", {})}))
        if verb == "render":
            made = task(step["task"])
            text, params = made.render() if hasattr(made, "render") else made.build().render()
            return {"sql": text, "params": list(params)}
        zm = await self.engine(step.get("engine", "a"))
        return await self.wait(getattr(self, f"do_{verb}")(zm, step, self.options(step)))

    def options(self, step: dict[str, Any]) -> dict[str, Any]:
        names = (
            "ttl",
            "absent_ttl",
            "timeout",
            "invalidates",
            "required",
            "delay",
            "op_id",
            "coalesce",
            "task_timeout",
            "limit",
            "tags",
            "by",
        )
        return {name: decode(step[name]) for name in names if name in step}

    def do_peek(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return read_back(step, zm.peek(decode(step["key"])))

    async def do_get(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return read_back(step, await self.wait(zm.get(decode(step["key"]), **options)))

    def do_get_json(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.get_json(decode(step["key"]), **options)

    def do_get_text(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.get_text(decode(step["key"]), **options)

    async def do_get_many(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        found = await self.wait(zm.get_many(decode(step["keys"]), **options))
        return {key: shown(value) for key, value in found.items()}

    def do_cache_only(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.cache_only(decode(step["key"]), data(step["data"]), **options)

    def do_del(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.delete(decode(step["key"]), **options)

    def do_add(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.add(decode(step["key"]), data(step["data"]), **options)

    def do_touch(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.touch(decode(step["key"]), **options)

    async def do_ttl(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        left = await self.wait(zm.ttl(decode(step["key"]), **options))
        return "some" if isinstance(left, float) and left > 0 else left

    def do_incr(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.incr(decode(step["key"]), **options)

    def do_cache_many(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.cache_many(step["items"], **options)

    def do_delete_many(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.delete_many(decode(step["keys"]), **options)

    def do_keys(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.keys(step["prefix"], **options)

    def do_clear(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.clear(step["prefix"], **options)

    def do_invalidate_tag(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.invalidate_tag(decode(step["tag"]), **options)

    async def do_cache_and_store(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        written = zm.cache_and_store(decode(step["key"]), data(step["data"]), task(step["task"]), **options)
        return await self.receipt(written)

    async def do_del_store(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return await self.receipt(zm.del_store(decode(step["key"]), task(step["task"]), **options))

    async def do_cache_and_periodic_store(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        told = {}
        for _ in range(step.get("times", 1)):
            key, given = decode(step["key"]), data(step["data"])
            receipt = await self.wait(zm.cache_and_periodic_store(key, given, task(step["task"]), **options))
            told = self.told(receipt)
        return told

    async def do_cache_and_delay_store(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        key, given = decode(step["key"]), data(step["data"])
        return await self.later(step, lambda: zm.cache_and_delay_store(key, given, task(step["task"]), **options))

    async def do_del_delay_store(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        key = decode(step["key"])
        return await self.later(step, lambda: zm.del_delay_store(key, task(step["task"]), **options))

    async def later(self, step: dict[str, Any], accept: Callable[[], Any]) -> dict[str, Any]:
        """Accepts a delayed write as often as the step says, and keeps the last receipt."""
        for _ in range(step.get("times", 1)):
            receipt = await self.wait(accept())
        self.receipts[step.get("as", "")] = receipt
        return self.told(receipt)

    def do_done(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return self.receipts[step["receipt"]].done(**options)

    def do_cancel_delayed(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        op_id = step["op_id"] if "op_id" in step else self.receipts[step["receipt"]].op_id
        return zm.cancel_delayed(op_id)

    def do_pause_queue(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.pause_queue(**options)

    def do_resume_queue(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.resume_queue(**options)

    async def do_flush(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return dataclasses.asdict(await self.wait(zm.flush(**options)))

    def do_pending(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.pending(task(step["task"]), **options)

    async def do_dead_letters(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        if "nth" in step:
            options["after"] = await self.letter(zm, step)
        letters = await self.wait(zm.dead_letters(**options))
        # Of each letter what the step names.
        pairs = itertools.zip_longest(letters, step["expect"], fillvalue={})
        return [{name: getattr(letter, name) for name in part} if letter else None for letter, part in pairs]

    async def letter(self, zm: Any, step: dict[str, Any]) -> int:
        return step["id"] if "id" in step else (await self.wait(zm.dead_letters()))[step["nth"]].id

    async def do_retry_dead(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return await self.wait(zm.retry_dead(await self.letter(zm, step), **options))

    async def do_retry_all_dead(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return dataclasses.asdict(await self.wait(zm.retry_all_dead(**options)))

    async def do_drop_dead(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return await self.wait(zm.drop_dead(await self.letter(zm, step), **options))

    async def receipt(self, written: Any) -> dict[str, Any]:
        receipt = await self.wait(written)
        await self.wait(receipt.done())
        return self.told(receipt)

    def told(self, receipt: Any) -> dict[str, Any]:
        assert receipt.op_id
        return {name: getattr(receipt, name) for name in ("rows_affected", "rows", "durability", "cached")}

    async def do_sql_exec(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        done = await self.wait(zm.sql_exec(task(step["task"]), **options))
        return {"rows_affected": done.rows_affected, "rows": done.rows}

    def do_query(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.query(task(step["task"]), **options)

    def do_source(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        zm.source(step["pattern"], task(step["task"]), **options)

    def do_next_id(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        prefix = step.get("prefix")
        if prefix is None:
            return {"number": type(zm.next_id()) is int}
        made = zm.next_id(prefix)
        assert re.fullmatch(re.escape(prefix) + r"_[1-9][0-9]*", made), made
        return {"prefix": f"{prefix}_"}

    async def do_migrate(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        report = await self.wait(zm.load_sql(step["sql"], name=step["name"]).migrate())
        return {"applied": list(report.applied), "skipped": list(report.skipped)}

    async def do_health(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return {"ok": (await self.wait(zm.health())).ok}

    def do_stats(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return {name: getattr(zm.stats(), name) for name in step["expect"]}

    def do_close(self, zm: Any, step: dict[str, Any], options: dict[str, Any]) -> Any:
        return zm.close()


def read_back(step: dict[str, Any], got: bytes | None) -> Any:
    """Bytes where the scenario writes bytes, text otherwise."""
    tag = tagged(step.get("expect"))
    return got if tag and tag[0] == "bytes" else shown(got)


def check_error(error: zmsg.ZmsgError, expected: dict[str, Any]) -> None:
    assert error.code == expected["code"], repr(error)
    assert expected.get("message", "") in str(error), repr(error)
    for name in ("sqlstate", "retryable"):
        if name in expected:
            assert getattr(error, name) == expected[name], repr(error)
    assert "canary" not in f"{error}{error!r}"


@pytest.mark.parametrize("door", [zmsg.Zmsg, zmsg.sync.Zmsg], ids=["asyncio", "blocking"])
@pytest.mark.parametrize(
    "scenario",
    [scenario for _, scenario in SCENARIOS],
    ids=[f"{stem}: {scenario['name']}" for stem, scenario in SCENARIOS],
)
async def test_scenario(door: Any, scenario: dict[str, Any], servers: dict[str, Any]) -> None:
    stage = Stage(door, {**servers, **scenario.get("config", {})})
    await stage.wait((await stage.engine("a")).load_dir(ROOT / "schema").migrate())
    for number, step in enumerate(scenario["steps"], 1):
        place = f"step {number}: {step}"
        try:
            got = await stage.run(step)
        except zmsg.ZmsgError as error:
            if "error" not in step:
                raise
            check_error(error, step["error"])
            continue
        assert "error" not in step, f"{place} gave {got!r}"
        if "expect" not in step:
            continue
        pairs = [(got, step["expect"])]
        if step["do"] in PARTIAL:
            pairs = [(got[name], value) for name, value in step["expect"].items()]
        assert all(same(*pair) for pair in pairs), f"{place} gave {got!r}"
    for engine in stage.engines.values():
        await stage.wait(engine.close())


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 4
