"""A process of a run: `python worker.py SETTINGS`. It obeys orders, one line of JSON each, and records what it does.

SETTINGS is JSON: ``name``, ``config`` of the engine, ``record``, the file for its history (see history.py). An order
has an ``id``, which its answer repeats, and ``do``:

* ``get``, ``get_many``, ``peek``: reads ``keys``; answers with the ``tokens``;
* any of ``Worker.WRITES``, ``like``, ``note``, ``flash``: writes ``key``; answers with ``token``, ``outcome`` and
  ``ended``;
* ``flush``: sends off what was liked; ``clear``: empties the caches of all keys with a ``prefix``;
* ``watch``: reads ``key`` until it has ``token``; answers when that read ended;
* ``crowd``: ``count`` concurrent reads of ``key``; answers with the different tokens;
* ``run``: reads and writes at random, from ``seed``, until ``stop``; ``stats``; ``close``;
* ``count``: answers with the number of its ``reads``, of one key each;
* ``time``: answers with its ``wall`` clock, in seconds since 1970, and an id that it ``made``.

worker.mjs is the same in Node.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import zmsg
from zmsg import bind, counter, sql

BUMP = sql("UPDATE items SET token = ? WHERE id = ?").prepare()
# Runs after the row was changed, and fails.
BREAK = sql("INSERT INTO items (id, token) VALUES (?, 'broken')").prepare()
LIKE = counter("likes", "n").inc(1).where("id = ?", bind).prepare()
# A row whose token says that it was removed is none.
ITEM = sql("SELECT token FROM items WHERE id = ? AND token NOT LIKE '-%'")
# How long the values of brief writes and of flashes live.
LIFE_MS = 100


class Worker:
    """One engine, and the record of what it was asked for."""

    # What is written at random to keys that every process writes; likes, notes and flashes have one writer each.
    WRITES = ("store", "store_none", "brief", "del_store", "named", "remove", "abort", "delay")

    def __init__(self, name: str, zm: zmsg.Zmsg, record: str) -> None:
        self._name = name
        self._zm = zm
        self._record = open(record, "w")  # noqa: SIM115
        self._written = 0
        self._found = 0
        self._noted: dict[str, int] = {}
        self._noting: dict[str, asyncio.Lock] = {}
        self._liked: dict[str, int] = {}
        self._flushed: dict[str, int] = {}
        self._stop = asyncio.Event()

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        do = order["do"]
        if do in ("get", "get_many", "peek"):
            return {"tokens": await self._read(do, order["keys"])}
        if do == "watch":
            return await self._watch(order["key"], order["token"])
        if do == "crowd":
            found = await asyncio.gather(*(self._zm.get_text(order["key"]) for _ in range(order["count"])))
            return {"tokens": sorted(set(found), key=str)}
        if do == "run":
            return await self._run(order)
        if do == "stop":
            self._stop.set()
            return {}
        if do == "clear":
            return {"dropped": await self._zm.clear(order["prefix"])}
        if do == "count":
            return {"reads": self._found}
        if do == "time":
            return {"wall": time.time(), "made": self._zm.next_id()}
        if do == "stats":
            stats = self._zm.stats()
            return {name: getattr(stats, name) for name in order["names"]}
        return await self._write(do, order.get("key"))

    async def close(self) -> None:
        await self._zm.close()
        self._record.close()

    def _note(self, *line: Any) -> None:
        self._record.write(json.dumps(line, separators=(",", ":")) + "\n")

    async def _read(self, verb: str, keys: list[str]) -> list[str | None]:
        begun = time.monotonic_ns()
        if verb == "get_many":
            values = await self._zm.get_many(keys)
            found = [values.get(key) for key in keys]
        elif verb == "peek":
            found = [self._zm.peek(key) for key in keys]
        else:
            found = [await self._zm.get(key) for key in keys]
        ended = time.monotonic_ns()
        tokens = [None if value is None else value.decode() for value in found]
        pairs = [*zip(keys, tokens, strict=True)]
        if verb == "peek":
            # What is not in this process's memory is not absent.
            pairs = [pair for pair in pairs if pair[1] is not None]
        self._note("r", begun, ended, verb, pairs)
        self._found += len(pairs)
        return tokens

    async def _watch(self, key: str, token: str) -> dict[str, Any]:
        found: list[str | None] = []
        while found != [token]:
            found = await self._read("get", [key])
            await asyncio.sleep(0)
        return {"ended": time.monotonic_ns()}

    async def _write(self, verb: str, key: str | None) -> dict[str, Any]:
        self._written += 1
        token = f"{'-' if verb == 'remove' else ''}{self._name}.{self._written}"
        if verb == "flush":
            await self._flush()
            return {}
        assert key is not None
        if verb in ("note", "flash"):
            # Of two values at once nobody could say which is the later one.
            async with self._noting.setdefault(key, asyncio.Lock()):
                self._noted[key] = self._noted.get(key, 0) + 1
                return await self._finish(verb, key, str(self._noted[key]))
        return await self._finish(verb, key, token)

    async def _finish(self, verb: str, key: str, token: str) -> dict[str, Any]:
        begun, outcome = time.monotonic_ns(), "ok"
        try:
            await self._attempt(verb, key, token)
        except zmsg.ZmsgError as error:
            aborted = verb == "abort" and getattr(error, "sqlstate", None) == "23505"
            outcome = "aborted" if aborted else "unknown"
        ended = time.monotonic_ns()
        if verb != "like":
            life = [LIFE_MS] if verb == "flash" else []
            self._note("w", begun, ended, verb, key, token, outcome, *life)
            # What is acknowledged is known even if the process is killed next.
            self._record.flush()
        return {"token": token, "outcome": outcome, "ended": ended}

    async def _attempt(self, verb: str, key: str, token: str) -> None:
        zm, bump = self._zm, BUMP(token, key)
        if verb == "store":
            await zm.cache_and_store(key, token, bump)
        elif verb == "store_none":
            await zm.cache_and_store(key, None, bump)
        elif verb == "brief":
            await zm.cache_and_store(key, token, bump, ttl=f"{LIFE_MS}ms")
        elif verb in ("del_store", "remove"):
            await zm.del_store(key, bump)
        elif verb == "named":
            await zm.cache_and_store(None, None, bump, invalidates=[key])
        elif verb == "abort":
            await zm.cache_and_store(key, token, [bump, BREAK(key)])
        elif verb == "delay":
            receipt = await zm.cache_and_delay_store(key, None, bump, delay=0)
            await receipt.done()
        elif verb == "like":
            await zm.cache_and_periodic_store(key, None, LIKE(key))
            self._liked[key] = self._liked.get(key, 0) + 1
        elif verb == "flash":
            await zm.cache_only(key, token, ttl=f"{LIFE_MS}ms")
        else:
            assert verb == "note", verb
            await zm.cache_only(key, token)

    async def _flush(self) -> None:
        """Every like that was accepted before is acknowledged by a flush that ends well."""
        begun, liked = time.monotonic_ns(), dict(self._liked)
        try:
            await self._zm.flush()
        except zmsg.ZmsgError:
            return
        ended = time.monotonic_ns()
        for key, count in liked.items():
            if self._flushed.get(key) != count:
                self._flushed[key] = count
                self._note("w", begun, ended, "like", key, str(count), "ok")
        self._record.flush()

    async def _run(self, order: dict[str, Any]) -> dict[str, Any]:
        self._stop.clear()
        seeds = random.Random(order["seed"])
        lanes = (self._lane(order, random.Random(seeds.random())) for _ in range(order["lanes"]))
        return {"failed": sum(await asyncio.gather(*lanes))}

    async def _lane(self, order: dict[str, Any], rng: random.Random) -> int:
        failed = 0
        while not self._stop.is_set():
            try:
                if rng.random() < order["writes"]:
                    verb = rng.choice([*self.WRITES, "like", "flush", "note", "flash"])
                    own = {"like": order["likes"], "note": order["notes"], "flash": order["flashes"], "flush": [None]}
                    await self._write(verb, rng.choice(own.get(verb, order["items"])))
                else:
                    verb = rng.choice(["get", "get", "get_many", "peek"])
                    count = order["batch"] if verb == "get_many" else 1
                    await self._read(verb, rng.sample(order["reads"], count))
            except zmsg.ZmsgError:
                failed += 1
            await asyncio.sleep(0)
        return failed


async def main() -> None:
    settings = json.loads(sys.argv[1])
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[str] = asyncio.Queue()

    def listen() -> None:
        # The loop is closed before the last line ends.
        with contextlib.suppress(RuntimeError):
            for line in sys.stdin:
                loop.call_soon_threadsafe(orders.put_nowait, line)
            loop.call_soon_threadsafe(orders.put_nowait, "")

    def answer(order: dict[str, Any], what: dict[str, Any]) -> None:
        print(json.dumps({"id": order["id"], **what}), flush=True)

    async def serve(order: dict[str, Any], obey: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
        try:
            answer(order, await obey(order))
        except Exception as error:
            answer(order, {"error": repr(error)})

    zm = await zmsg.Zmsg.open(settings["config"])
    zm.source("item_*", ITEM)
    zm.source("like_*", sql("SELECT n::text FROM likes WHERE id = ?"))
    zm.source("slow_*", sql("SELECT read_slowly(?)"))
    worker = Worker(settings["name"], zm, settings["record"])
    threading.Thread(target=listen, daemon=True).start()
    answer({"id": 0}, {})
    under_way: set[asyncio.Task[None]] = set()
    while line := await orders.get():
        order = json.loads(line)
        if order["do"] == "close":
            await worker.close()
            answer(order, {})
            return
        task = asyncio.create_task(serve(order, worker.obey))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


if __name__ == "__main__":
    asyncio.run(main())
