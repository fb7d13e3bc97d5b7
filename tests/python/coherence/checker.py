"""Proves from a history that no process served what it may not.

Every write of a key has a version, and versions are in the order of the COMMITs: the database counts them, in the
transaction of the write. For each read the checker asks:

* *phantom*: was the value ever committed? That of an aborted write was not.
* *went back*: had the same process seen a later version in a read that ended before this one began?
* *stale*: had a later version been acknowledged more than the bound before this read began?
* *behind*: had any process seen a later version more than the bound before this read began?
* *outlived*: had its value, which only the caches knew, ended more than the bound before this read began?

An absence is the version of a removal, and nobody says of which: a read that found none is given the latest one that
had begun by its end, so that it is accused only where no removal can be what it saw.

Writes that overlap the read, and reads that overlap each other, may come in any order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coherence.history import History, Read, Write

# What has no row is absent without harm.
_CACHE_ONLY = ("note_", "flash_")
_REMOVAL = "-"
# TTLs are moved by up to so much (`ttl_jitter`).
_JITTER = 1.05
# A broken run has as many violations as reads.
_SHOWN = 20
_PARTS = {"p50": 0.5, "p99.9": 0.999, "at most": 1.0}


@dataclass(frozen=True)
class Violation:
    """One read that should not have been."""

    kind: str
    process: str
    key: str
    text: str


@dataclass
class Report:
    """What a history showed."""

    reads: int = 0
    absent: int = 0
    """Of these, the ones that found a removed row."""
    acknowledged: int = 0
    verbs: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    stale_for: list[int] = field(default_factory=list, repr=False)
    """For each acknowledged write and process: nanoseconds for which older values were still read."""

    def blame(self, violation: Violation) -> None:
        self.kinds[violation.kind] += 1
        if len(self.violations) < _SHOWN:
            self.violations.append(violation)

    def stale_ms(self, part: float) -> float:
        """The time that this part of :attr:`stale_for` did not exceed."""
        ordered = sorted(self.stale_for)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)] / 1e6 if ordered else 0.0

    def __str__(self) -> str:
        stale = ", ".join(f"{name} {self.stale_ms(part):.2f} ms" for name, part in _PARTS.items())
        lines = [
            f"{self.reads} reads, {self.absent} of removed rows",
            f"{self.acknowledged} acknowledged writes {dict(self.verbs)}",
            f"violations: {dict(self.kinds) or 'none'}; older values after an acknowledgement for {stale}",
        ]
        return "\n".join(lines + [f"  {it.kind}: {it.process} {it.key}: {it.text}" for it in self.violations])


class _Steps:
    """The highest version known at each time."""

    def __init__(self, known: Iterable[tuple[int, int]] = ()) -> None:
        self.times: list[int] = []
        self.versions: list[int] = []
        for time, version in sorted(known):
            self.add(time, version)

    def add(self, time: int, version: int) -> None:
        if not self.versions or version > self.versions[-1]:
            self.times.append(time)
            self.versions.append(version)

    def before(self, time: int) -> int:
        """The highest version known before that time."""
        at = bisect_left(self.times, time)
        return self.versions[at - 1] if at else -1

    def since(self, version: int) -> int:
        """Where the first later version is."""
        return bisect_left(self.versions, version + 1)


class Checker:
    """Checks one history."""

    def __init__(self, history: History, versions: Mapping[tuple[str, str], int], bound_ms: float) -> None:
        """``versions`` has the version of each committed token under a key that the database counts."""
        self._history = history
        self._versions = versions
        self._bound = int(bound_ms * 1e6)
        self._own: dict[tuple[str, str], _Steps] = defaultdict(_Steps)
        self._acknowledged: dict[str, _Steps] = {}
        removed: dict[str, list[int]] = defaultdict(list)
        for (key, token), version in versions.items():
            if token.startswith(_REMOVAL):
                removed[key].append(version)
        self._removed = {key: sorted(found) for key, found in removed.items()}
        # Of each key, the latest removal that had begun by then.
        self._gone: dict[str, _Steps] = {}
        self._ended: dict[tuple[str, str], int] = {}
        self._seen: dict[str, _Steps] = {}
        self._lags: dict[tuple[str, str, int], int] = defaultdict(int)
        self.report = Report()

    def check(self) -> Report:
        """Two passes: what was known when, then whether each read knew it."""
        self._learn()
        for process in self._history.processes:
            for event in self._history.of(process):
                if isinstance(event, Read):
                    for key, token in event.found:
                        self._judge(process, event, key, token)
        self._count_lags()
        return self.report

    def _version(self, key: str, token: str | None) -> int | None:
        """None for what was never committed."""
        if token is None:
            return None
        if (key, token) in self._versions:
            return self._versions[key, token]
        # Keys with one writer count their writes themselves.
        return int(token) if key.startswith(("like_", *_CACHE_ONLY)) else None

    def _learn(self) -> None:
        acknowledged: dict[str, list[tuple[int, int]]] = defaultdict(list)
        begun: dict[tuple[str, str], int] = {}
        for process in self._history.processes:
            for event in self._history.of(process):
                if isinstance(event, Write):
                    self._learn_write(process, event, acknowledged)
                    begun[event.key, event.token] = event.begun
                    continue
                for key, token in event.found:
                    own = self._own[process, key]
                    version = self._version(key, token) if token else self._least(key, own.before(event.begun))
                    if version is not None:
                        own.add(event.ended, version)
        self._acknowledged = {key: _Steps(known) for key, known in acknowledged.items()}
        gone: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for (key, token), version in self._versions.items():
            if token.startswith(_REMOVAL):
                # Of a process that was killed nobody knows when it began.
                gone[key].append((begun.get((key, token), 0), version))
        self._gone = {key: _Steps(known) for key, known in gone.items()}
        seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for (_, key), steps in self._own.items():
            seen[key].extend(zip(steps.times, steps.versions, strict=True))
        self._seen = {key: _Steps(known) for key, known in seen.items()}

    def _least(self, key: str, due: int) -> int | None:
        """The earliest removal that an absence may be where this version was due."""
        removed = self._removed.get(key, [])
        at = bisect_left(removed, due)
        return removed[at] if at < len(removed) else None

    def _learn_write(self, process: str, write: Write, acknowledged: dict[str, list[tuple[int, int]]]) -> None:
        version = self._version(write.key, write.token)
        if write.outcome == "ok":
            self.report.acknowledged += 1
            self.report.verbs[write.verb] += 1
            if version is None:
                self.report.blame(Violation("lost", process, write.key, f"the database has no {write.token}"))
            else:
                acknowledged[write.key].append((write.ended, version))
            if write.life_ms is not None:
                self._ended[write.key, write.token] = write.ended + int(write.life_ms * _JITTER * 1e6)
        elif write.outcome == "aborted" and version is not None:
            self.report.blame(Violation("phantom", process, write.key, f"the aborted {write.token} is committed"))

    def _judge(self, process: str, read: Read, key: str, token: str | None) -> None:
        self.report.reads += 1
        version = self._version(key, token) if token else self._absence(key, read)
        if version is None or (token and token.startswith(_REMOVAL)):
            if token is not None or not key.startswith(_CACHE_ONLY):
                text = f"{read.verb} gave {token}, which was never committed"
                self.report.blame(Violation("phantom", process, key, text))
            return
        if token is None:
            self.report.absent += 1
        elif read.begun > self._ended.get((key, token), read.begun) + self._bound:
            text = f"{read.verb} begun at {read.begun} gave {token}, which had ended"
            self.report.blame(Violation("outlived", process, key, text))
        own = self._own[process, key].before(read.begun)
        if version < own:
            self._accuse("went back", process, read, key, version, own)
        acknowledged = self._acknowledged.get(key)
        if acknowledged is not None:
            expected = acknowledged.before(read.begun - self._bound)
            if version < expected:
                self._accuse("stale", process, read, key, version, expected)
            elif version < acknowledged.before(read.begun):
                first = acknowledged.since(version)
                lag = read.begun - acknowledged.times[first]
                self._lags[process, key, first] = max(self._lags[process, key, first], lag)
        seen = self._seen[key].before(read.begun - self._bound)
        if version < seen:
            self._accuse("behind", process, read, key, version, seen)

    def _absence(self, key: str, read: Read) -> int | None:
        """The latest removal that this read may have seen."""
        gone = self._gone.get(key)
        version = gone.before(read.ended) if gone else -1
        return version if version >= 0 else None

    def _accuse(self, kind: str, process: str, read: Read, key: str, version: int, expected: int) -> None:
        named = {found: token for (of, token), found in self._versions.items() if of == key}
        given, due = (f"{it} ({named.get(it, it)})" for it in (version, expected))
        text = f"{read.verb} begun at {read.begun} gave version {given} where {due} was due"
        self.report.blame(Violation(kind, process, key, text))

    def _count_lags(self) -> None:
        # A process that never read an older value of a key heard of its writes in no time.
        pairs = sum(len(self._acknowledged[key].times) for _, key in self._own if key in self._acknowledged)
        self.report.stale_for = [*self._lags.values(), *[0] * (pairs - len(self._lags))]
