"""Where the private servers keep their files, and the lock that lets one command at a time change them.

Normally `.servers` in the checkout. When root keeps the checkout below a folder that the servers' own user may not
pass through (`/root`, say), it is a folder of /var/tmp whose name is a hash of the checkout's path.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devservers.account import Account, server_account
from devservers.report import Failure, say


@dataclass(frozen=True)
class Home:
    wanted: Path

    def path(self) -> Path:
        """The folder in use. It depends on the user the servers run as, which an installation may change."""
        if self.account().can_enter(self.wanted):
            return self.wanted
        digest = hashlib.sha256(os.fsencode(self.wanted)).hexdigest()[:12]
        fallback = Path("/var/tmp") / f"zmsg-servers-{digest}"
        fallback.mkdir(mode=0o755, exist_ok=True)
        if fallback.is_symlink() or fallback.stat().st_uid != os.geteuid():
            raise Failure(f"{fallback} belongs to somebody else; delete it or move the checkout")
        return fallback

    def account(self) -> Account:
        return server_account()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with (self.wanted / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another command on these servers to finish")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def delete(self) -> None:
        """Delete everything but the lock, which somebody may be waiting on."""
        for folder in {self.path(), self.wanted}:
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
        if self.path() != self.wanted:
            self.path().rmdir()


def open_home(wanted: Path) -> Home:
    try:
        wanted.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"cannot create {wanted}: {error.strerror}") from None
    if not os.access(wanted, os.W_OK):
        raise Failure(
            f"{wanted} is not writable for this user; was it made by another one (sudo)? Delete it as that user"
        )
    return Home(wanted)
