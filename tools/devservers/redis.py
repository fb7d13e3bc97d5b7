"""A private Redis (or Valkey): the cache one, or the queue one.

Loopback only. The cache one never writes to disk and evicts at its bound; the queue one appends every write to disk
before it answers and never evicts, which is the strongest durability that the engine knows of Redis.
"""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from devservers.account import Account
from devservers.binaries import Redis
from devservers.process import free_port, lives_in, read_pid, stop, wait_until
from devservers.report import say, with_log

CACHE = """\
appendonly no
maxmemory 256mb
maxmemory-policy allkeys-lru
"""

QUEUE = """\
appendonly yes
appendfsync always
maxmemory-policy noeviction
"""

COMMON = """\
# Written anew by every `servers.py up`.
bind 127.0.0.1
protected-mode yes
port {port}
daemonize yes
dir "{folder}"
pidfile "{folder}/pid"
logfile "{folder}/log"
save ""
"""


@dataclass(frozen=True)
class PrivateRedis:
    name: str
    folder: Path
    account: Account
    settings: str

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def exists(self) -> bool:
        return self.folder.exists()

    def running(self) -> bool:
        return lives_in(self._pid(), self.folder) and self._answers()

    def address(self) -> str:
        return f"127.0.0.1:{self._port()}"

    def up(self, program: Redis) -> None:
        if self.running():
            return
        if lives_in(self._pid(), self.folder):
            # Starting (reading its append-only file, say), or stopping. Give it the time.
            if not wait_until(self.running, 30):
                raise with_log(f"{self.name} does not answer", self.log)
            return
        self.account.make_folder(self.folder)
        for _attempt in (1, 2):
            if self._start(program):
                return
            if "Address already in use" not in self.log.read_text(errors="replace"):
                break
        raise with_log(f"{self.name} ({program.version}) did not start", self.log)

    def down(self) -> None:
        pid = self._pid()
        if pid is None or not lives_in(pid, self.folder):
            return
        say(f"stopping {self.name} (process {pid})")
        stop(pid, self.folder, signal.SIGTERM)

    def _start(self, program: Redis) -> bool:
        port = free_port(self._port())
        say(f"starting {self.name} ({program.version}) on port {port}")
        (self.folder / "pid").unlink(missing_ok=True)
        (self.folder / "port").write_text(f"{port}\n")
        for path, text in (
            (self.folder / "conf", COMMON.format(port=port, folder=self.folder) + self.settings),
            (self.log, ""),
        ):
            path.write_text(text)
            self.account.own(path)
        done = self.account.run([program.server, self.folder / "conf"], cwd=self.folder)
        if done.returncode != 0:
            with self.log.open("a") as log:
                log.write(done.stdout)
            return False
        # It is its own daemon by now: the pid file tells whether it lives, and it ends when it cannot start.
        wait_until(lambda: self.running() or self._gave_up(), 30)
        return self.running()

    def _gave_up(self) -> bool:
        pid = self._pid()
        return pid is not None and not lives_in(pid, self.folder)

    def _pid(self) -> int | None:
        return read_pid(self.folder / "pid")

    def _port(self) -> int | None:
        return read_pid(self.folder / "port")

    def _answers(self) -> bool:
        port = self._port()
        if port is None:
            return False
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
