"""Installing Debian packages, when there is apt-get and we are root or may become root without a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

POLICY = "/usr/sbin/policy-rc.d"


def may_install() -> bool:
    return shutil.which("apt-get") is not None and _as_root() is not None


def install(packages: Sequence[str]) -> bool:
    """Install, showing the commands. False if apt-get failed; what it said is on stderr then."""
    root = _as_root()
    if root is None:
        return False
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    # A failed update is not the end: the lists that are there may do.
    _show([*apt, "-qq", "update"])
    with _services_stay_off(root):
        return _show([*apt, "-qq", "install", "-y", "--no-install-recommends", *packages]) == 0


def by_hand(packages: Sequence[str]) -> str:
    """The command for a user to type."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get update && {sudo}apt-get install -y {' '.join(packages)}"


def _as_root() -> list[str] | None:
    """What to put before a command so that it runs as root; None if that is not allowed."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


@contextmanager
def _services_stay_off(root: list[str]) -> Iterator[None]:
    """Keep the packages from starting services of their own: we run private instances.

    Debian asks /usr/sbin/policy-rc.d before a package starts a service; 101 means no. One that exists is respected.
    """
    if os.path.lexists(POLICY):
        yield
        return
    with tempfile.NamedTemporaryFile("w", suffix="-policy-rc.d") as script:
        script.write("#!/bin/sh\nexit 101\n")
        script.flush()
        subprocess.run([*root, "install", "-m", "755", script.name, POLICY], check=True)
    try:
        yield
    finally:
        subprocess.run([*root, "rm", "-f", POLICY], check=True)


def _show(argv: Sequence[str]) -> int:
    print("+ " + " ".join(argv), file=sys.stderr, flush=True)
    # stdout may be read by a program (`eval "$(servers.py env)"`), so apt's own goes to stderr.
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode
