"""Finds the engine that a setting names."""

from __future__ import annotations

from typing import Protocol, cast

from trunkline_audio.engines.base import Engine
from trunkline_audio.workers.jobs import resolve

NAMES = {"local": "trunkline_audio.engines.local:create"}


class Factory(Protocol):
    """Makes an engine that uses `workers` processes, 0 for one a core."""

    def __call__(self, workers: int = 0) -> Engine:
        """Makes the engine without starting anything."""


def load_engine(setting: str, workers: int = 0) -> Engine:
    """An engine by name (`local`) or by `module:factory`. Raises ValueError that names what is allowed."""
    target = NAMES.get(setting, setting)
    try:
        factory = cast(Factory, resolve(target))
    except (ImportError, AttributeError, ValueError) as error:
        allowed = ", ".join(sorted(NAMES))
        raise ValueError(
            f"no engine {setting!r} ({error}); allowed are {allowed} or module:factory"
        ) from error
    return factory(workers)
