"""The processes of a run: started, given orders, stopped, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from coherence.checker import Checker, Report
from coherence.database import Database
from coherence.history import History
from coherence.wall_clock import WallClock

_HERE = Path(__file__).parent
_NODE = _HERE.parents[2] / "node" / "dist" / "index.js"
_SECONDS = 60
# Processes of one run, those that are killed included.
_MOST = 120
LANES = int(os.environ.get("ZMSG_TEST_LANES", "4"))
"""What a process does at a time in a run that says nothing of it."""


class Process:
    """One process, in either language."""

    def __init__(
        self, language: str, name: str, config: dict[str, Any], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.record = folder / f"{name}.jsonl"
        command = [sys.executable, str(_HERE / "worker.py")] if language == "python" else ["node", "worker.mjs"]
        assert language == "python" or _NODE.exists(), "the Node package is not built; run `make build-node`"
        settings = json.dumps({"name": name, "config": config, "record": str(self.record)})
        self._child = subprocess.Popen(
            [*command, settings],
            cwd=_HERE,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self._asked = 0
        self._answers: dict[int, Future[dict[str, Any]]] = {0: Future()}
        self._ready = self._answers[0]
        threading.Thread(target=self._listen, daemon=True).start()

    def ready(self) -> None:
        """Waits until its engine is open."""
        self._ready.result(_SECONDS)

    def start(self, do: str, **order: Any) -> Future[dict[str, Any]]:
        """Gives an order and does not wait."""
        assert self._child.stdin is not None
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            self._asked += 1
            self._answers[self._asked] = answer
            self._child.stdin.write(json.dumps({"id": self._asked, "do": do, **order}) + "\n")
            self._child.stdin.flush()
        return answer

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Gives an order and waits for its answer."""
        return self.start(do, **order).result(_SECONDS)

    def get(self, key: str) -> str | None:
        """The token that a read of this key gives."""
        found: str | None = self.ask("get", keys=[key])["tokens"][0]
        return found

    def sees(self, key: str, token: str | None) -> None:
        """Waits until another process's write is seen, which takes as long as a message does."""
        end = time.monotonic() + _SECONDS
        while (found := self.get(key)) != token:
            assert time.monotonic() < end, f"{self.name} reads {found} instead of {token}"

    def write(self, verb: str, key: str) -> str:
        """The token of an acknowledged write."""
        answer = self.ask(verb, key=key)
        assert answer["outcome"] == "ok", answer
        token: str = answer["token"]
        return token

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def killed(self) -> bool:
        """Waits for its end; whether it was killed."""
        return self._child.wait(_SECONDS) == -signal.SIGKILL

    def close(self) -> None:
        """Ends it as a service ends."""
        self.ask("close")
        self._end()
        assert self._child.wait(_SECONDS) == 0

    def kill(self) -> None:
        self._child.kill()
        self._child.wait(_SECONDS)
        self._end()

    def _end(self) -> None:
        assert self._child.stdin is not None
        # What was still to be said to it goes nowhere.
        with suppress(BrokenPipeError):
            self._child.stdin.close()

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def _listen(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as lines:
            for line in lines:
                answer = json.loads(line)
                future = self._answers.pop(answer["id"])
                if "error" in answer:
                    future.set_exception(RuntimeError(f"{self.name}: {answer['error']}"))
                else:
                    future.set_result(answer)
        with self._lock:
            for future in self._answers.values():
                future.set_exception(EOFError(f"{self.name} has ended"))


class Fleet:
    """The processes of one run, and the keys that they share."""

    ITEMS = tuple(f"item_{n}" for n in range(40))
    # Those that a test can make slow.
    SLOW = tuple(f"slow_{n}" for n in range(5))

    def __init__(self, config: dict[str, Any], database: Database, folder: Path) -> None:
        self.config = config
        self.database = database
        self.processes: list[Process] = []
        self._folder = folder
        likes = [key for n in range(_MOST) for key in self.likes(f"p{n}")]
        database.create([*self.ITEMS, *self.SLOW], likes)

    @staticmethod
    def likes(owner: str) -> list[str]:
        """The likes that this process counts."""
        return [f"like_{owner}_{n}" for n in range(4)]

    @staticmethod
    def notes(owner: str) -> list[str]:
        """The values that this process writes to the caches alone."""
        return [f"note_{owner}_{n}" for n in range(4)]

    @staticmethod
    def flashes(owner: str) -> list[str]:
        """The same, of values that live briefly; many, so that few are written again before they have to be gone."""
        return [f"flash_{owner}_{n}" for n in range(12)]

    def add(
        self, *languages: str, crash: str | None = None, clock: WallClock | None = None, **config: Any
    ) -> list[Process]:
        """Starts processes, named p0, p1, … in the order of their start."""
        environment = {**({"ZMSG_CRASH": crash} if crash else {}), **(clock.environment if clock else {})}
        added = []
        for language in languages:
            name = f"p{len(self.processes)}"
            # Each has journals of its own: nobody adopts what another one left.
            own = {**self.config, "journal_dir": str(self._folder / f"journal-{name}"), **config}
            added.append(Process(language, name, own, self._folder, environment))
            self.processes.append(added[-1])
        for process in added:
            process.ready()
        return added

    @contextmanager
    def running(self, processes: Sequence[Process], seed: int, **order: Any) -> Iterator[None]:
        """Lets processes read and write at random meanwhile."""
        print(f"seed {seed}")
        readable = [*self.ITEMS]
        for owner in self.processes[:4]:
            readable += self.likes(owner.name) + self.notes(owner.name) + self.flashes(owner.name)
        runs = []
        for at, process in enumerate(processes):
            own = {kind: getattr(self, kind)(process.name) for kind in ("likes", "notes", "flashes")}
            keys = {"items": self.ITEMS, "reads": readable, **own}
            defaults = {"lanes": LANES, "writes": 0.15, "batch": 16}
            runs.append(process.start("run", seed=seed + at, **keys, **{**defaults, **order}))
        yield
        for process, run in zip(processes, runs, strict=True):
            if process.is_running:
                process.ask("stop")
                run.result(_SECONDS)

    def check(self, bound_ms: float) -> Report:
        """Closes what is open and checks what all of them recorded."""
        for process in self.processes:
            if process.is_running:
                process.close()
        history = History({process.name: process.record for process in self.processes})
        report = Checker(history, self.database.versions(), bound_ms).check()
        print(report)
        return report

    def end(self) -> None:
        """Leaves no process behind, however the test ended."""
        for process in self.processes:
            if process.is_running:
                process.send(signal.SIGCONT)
                process.kill()
