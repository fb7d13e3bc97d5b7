"""A wall clock of a worker's own, which a test can put forward and back while it runs."""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


@functools.cache
def _library() -> str:
    """Loaded into a process, it takes the place of the calls that ask for the time."""
    path = Path(tempfile.mkdtemp(prefix="zmsg-clock-")) / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(path), str(_SOURCE)], check=True)
    return str(path)


class WallClock:
    """The offset that processes started in its ``environment`` have."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "wall-clock"
        self._path.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": _library(), "ZMSG_TEST_CLOCK": str(self._path)}

    def put(self, seconds: int) -> None:
        """From now on it is off by so much."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("=q", seconds))
