"""Finding the engine that a setting names."""

from __future__ import annotations

import importlib
from typing import cast

from trunkline_ai.engines.base import Engine


def load_engine(setting: str) -> Engine:
    """Make the engine `local`, or what `module:factory` gives when called without arguments.

    Raises ValueError that says what is wrong with the setting.
    """
    if setting == "local":
        from trunkline_ai.engines.local.engine import LocalEngine  # noqa: PLC0415 - engines load when used

        return LocalEngine()
    module_name, colon, factory_name = setting.partition(":")
    if not colon or not module_name or not factory_name:
        raise ValueError(f"{setting!r} is neither local nor module:factory")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{setting!r} cannot be loaded: {error}") from None
    if not callable(factory):
        raise ValueError(f"{setting!r} is not a factory: it cannot be called")
    return cast(Engine, factory())
