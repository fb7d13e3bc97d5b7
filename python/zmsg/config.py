"""The configuration: a YAML file, ``ZMSG_*`` variables and arguments, checked by the engine in one place."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from ._native import Settings
from .errors import ConfigError

__all__ = ["Config", "load_config"]


class Config:
    """Every setting of an engine, checked and immutable.

    ``Config(postgres_dsn=…, queue={"concurrency": 4})``: arguments win over ``ZMSG_*`` variables. Times are seconds,
    a ``timedelta`` or text as ``"5s"``.

    Raises:
        ConfigError: a key is unknown, a value is refused, or ``postgres_dsn`` is missing.
    """

    __slots__ = ("_settings",)
    _settings: Settings

    def __init__(self, /, **keys: Any) -> None:
        object.__setattr__(self, "_settings", Settings.resolve(None, _as_json(keys)))

    @classmethod
    def _of(cls, settings: Settings) -> Config:
        config = cls.__new__(cls)
        object.__setattr__(config, "_settings", settings)
        return config

    def overridden(self, /, **keys: Any) -> Config:
        """The same configuration with some keys replaced."""
        return Config._of(self._settings.overridden(_as_json(keys)))

    def describe(self) -> dict[str, Any]:
        """Every setting by key, for people: times as text, connection strings without their passwords."""
        described: dict[str, Any] = json.loads(self._settings.describe())
        return described

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Config is immutable; make another one with overridden()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Config is immutable; make another one with overridden()")

    def __copy__(self) -> Config:
        return self

    def __deepcopy__(self, memo: object) -> Config:
        return self

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{key}={value!r}' for key, value in self.describe().items())})"


Source = Config | Mapping[str, Any] | str | os.PathLike[str] | None
"""What ``open`` takes: a configuration, its keys, the path of a YAML file, or nothing."""
Span: TypeAlias = float | timedelta | str
"""A time: seconds, a ``timedelta``, or text as ``"500ms"``, ``"5s"``, ``"10m"``, ``"24h"``."""


def load_config(path: str | os.PathLike[str]) -> Config:
    """Reads a YAML file and the ``ZMSG_*`` variables, which win over the file.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is refused.
    """
    return Config._of(Settings.resolve(os.fspath(path), "{}"))


def settings_of(config: Source, overrides: Mapping[str, Any]) -> Settings:
    """What ``open`` was given, as one checked configuration."""
    if isinstance(config, Config):
        return config._settings.overridden(_as_json(overrides)) if overrides else config._settings
    if config is None or isinstance(config, Mapping):
        return Settings.resolve(None, _as_json({**(config or {}), **overrides}))
    if isinstance(config, (str, os.PathLike)):
        return Settings.resolve(os.fspath(config), _as_json(overrides))
    raise ConfigError(f"config must be a path, a Config, a dict or None, not {type(config).__qualname__}")


def _as_json(keys: Mapping[str, Any]) -> str:
    try:
        return json.dumps(keys, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the configuration is refused: {error}") from None


def _plain(value: object) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a value is of type {type(value).__qualname__}")
