"""Hands the engine's log records to ``logging.getLogger("zmsg")``.

The engine's threads never touch the interpreter; one daemon thread here waits for their records. It starts with the
first engine and ends, joined, at the interpreter's exit.
"""

from __future__ import annotations

import logging
import threading

from . import _native

logger = logging.getLogger("zmsg")
_thread: threading.Thread | None = None


def start() -> None:
    """Makes sure that the thread runs in this process and that the engine knows the logger's level."""
    global _thread
    _native.set_log_level(logger.getEffectiveLevel())
    if _thread is None:
        _thread = threading.Thread(target=_deliver, name="zmsg-log", daemon=True)
        _thread.start()


def _deliver() -> None:
    while (records := _native.next_logs()) is not None:
        for level, message in records:
            logger.log(level, "%s", message)
        _native.set_log_level(logger.getEffectiveLevel())


def after_fork_in_child() -> None:
    """The thread stayed with the parent."""
    global _thread
    _thread = None


def stop() -> None:
    """Delivers what is left and ends the thread."""
    if _thread is not None:
        _native.stop_logs()
        _thread.join(timeout=1.0)
