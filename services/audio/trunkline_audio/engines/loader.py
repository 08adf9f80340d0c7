"""Finds the engine that a setting names."""

from __future__ import annotations

from typing import Protocol, cast

from trunkline_audio.config import WHISPER, AudioConfig
from trunkline_audio.engines.base import Engine
from trunkline_audio.workers.handlers import resolve

NAMES = {WHISPER: "trunkline_audio.engines.whisper.engine:create"}

_MEMBERS = ("name", "ready", "start", "transcribe", "close")


class Factory(Protocol):
    """Makes an engine as the service's settings have it."""

    def __call__(self, config: AudioConfig) -> Engine:
        """Makes the engine without starting anything."""


def load_engine(config: AudioConfig) -> Engine:
    """The engine of `config.engine`: a name (`whisper`) or `module:factory`. Raises ValueError that names both."""
    target = NAMES.get(config.engine, config.engine)
    try:
        factory = cast(Factory, resolve(target))
    except (ImportError, AttributeError, ValueError) as error:
        allowed = ", ".join(sorted(NAMES))
        raise ValueError(
            f"no engine {config.engine!r} ({error}); allowed are {allowed} or module:factory"
        ) from error
    try:
        engine = factory(config)
    except Exception as error:  # whatever a plug-in raises: the setting is wrong
        raise ValueError(
            f"{config.engine!r} cannot make an engine: {type(error).__name__}: {error}"
        ) from error
    if absent := [name for name in _MEMBERS if not hasattr(engine, name)]:
        raise ValueError(f"{config.engine!r} does not make an engine: there is no {', '.join(absent)}")
    return engine
