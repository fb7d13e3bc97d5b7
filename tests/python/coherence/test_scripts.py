"""A script about many keys does to each of them what the script about one key does: on anything that may be there."""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coherence.redis_server import RedisServer

SCRIPTS = Path(__file__).parents[3] / "core" / "src" / "cache" / "scripts"
SEED = int(os.environ.get("ZMSG_SEED", "1"))
RUNS = 400
NOW = 1_700_000_000_000
"""Both forms have this time: else the ends of fences would differ."""
GENERATION = (7).to_bytes(8, "big")
WRITERS = [b"%016d" % n for n in range(3)]
COVERS = [b"+%015d" % n for n in range(2)]
VALUES = [b"", b"a", b"bb", b"v" * 50]


class Refused(Exception):
    """What Redis answers with "-"."""


class Session:
    """A connection that says exactly what it is told to."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._answers = self._socket.makefile("rb")

    def ask(self, *words: str | bytes | int) -> Any:
        """The answer to a command; an error is returned."""
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self._socket.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(it), it) for it in encoded))
        return self.read()

    def read(self) -> Any:
        line = self._answers.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            return Refused(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self._answers.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


def forms() -> dict[str, tuple[str, str]]:
    """The texts of each script that has two forms, put together as scripts.rs says."""

    def text(name: str) -> str:
        if name == "time.lua":
            return f"local now = {NOW}\n"
        return (SCRIPTS / name).read_text(encoding="utf-8")

    rust = SCRIPTS.with_suffix(".rs").read_text(encoding="utf-8")
    listed = re.findall(r"^ {4}(\w+): (?:LIGHT|HEAVY) \[([^\]]+)\]", rust, re.MULTILINE)
    found = {}
    for name, files in listed:
        parts = "".join(text(file) for file in re.findall(r'"([^"]+)"', files))
        one = text("common.lua") + parts
        found[name] = (one, text("common.lua") + text("each.lua") + parts + text("each_end.lua"))
    return found


class Case:
    """Keys with something under them, and what each is to be run with."""

    def __init__(self, rng: random.Random, names: Sequence[str]) -> None:
        self._rng = rng
        self.name = rng.choice(names)
        # A key may come twice.
        self.keys = [f"key{rng.randrange(10)}" for _ in range(rng.randint(1, 12))]
        self.before = {key: self._record() for key in sorted(set(self.keys))}
        self.args = [self._args() for _ in self.keys]
        self.messages = [f"<{n}:{key}>".encode() for n, key in enumerate(self.keys)]

    def set_up(self, session: Session) -> None:
        session.ask("FLUSHALL")
        for key, command in self.before.items():
            if command:
                session.ask(command[0], key, *command[1:])

    def _entry(self, *, mark: bool) -> bytes:
        rng, value = self._rng, self._rng.choice(VALUES)
        sequence = rng.choice([0, 1, 2, 2**32, 2**32 + 1, 2**63]).to_bytes(8, "big")
        generation = rng.choice([GENERATION, GENERATION, (8).to_bytes(8, "big")])
        head = b"\xb7\x01" + bytes([rng.choice([1, 1, 1, 2, 5]), 0]) + len(value).to_bytes(4, "big")
        marks = [b"", b"", b"MARKMARK0000000000000", b"MARKMARK1700000099999"]
        return head + generation + sequence + bytes(8) + b"checksum" + value + (rng.choice(marks) if mark else b"")

    def _fence(self) -> bytes:
        rng = self._rng
        writers = rng.sample(WRITERS + COVERS, rng.randint(1, 3))
        listed = b"".join(token + b"%013d" % (NOW + rng.choice([-5, 0, 5_000, 9_000])) for token in writers)
        aside = rng.choice([b"", b"%013d" % rng.choice([0, NOW - 1, NOW + 50_000]) + self._entry(mark=False)])
        return b"\xb7\x01\x04" + rng.choice([b"0", b"0", b"1"]) + b"%06d" % len(listed) + listed + aside

    def _record(self) -> tuple[str | bytes, ...]:
        garbage = [b"", b"x", b"\xb7\x01\x04", b"\xb7\x01\x040000029short", b"\xb7\x02\x01" + b"z" * 50]
        lease = b"\xb7\x01\x03" + b"L" * 37
        return self._rng.choice(
            [
                (),
                ("RPUSH", "a list"),
                ("SET", self._rng.choice(garbage)),
                ("SET", lease, "PX", "60000"),
                ("SET", self._entry(mark=True)),
                ("SET", self._entry(mark=True), "PX", "60000"),
                ("SET", self._fence(), "PX", "60000"),
                ("SET", self._fence(), "PX", "60000"),
            ]
        )

    def _args(self) -> list[bytes]:
        rng = self._rng
        digest = rng.choice([b"", hashlib.sha1(rng.choice(VALUES)).hexdigest().encode()])
        sequence = rng.choice([b"", (1).to_bytes(8, "big"), (2**32).to_bytes(8, "big")])
        # Not a number: the run ends with an error, after it has begun.
        life = rng.choice([b"0", b"5000", b"5000", b"bad"])
        if self.name in ("put", "accept"):
            return [self._entry(mark=False), life]
        if self.name == "fence":
            # One that ends at once may be seen or not.
            return [rng.choice(WRITERS), b"5000" if life == b"0" else life]
        if self.name == "cover":
            return [rng.choice(COVERS), b"5000", digest, sequence, GENERATION]
        if self.name == "drop_unless":
            return [digest, sequence, GENERATION, rng.choice([b"", *COVERS])]
        if self.name == "unfence":
            return [rng.choice(WRITERS + COVERS), rng.choice([b"set", b"drop", b"keep"]), self._entry(mark=False), life]
        assert self.name == "drop", f"{self.name} is new: say here what it is run with"
        return []


def left(session: Session, keys: Sequence[str]) -> dict[str, Any]:
    """What is under the keys, and for how many seconds yet, roughly."""
    found = {}
    for key in sorted(set(keys)):
        kind, life = session.ask("TYPE", key), session.ask("PTTL", key)
        value = session.ask("GET", key) if kind == b"string" else kind
        if value:
            # When what was put aside would have been gone is some time after NOW.
            value = re.sub(rb"17000000(?:59\d{3}|60000)(?=\xb7)", b"some time ago", value)
        found[key] = (value, life if life < 0 else round(life / 4_000))
    return found


def test_many_keys_at_once_are_as_one_after_the_other(redis: RedisServer) -> None:
    print(f"seed {SEED}")
    rng, both = random.Random(SEED), forms()
    assert len(both) == 7
    session, listener = Session(redis.port), Session(redis.port)
    listener.ask("SUBSCRIBE", "bus")

    def told() -> list[bytes]:
        session.ask("PUBLISH", "bus", "end")
        messages: list[bytes] = []
        while (message := listener.read()[2]) != b"end":
            messages.append(message)
        return messages

    seen: Counter[str] = Counter()
    for _ in range(RUNS):
        case = Case(rng, sorted(both))
        one, many = both[case.name]
        case.set_up(session)
        runs = zip(case.keys, case.messages, case.args, strict=True)
        singly = [session.ask("EVAL", one, 1, key, "bus", message, *args) for key, message, args in runs]
        singly_left, singly_told = left(session, case.keys), told()
        case.set_up(session)
        flat = [word for message, args in zip(case.messages, case.args, strict=True) for word in (message, *args)]
        together = session.ask("EVAL", many, len(case.keys), *case.keys, "bus", *flat)
        for alone, answer in zip(singly, together, strict=True):
            # Of an error its code.
            refused = isinstance(alone, Refused)
            assert answer == (b"ERR" if refused else alone), (case.name, alone, answer)
            seen["errors" if refused else case.name] += 1
        assert left(session, case.keys) == singly_left, case.name
        messages = told()
        assert len(messages) <= 1
        assert b"".join(messages) == b"".join(singly_told), case.name
    assert len(seen) == 8
    assert min(seen.values()) > 20, seen
    session.close()
    listener.close()
