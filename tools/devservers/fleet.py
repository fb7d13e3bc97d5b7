"""Decides where each of the three servers comes from, and speaks for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import debian
from devservers import redis
from devservers.binaries import find_or_install, find_postgres, find_redis
from devservers.compose import Compose
from devservers.home import Home
from devservers.named import check_postgres, check_redis
from devservers.postgres import PrivatePostgres
from devservers.redis import PrivateRedis
from devservers.report import Failure, say

POSTGRES_DSN = "ZMSG_POSTGRES_DSN"
REDIS_ADDR = "ZMSG_REDIS_ADDR"
QUEUE_ADDR = "ZMSG_QUEUE__ADDR"


@dataclass(frozen=True)
class Fleet:
    home: Home
    compose_file: Path

    def up(self) -> dict[str, str]:
        """Start what is missing; the environment that names everything. Doing it again changes nothing."""
        with self.home.locked():
            environment = {POSTGRES_DSN: self._postgres()}
            environment |= self._redis_pair()
            return environment

    def down(self) -> None:
        with self.home.locked():
            self._stop()

    def purge(self) -> None:
        with self.home.locked():
            self._stop()
            if self._compose().exists:
                self._compose().purge()
            say(f"deleting {self.home.path()}")
            self.home.delete()

    def status(self) -> bool:
        """Whether everything that `env` would name is running."""
        healthy = True
        named = {name: os.environ[name] for name in (POSTGRES_DSN, REDIS_ADDR, QUEUE_ADDR) if os.environ.get(name)}
        for variable, server in self._private().items():
            if variable in named:
                print(f"{server.name}: named by {variable}")
            elif variable == QUEUE_ADDR and REDIS_ADDR in named:
                print(f"{server.name}: the same as {REDIS_ADDR}")
            elif (self.home.path() / f"compose-{SERVICES[variable]}").exists():
                running = self._compose().running()
                print(f"{server.name}: {'running' if running else 'stopped'} (docker compose)")
                healthy &= running
            elif server.running():
                print(f"{server.name}: running, files in {server.folder}")
            else:
                print(f"{server.name}: stopped")
                healthy = False
        return healthy

    def programs(self) -> dict[str, str | int]:
        """What a test needs to run servers that it kills: none of these may be a container or somebody's own."""
        postgres = find_or_install(find_postgres, "postgresql")
        redis_server = find_or_install(find_redis, "redis-server")
        if postgres is None or redis_server is None:
            packages = ["postgresql", "redis-server"]
            raise Failure(f"tests that kill servers need their programs on this machine: {debian.by_hand(packages)}")
        account = self.home.account()
        return {
            "postgres": str(postgres.folder),
            "redis": str(redis_server.server),
            "uid": account.uid,
            "gid": account.gid,
        }

    def _postgres(self) -> str:
        named = os.environ.get(POSTGRES_DSN)
        if named:
            check_postgres(named)
            return named
        program = find_or_install(find_postgres, "postgresql")
        if program is not None:
            server = self._private_postgres()
            server.up(program)
            return server.address()
        return self._contained(
            POSTGRES_DSN, "postgresql", lambda port: f"postgresql://zmsg:zmsg@127.0.0.1:{port}/zmsg?sslmode=disable"
        )

    def _redis_pair(self) -> dict[str, str]:
        """A queue address that is not given is the cache's, as in the engine, if that one is given."""
        cache, queue = os.environ.get(REDIS_ADDR), os.environ.get(QUEUE_ADDR)
        if cache:
            check_redis(REDIS_ADDR, cache)
        if queue:
            check_redis(QUEUE_ADDR, queue)
        return {
            REDIS_ADDR: cache or self._redis(REDIS_ADDR),
            QUEUE_ADDR: queue or cache or self._redis(QUEUE_ADDR),
        }

    def _redis(self, variable: str) -> str:
        program = find_or_install(find_redis, "redis-server")
        if program is not None:
            server = self._private_redis(variable)
            server.up(program)
            return server.address()
        return self._contained(variable, "redis-server", lambda port: f"127.0.0.1:{port}")

    def _contained(self, variable: str, package: str, address: Callable[[int], str]) -> str:
        compose = self._compose()
        if compose.available():
            return address(compose.up(SERVICES[variable]))
        raise Failure(
            f"no usable {package} on this machine, no right to install it, and no docker compose.\n"
            f"    Either install it:    {debian.by_hand([package])}\n"
            f"    or start Docker with the compose plugin,\n"
            f"    or name a server:     export {variable}=..."
        )

    def _stop(self) -> None:
        for server in self._private().values():
            server.down()
        if self._compose().exists:
            self._compose().down()

    def _private(self) -> dict[str, PrivatePostgres | PrivateRedis]:
        return {
            POSTGRES_DSN: self._private_postgres(),
            REDIS_ADDR: self._private_redis(REDIS_ADDR),
            QUEUE_ADDR: self._private_redis(QUEUE_ADDR),
        }

    # Looked up each time: an installation may bring the user that the servers run as.
    def _private_postgres(self) -> PrivatePostgres:
        return PrivatePostgres(self.home.path() / "pg", self.home.account())

    def _private_redis(self, variable: str) -> PrivateRedis:
        name, settings = PRIVATE_REDIS[variable]
        return PrivateRedis(name, self.home.path() / SERVICES[variable], self.home.account(), settings)

    def _compose(self) -> Compose:
        return Compose(self.home, self.compose_file)


SERVICES = {POSTGRES_DSN: "postgres", REDIS_ADDR: "redis-cache", QUEUE_ADDR: "redis-queue"}
PRIVATE_REDIS = {
    REDIS_ADDR: ("cache Redis", redis.CACHE),
    QUEUE_ADDR: ("queue Redis", redis.QUEUE),
}
