"""What processes did and saw, as they recorded it: one file of JSON lines for each process.

A line is a read, ``["r", begun, ended, verb, [[key, token], …]]``, or the end of a write,
``["w", begun, ended, verb, key, token, outcome]``, and after these the milliseconds that its value was to live, if
nobody but the caches knew it. Times are nanoseconds of CLOCK_MONOTONIC, which is one clock for all processes of a
machine. A token names one write, and one that begins with ``-`` the removal of a row; ``null`` is an absence. A line
is written after its operation: what a killed process was at is not there, and nothing was promised for it.

Outcomes: ``ok`` was acknowledged; ``aborted`` certainly left nothing; ``unknown`` is every other failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Read:
    """One call that read keys."""

    begun: int
    ended: int
    verb: str
    found: list[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Write:
    """One write, whose value was to be the token."""

    begun: int
    ended: int
    verb: str
    key: str
    token: str
    outcome: str
    life_ms: int | None = None


Event = Read | Write


class History:
    """The records of all processes of a run, read anew on each pass: a long run does not fit into memory."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files

    @property
    def processes(self) -> list[str]:
        return list(self.files)

    def of(self, process: str) -> Iterator[Event]:
        """The events of one process, in the order in which they ended."""
        with self.files[process].open() as lines:
            for line in lines:
                # The last line of a process that was killed may be torn.
                if line.endswith("\n"):
                    kind, *rest = json.loads(line)
                    yield Read(*rest) if kind == "r" else Write(*rest)
