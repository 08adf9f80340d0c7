"""Finding the engine that a setting names: one of the service's own, or `module:factory`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trunkline_runtime.config import ConfigError

MEMBERS = ("name", "problem", "__aenter__", "__aexit__")
"""What every engine has."""


def load_engine(
    variable: str, value: str, named: Mapping[str, Callable[[], Any]], members: Sequence[str]
) -> Any:
    """Make the engine that `value` names: one of `named`, or what `module:factory` gives when called without arguments.

    `variable` is the setting's, for the messages; `members` is what an engine of this service has beside MEMBERS.
    Raises ConfigError.
    """
    try:
        engine = (named[value] if value in named else _factory(value, sorted(named)))()
    except ConfigError as error:
        raise ConfigError(f"{variable}: {error}") from None
    except Exception as error:  # whatever a plug-in raises: the setting is wrong
        told = f"{value!r} cannot make an engine: {type(error).__name__}: {error}"
        raise ConfigError(f"{variable}: {told}") from error
    if absent := [name for name in (*MEMBERS, *members) if not hasattr(engine, name)]:
        raise ConfigError(f"{variable}: {value!r} does not make an engine: there is no {', '.join(absent)}")
    return engine


def _factory(value: str, names: Sequence[str]) -> Callable[[], Any]:
    module, _, attribute = value.partition(":")
    allowed = f"allowed are {', '.join(names)} or module:factory"
    if not module or not attribute:
        raise ConfigError(f"there is no engine {value!r}; {allowed}")
    try:
        factory: Callable[[], Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{value!r} cannot be loaded: {error}; {allowed}") from None
    if not callable(factory):
        raise ConfigError(f"{value!r} is not a factory: it cannot be called")
    return factory
