"""Checking a server that the caller named: does something that speaks the right protocol answer there?

Only as much of an address is understood as that takes; whether the password is right, the tests will tell. A password
never appears in a message.
"""

from __future__ import annotations

import re
import socket
import struct
from urllib.parse import parse_qs, unquote, urlsplit

from devservers.report import Failure

SECONDS = 5
# The first message of a PostgreSQL client that asks for TLS: answered by one byte before any authentication.
SSL_REQUEST = struct.pack("!II", 8, 80877103)


def check_postgres(dsn: str) -> None:
    places = _postgres_places(dsn)
    for host, port in places:
        if host.startswith("/"):
            answer = _ask(f"{host}/.s.PGSQL.{port}", SSL_REQUEST)
        else:
            answer = _ask((host, port), SSL_REQUEST)
        if answer[:1] in (b"S", b"N", b"E"):
            return
    where = ", ".join(f"{host}:{port}" for host, port in places)
    raise Failure(f"ZMSG_POSTGRES_DSN is set, but no PostgreSQL answers at {where}; start it or unset the variable")


def check_redis(variable: str, address: str) -> None:
    places = [_redis_place(one.strip()) for one in address.split(",")]
    for place in places:
        if place is None or _ask(place, b"PING\r\n")[:1] in (b"+", b"-"):
            return
    where = ", ".join(_text(place) for place in places if place is not None)
    raise Failure(f"{variable} is set, but no Redis answers at {where}; start it or unset the variable")


def _postgres_places(dsn: str) -> list[tuple[str, int]]:
    if "://" in dsn:
        parts = urlsplit(dsn)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        hosts: list[str] = []
        ports: list[str] = []
        for one in parts.netloc.rpartition("@")[2].split(","):
            match = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::(\d*))?", one)
            hosts.append(unquote(match[1]).strip("[]") if match else one)
            ports.append((match[2] if match else None) or "5432")
        hosts = query["host"].split(",") if "host" in query else hosts
        ports = query["port"].split(",") if "port" in query else ports
    else:
        pairs = dict(re.findall(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)", dsn))
        hosts = pairs.get("host", "").strip("'").split(",")
        ports = pairs.get("port", "5432").strip("'").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts) or not all(port.isdigit() for port in ports):
        raise Failure("ZMSG_POSTGRES_DSN does not say which port belongs to which host")
    return [(host or "localhost", int(port)) for host, port in zip(hosts, ports, strict=True)]


def _redis_place(address: str) -> str | tuple[str, int] | None:
    """None means: encrypted, so a plain PING says nothing."""
    if address.startswith(("unix://", "redis+unix://")):
        return unquote(urlsplit(address).path)
    if address.startswith("rediss://"):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"redis://{address}")
        return (parts.hostname or "localhost", parts.port or 6379)
    except ValueError:
        raise Failure("the address of Redis is neither host:port nor a redis:// URL") from None


def _ask(place: str | tuple[str, int], question: bytes) -> bytes:
    try:
        if isinstance(place, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(SECONDS)
            connection.connect(place)
        else:
            connection = socket.create_connection(place, timeout=SECONDS)
        with connection:
            connection.sendall(question)
            return connection.recv(64)
    except OSError:
        return b""


def _text(place: str | tuple[str, int]) -> str:
    return place if isinstance(place, str) else f"{place[0]}:{place[1]}"
