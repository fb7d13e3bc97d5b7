"""The containers of docker-compose.yml, for machines whose own binaries are missing and may not be installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devservers.home import Home
from devservers.process import free_port, read_pid
from devservers.report import Failure, say


@dataclass(frozen=True)
class Compose:
    home: Home
    file: Path

    def available(self) -> bool:
        """Whether `docker compose` exists and reaches a daemon."""
        if shutil.which("docker") is None:
            return False
        return all(
            subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0
            for words in (["compose", "version"], ["info"])
        )

    @property
    def exists(self) -> bool:
        return any(self.home.path().glob("compose-*"))

    def up(self, service: str) -> int:
        """Start one service and wait until it is healthy; the loopback port it listens on."""
        recorded = self.home.path() / f"compose-{service}"
        # A port in use is our own container's, as long as it runs.
        port = read_pid(recorded) if service in self._running() else None
        if port is None:
            port = free_port(read_pid(recorded))
            say(f"starting {service} with docker compose on port {port}")
            recorded.write_text(f"{port}\n")
        if self._compose(["up", "-d", "--wait", service]).returncode != 0:
            self._compose(["logs", "--tail", "20", service])
            raise Failure(f"docker compose could not start {service}; what it said is above")
        return port

    def running(self) -> bool:
        wanted = {path.name.removeprefix("compose-") for path in self.home.path().glob("compose-*")}
        return wanted <= self._running()

    def down(self) -> None:
        say("stopping the containers")
        self._compose(["down"])

    def purge(self) -> None:
        self._compose(["down", "--volumes"])

    def _running(self) -> set[str]:
        return set(self._compose(["ps", "--services", "--status", "running"], capture=True).stdout.split())

    def _compose(self, words: Sequence[str], capture: bool = False) -> subprocess.CompletedProcess[str]:
        project = "zmsg-" + hashlib.sha256(os.fsencode(self.home.wanted)).hexdigest()[:12]
        ports = {
            f"{path.name.removeprefix('compose-').upper().replace('-', '_')}_PORT": path.read_text().strip()
            for path in self.home.path().glob("compose-*")
        }
        return subprocess.run(
            ["docker", "compose", "-p", project, "-f", str(self.file), *words],
            env={**os.environ, **ports},
            stdout=subprocess.PIPE if capture else sys.stderr,
            text=True,
            check=False,
        )
