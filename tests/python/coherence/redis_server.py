"""A Redis of the test's own, to be killed, flushed, and started with what it had at an earlier time."""

from __future__ import annotations

import functools
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

_SERVERS = Path(__file__).resolve().parents[3] / "tools" / "servers.py"


@functools.cache
def _program() -> str:
    told = subprocess.run([sys.executable, _SERVERS, "programs"], capture_output=True, text=True, check=True)
    return str(json.loads(told.stdout)["redis"])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class RedisServer:
    """Writes to disk when it is told to save, or, with ``append``, everything before it answers."""

    def __init__(self, folder: Path, *, append: bool = False) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._append = ["--appendonly", "yes", "--appendfsync", "always"] if append else ["--appendonly", "no"]
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts with what was saved last, if anything was."""
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        log = str(self._folder / "log")
        self._process = subprocess.Popen([_program(), *settings, *self._append, "--logfile", log])
        end = time.monotonic() + 20
        while True:
            try:
                assert self.ask("PING") == b"+PONG"
            except (OSError, AssertionError):
                assert time.monotonic() < end, "Redis does not start"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """As with `kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def save(self) -> None:
        """What is there now is there again after the next start."""
        assert self.ask("SAVE") == b"+OK"

    def forget_saved(self) -> None:
        """The next start begins empty."""
        (self._folder / "dump.rdb").unlink(missing_ok=True)

    def copy_log(self, to: Path) -> None:
        """Copies what it has appended so far, as a backup of its folder does."""
        to.mkdir()
        for path in self._folder.glob("appendonly*"):
            if path.is_dir():
                shutil.copytree(path, to / path.name)
            else:
                shutil.copy(path, to)

    def put_log_back(self, copy: Path) -> None:
        """The next start finds the copy in the place of what was appended since."""
        for path in self._folder.glob("appendonly*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.copytree(copy, self._folder, dirs_exist_ok=True)

    def ask(self, *words: str) -> bytes:
        """The first line of the answer to a command."""
        text = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(f"*{len(words)}\r\n{text}".encode())
            with connection.makefile("rb") as answer:
                return answer.readline().rstrip()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder)
