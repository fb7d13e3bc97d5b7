"""What happens at a fork and at the interpreter's exit."""

from __future__ import annotations

import atexit
import os

from . import _logging, _native
from ._ports import ports


def _after_fork_in_child() -> None:
    _native.after_fork_in_child()
    ports.clear()
    _logging.after_fork_in_child()


def _at_exit() -> None:
    _native.at_exit()
    _logging.stop()


def install() -> None:
    """Called once, at import."""
    os.register_at_fork(after_in_child=_after_fork_in_child)
    atexit.register(_at_exit)
