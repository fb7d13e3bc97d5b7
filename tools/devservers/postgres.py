"""The private PostgreSQL.

    pg/password     of the superuser `zmsg`, made once, readable by the caller alone
    pg/port         the port of the last start, tried first at the next one
    pg/data         the cluster; made under another name and renamed, so that it is whole or absent
    pg/log

It listens on 127.0.0.1 alone and asks for the password (scram). Its data are for tests: fsync is off, so they do not
survive a power cut, while commits keep their usual order and visibility.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from devservers.account import Account
from devservers.binaries import Postgres, find_postgres
from devservers.process import free_port, lives_in, read_pid, stop, wait_until
from devservers.report import Failure, say, with_log

USER = "zmsg"
DATABASE = "zmsg"
ORPHANS_SECONDS = 10

SETTINGS = """\
# Written anew by every `servers.py up`.
port = {port}
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 300
shared_buffers = '128MB'
fsync = off
full_page_writes = off
synchronous_commit = on
timezone = 'UTC'
log_timezone = 'UTC'
"""


@dataclass(frozen=True)
class PrivatePostgres:
    folder: Path
    account: Account

    name = "PostgreSQL"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def exists(self) -> bool:
        return self.data.exists()

    def running(self) -> bool:
        return self._is_ready(self._pid())

    def address(self) -> str:
        password = (self.folder / "password").read_text().strip()
        port = read_pid(self.folder / "port")
        return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"

    def up(self, newest: Postgres) -> None:
        if self.running():
            return
        program = self._prepare(newest)
        if lives_in(self._pid(), self.data):
            # Between starting and ready: somebody was interrupted. Let it finish.
            if not wait_until(self.running, 60):
                raise with_log(f"{self.name} does not get ready", self.log)
            return
        self._forget_stale_pid()
        for attempt in (1, 2):
            port = free_port(read_pid(self.folder / "port"))
            if self._start(program, port):
                return
            log = self.log.read_text(errors="replace")
            if attempt == 2 or "could not bind" not in log:
                break
        raise with_log(f"{self.name} {program.major} did not start", self.log)

    def down(self) -> None:
        pid = self._pid()
        if pid is None or not lives_in(pid, self.data):
            return
        say(f"stopping {self.name} (process {pid})")
        # SIGINT is PostgreSQL's fast shutdown: open transactions are rolled back, no client can hold it up.
        stop(pid, self.data, signal.SIGINT)

    def _prepare(self, newest: Postgres) -> Postgres:
        """The folder with a cluster in it, and the program that fits the cluster."""
        self.account.make_folder(self.folder)
        if self.exists:
            major = read_pid(self.data / "PG_VERSION")
            program = find_postgres(major) if major else None
            if program is not None:
                return program
            say(f"no PostgreSQL {major} for the data in {self.data} any more: starting afresh")
            shutil.rmtree(self.data)
        self._create(newest)
        return newest

    def _create(self, program: Postgres) -> None:
        say(f"creating a PostgreSQL {program.major} cluster in {self.folder}, user {self.account.name}")
        half_made = self.folder / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        password = _write_secret(self.folder / "password")
        for_initdb = self.folder / "password.initdb"
        for_initdb.unlink(missing_ok=True)
        with os.fdopen(os.open(for_initdb, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password + "\n")
        self.account.own(for_initdb)
        try:
            access = ["-U", USER, "--auth=scram-sha-256", f"--pwfile={for_initdb}"]
            self._must(
                program.folder / "initdb", "-D", half_made, *access, "--encoding=UTF8", "--locale=C", "--no-sync"
            )
        finally:
            for_initdb.unlink()
        # Single-user mode needs neither a port nor psql.
        self._must(
            *(program.folder / "postgres", "--single", "-D", half_made, "-F", "postgres"),
            stdin=f'CREATE DATABASE "{DATABASE}"\n',
        )
        half_made.rename(self.data)

    def _start(self, program: Postgres, port: int) -> bool:
        say(f"starting PostgreSQL {program.major} on port {port}")
        self._write(self.data / "postgresql.conf", SETTINGS.format(port=port))
        options: list[str | Path] = ["-D", self.data, "-l", self.log, "-w", "-t", "60", "-s"]
        command = [program.folder / "pg_ctl", "start", *options]

        def attempt() -> bool:
            self._write(self.log, "")
            return self.account.run(command).returncode == 0

        def gone() -> bool:
            return attempt() or "pre-existing shared memory block" not in self.log.read_text(errors="replace")

        # After a kill -9 its children need a moment to notice and leave.
        wait_until(gone, ORPHANS_SECONDS)
        if not self.running():
            return False
        (self.folder / "port").write_text(f"{port}\n")
        return True

    def _pid(self) -> int | None:
        return read_pid(self.data / "postmaster.pid")

    def _is_ready(self, pid: int | None) -> bool:
        """The eighth line of postmaster.pid is PostgreSQL's own word on it."""
        if not lives_in(pid, self.data):
            return False
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _forget_stale_pid(self) -> None:
        """After a reboot the number may belong to a stranger, which PostgreSQL would take for itself."""
        pid = self._pid()
        if pid is not None and Path(f"/proc/{pid}").exists():
            (self.data / "postmaster.pid").unlink()

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        self.account.own(path)

    def _must(self, *argv: str | Path, stdin: str = "") -> None:
        done = self.account.run(argv, cwd=self.folder, stdin=stdin, env={"PATH": os.defpath, "LC_ALL": "C"})
        if done.returncode != 0:
            text = "\n    ".join(done.stdout.splitlines()[-20:])
            raise Failure(f"{Path(argv[0]).name} failed:\n    {text}")


def _write_secret(path: Path) -> str:
    secret = secrets.token_hex(16)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
    return secret
