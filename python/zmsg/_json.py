"""JSON as zmsg writes it: compact, UTF-8, no NaN; and where in an object the part is that has no JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from .errors import TaskError

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
# Deep enough for every real document, shallow enough for a search that recurses.
_DEPTH = 200


def dumps(value: object, place: str) -> str:
    """The JSON text of ``value``; ``place`` names it in the error."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskError(f"{place} is not JSON-serialisable: {_complaint(value, '$', (), error)}") from None


def _complaint(value: Any, path: str, above: tuple[int, ...], error: Exception) -> str:
    found = _search(value, path, above)
    return found if found is not None else str(error)


def _search(value: Any, path: str, above: tuple[int, ...]) -> str | None:
    """What is wrong and where, or None if this part is fine."""
    if value is None or isinstance(value, (str, bool, int)):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}, which JSON cannot hold"
    if not isinstance(value, (dict, list, tuple)):
        return f"{path} is of type {type(value).__qualname__}"
    if id(value) in above:
        return f"{path} holds itself"
    if len(above) > _DEPTH:
        return f"{path[:60]}… is nested deeper than {_DEPTH} levels"
    above = (*above, id(value))
    if isinstance(value, dict):
        return _search_dict(value, path, above)
    return next((found for index, it in enumerate(value) if (found := _search(it, f"{path}[{index}]", above))), None)


def _search_dict(value: dict[Any, Any], path: str, above: tuple[int, ...]) -> str | None:
    for key, part in value.items():
        if not (key is None or isinstance(key, (str, int, float))):
            return f"{path} has a key of type {type(key).__qualname__}"
        if found := _search(part, f"{path}.{key}", above):
            return found
    return None
