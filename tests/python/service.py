"""A service that likes: its engine is opened before gunicorn forks the workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import zmsg.sync
from zmsg import counter

zm = zmsg.sync.Zmsg.open(batch_interval="200ms")
LIKE = counter("t", "n").inc(1).where("id = ?", 1)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers with its process's number once the like is accepted."""
    zm.cache_and_periodic_store(None, None, LIKE)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
