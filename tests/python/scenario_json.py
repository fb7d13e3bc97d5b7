"""Between the scenarios' JSON and Python values: see tests/scenarios/README.md."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any


def tagged(value: Any) -> tuple[str, Any] | None:
    """The tag of an object such as `{"$decimal": "1.50"}` and what it holds."""
    if isinstance(value, dict) and len(value) == 1:
        ((name, inner),) = value.items()
        if name.startswith("$"):
            return name[1:], inner
    return None


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "repeat": lambda parts: parts[0] * parts[1],
    "int": int,
    "float": float,
    "decimal": Decimal,
    "bytes": bytes.fromhex,
    "uuid": uuid.UUID,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timestamp": datetime.datetime.fromisoformat,
    "timestamptz": lambda text: datetime.datetime.fromisoformat(text.replace("Z", "+00:00")),
    "json": lambda value: value,
}


def decode(value: Any) -> Any:
    """The Python value that a scenario writes."""
    tag = tagged(value)
    if tag:
        return _DECODERS[tag[0]](tag[1])
    if isinstance(value, list):
        return [decode(item) for item in value]
    return value


def same(got: Any, expected: Any) -> bool:
    """Equal in value and in kind: 1 is not 1.0 is not True is not Decimal(1)."""
    expected = decode(expected)
    if isinstance(expected, list):
        return isinstance(got, list) and len(got) == len(expected) and all(map(same, got, expected))
    if isinstance(expected, dict):
        same_keys = isinstance(got, dict) and got.keys() == expected.keys()
        return same_keys and all(same(got[key], expected[key]) for key in expected)
    return type(got) is type(expected) and got == expected


def data(value: Any) -> Any:
    """The data of a write: text, bytes, or what is to be encoded as JSON."""
    return decode(value)


def shown(got: bytes | None) -> str | bytes | None:
    """What a read gave, as scenarios write it: text where it is text."""
    try:
        return None if got is None else got.decode()
    except UnicodeDecodeError:
        return got


def parse_json(text: str) -> Any:
    """Scenarios are plain JSON."""
    return json.loads(text)
