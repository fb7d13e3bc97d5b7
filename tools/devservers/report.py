"""What the user is told: progress on stderr (stdout belongs to `env`), and one kind of failure."""

from __future__ import annotations

import sys
from pathlib import Path


class Failure(Exception):
    """Something the user has to mend. The message says what, without a traceback."""


def say(message: str) -> None:
    print(f"servers: {message}", file=sys.stderr, flush=True)


def with_log(message: str, log: Path, lines: int = 20) -> Failure:
    """A failure that ends in the tail of a server's log, where the reason usually stands."""
    try:
        tail = log.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        tail = []
    if not tail:
        return Failure(f"{message} (nothing in {log})")
    return Failure("\n    ".join([f"{message}; the end of {log}:", *tail]))
