"""tools/servers.py against real servers of its own, in a folder of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "servers.py"
VARIABLES = ("ZMSG_POSTGRES_DSN", "ZMSG_REDIS_ADDR", "ZMSG_QUEUE__ADDR")


class Servers:
    def __init__(self, state: Path) -> None:
        self.state = state

    def __call__(self, *words: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ZMSG_")}
        done = subprocess.run(
            [sys.executable, SCRIPT, "--state", self.state, *words],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    def env(self) -> dict[str, str]:
        return dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", self("env").stdout, re.MULTILINE))

    def folder(self) -> Path:
        """Where the files are: below the wanted folder, or where `status` says instead."""
        return Path(re.findall(r"files in (.*)/pg$", self("status").stdout, re.MULTILINE)[0])

    def pids(self) -> list[int]:
        folder = self.folder()
        files = [folder / "pg/data/postmaster.pid", folder / "redis-cache/pid", folder / "redis-queue/pid"]
        return [int(file.read_text().split()[0]) for file in files]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path / "state")
    yield servers
    servers("purge")


def redis(address: str, *words: str) -> str:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall((" ".join(words) + "\r\n").encode())
        return connection.recv(4096).decode()


def postgres(dsn: str) -> bytes:
    """The first byte of PostgreSQL's answer to a login: R asks for the password, E refuses."""
    match = re.fullmatch(r"postgresql://zmsg:\w{32}@127\.0\.0\.1:(\d+)/zmsg\?sslmode=disable", dsn)
    assert match, dsn
    login = b"\x00\x03\x00\x00user\x00zmsg\x00database\x00zmsg\x00\x00"
    with socket.create_connection(("127.0.0.1", int(match[1])), timeout=5) as connection:
        connection.sendall((len(login) + 4).to_bytes(4, "big") + login)
        return connection.recv(9)


def assert_all_answer(env: dict[str, str]) -> None:
    assert tuple(env) == VARIABLES
    # 10 is SASL: nobody gets in without the password.
    assert postgres(env["ZMSG_POSTGRES_DSN"])[:1] == b"R"
    assert postgres(env["ZMSG_POSTGRES_DSN"])[5:9] == (10).to_bytes(4, "big")
    assert "allkeys-lru" in redis(env["ZMSG_REDIS_ADDR"], "CONFIG", "GET", "maxmemory-policy")
    assert "noeviction" in redis(env["ZMSG_QUEUE__ADDR"], "CONFIG", "GET", "maxmemory-policy")
    assert "always" in redis(env["ZMSG_QUEUE__ADDR"], "CONFIG", "GET", "appendfsync")


def test_life_of_private_servers(servers: Servers) -> None:
    # Two at once: one of them waits, both get the same.
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: servers.env(), range(2))
    assert first == second
    assert_all_answer(first)
    servers("status")
    assert redis(first["ZMSG_QUEUE__ADDR"], "SET", "task", "1") == "+OK\r\n"

    # kill -9 leaves stale pid files; addresses stay, and so does what the queue acknowledged.
    for pid in servers.pids():
        os.kill(pid, signal.SIGKILL)
    servers("status", code=1)
    assert servers.env() == first
    assert_all_answer(first)
    assert redis(first["ZMSG_QUEUE__ADDR"], "GET", "task") == "$1\r\n1\r\n"

    # After a reboot a number may belong to somebody else: here, to this test.
    folder = servers.folder()
    servers("down")
    assert "running" not in servers("status", code=1).stdout
    for address in (first["ZMSG_REDIS_ADDR"], first["ZMSG_QUEUE__ADDR"]):
        with pytest.raises(ConnectionRefusedError):
            redis(address, "PING")
    with pytest.raises(ConnectionRefusedError):
        postgres(first["ZMSG_POSTGRES_DSN"])
    (folder / "pg/data/postmaster.pid").write_text(f"{os.getpid()}\n{folder}/pg/data\n0\n1\n\n\n0 0\nready\n")
    (folder / "redis-cache/pid").write_text(f"{os.getpid()}\n")
    done = servers("exec", "--", "sh", "-c", "echo $ZMSG_REDIS_ADDR; exit 7", code=7)
    assert done.stdout.strip() == first["ZMSG_REDIS_ADDR"]
    assert_all_answer(first)

    servers("purge")
    assert not folder.exists() or [entry.name for entry in folder.iterdir()] == ["lock"]


def test_a_named_server_that_is_away_is_an_error_without_the_password(servers: Servers) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        dsn = f"postgresql://me:sesame@127.0.0.1:{port}/db"
        done = servers("up", code=1, ZMSG_POSTGRES_DSN=dsn)
        assert f"no PostgreSQL answers at 127.0.0.1:{port}" in done.stderr
        assert "sesame" not in done.stderr


def test_named_servers_are_used_as_they_are(servers: Servers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer(times: int) -> None:
            for reply in [b"N", b"+PONG\r\n"][:times]:
                with listener.accept()[0] as connection:
                    connection.recv(64)
                    connection.sendall(reply)

        answered = pool.submit(answer, 2)
        done = servers("env", ZMSG_POSTGRES_DSN=f"host=127.0.0.1 port={address.split(':')[1]}", ZMSG_REDIS_ADDR=address)
        answered.result()
    # No queue is named, so it is the cache's, which is what the engine does too.
    assert f"ZMSG_QUEUE__ADDR={address}\n" in done.stdout
    assert "starting" not in done.stderr


def test_programs_names_what_a_test_needs_to_run_servers_itself(servers: Servers) -> None:
    said = json.loads(servers("programs").stdout)
    assert (Path(said["postgres"]) / "initdb").exists()
    assert Path(said["redis"]).exists()
    assert said["uid"] != 0
