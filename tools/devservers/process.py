"""Processes and ports, as seen from outside: is it alive, is it ours, which port is free, make it stop."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

# Below the range from which systems take ports for outgoing connections, so that nobody
# takes ours by chance while it is down.
PORTS = range(20_000, 32_000)


def free_port(preferred: int | None = None) -> int:
    """A free loopback port: the preferred one if possible, so that addresses survive a restart."""
    if preferred is not None and _is_free(preferred):
        return preferred
    candidates = random.SystemRandom().sample(PORTS, 200)
    for port in candidates:
        if _is_free(port):
            return port
    raise OSError("no free port on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def lives_in(pid: int | None, folder: Path) -> bool:
    """Whether this process is alive and works in that folder.

    Both servers change into their data folder, which tells ours from a stranger who got the number after a reboot.
    Where there is no /proc, being alive has to do.
    """
    if pid is None or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if not Path("/proc/self/cwd").exists():
        return True
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) == folder.resolve()
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stop(pid: int, folder: Path, gentle: signal.Signals, seconds: float = 20) -> None:
    """Ask, wait, and only then kill."""
    for number in (gentle, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if wait_until(lambda: not lives_in(pid, folder), seconds):
            return
