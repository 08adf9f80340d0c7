"""Finding the engine that a setting names."""

from __future__ import annotations

import importlib
from typing import cast

from trunkline_ai.engines.base import Engine

_MEMBERS = ("name", "analyze", "close")


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
    try:
        engine = factory()
    except Exception as error:  # whatever a plug-in raises: the setting is wrong
        raise ValueError(f"{setting!r} cannot make an engine: {type(error).__name__}: {error}") from error
    if absent := [name for name in _MEMBERS if not hasattr(engine, name)]:
        raise ValueError(f"{setting!r} does not make an engine: there is no {', '.join(absent)}")
    return cast(Engine, engine)
