"""Which user the private servers run as.

PostgreSQL refuses to run as root, and Redis has no reason to. So root hands both to `postgres`, or to `nobody` where
that does not exist. Anyone else runs them as themselves.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devservers.report import Failure


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    @property
    def is_self(self) -> bool:
        return self.uid == os.geteuid()

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end as this user; standard output and error come back as one text."""
        command = [str(word) for word in argv]
        options: dict[str, object] = {}
        if not self.is_self:
            options = {"user": self.uid, "group": self.gid, "extra_groups": []}
        try:
            return subprocess.run(  # type: ignore[call-overload,no-any-return]
                command,
                cwd=cwd or "/",
                input=stdin,
                env=dict(env if env is not None else os.environ),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                **options,
            )
        except OSError as error:
            raise Failure(f"cannot run {command[0]} as {self.name}: {error.strerror}") from None

    def make_folder(self, path: Path) -> Path:
        """A folder only this user (and root) can look into."""
        path.mkdir(mode=0o700, exist_ok=True)
        self.own(path)
        return path

    def own(self, path: Path) -> None:
        if not self.is_self:
            os.chown(path, self.uid, self.gid)

    def can_enter(self, path: Path) -> bool:
        return self.run(["test", "-x", path]).returncode == 0


def server_account() -> Account:
    if os.geteuid() != 0:
        return _of(pwd.getpwuid(os.geteuid()))
    for name in ("postgres", "nobody"):
        try:
            return _of(pwd.getpwnam(name))
        except KeyError:
            continue
    raise Failure(
        "PostgreSQL does not run as root and neither `postgres` nor `nobody` exists here; "
        "create a user: useradd --system postgres"
    )


def _of(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
