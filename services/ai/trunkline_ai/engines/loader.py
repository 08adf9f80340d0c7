"""Finds the engines that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from trunkline_runtime.config import ConfigError, env_name
from trunkline_runtime.engines import loader

from trunkline_ai.config import LOCAL, OPENAI, SERVICE, VERTEX, AiConfig
from trunkline_ai.engines.base import CompletingEngine, LanguageEngine
from trunkline_ai.routing.guards import GuardedEngine, GuardedModel, Patience

_VARIABLE = env_name(SERVICE, "engine")


def load_engines(config: AiConfig) -> dict[str, LanguageEngine]:
    """Make the engines of `config.engines`, each a name of NAMED or `module:factory`, and LOCAL. Starts nothing.

    An engine that has `complete` and no tasks of its own gets them from its prompts. Raises ConfigError.
    """
    named = {name: partial(make, config) for name, make in NAMED.items()}
    patience = Patience(config.engine_failures, config.engine_rest_seconds, config.engine_patience_seconds)
    made = {value: _loaded(value, named, patience) for value in config.engines}
    return made if LOCAL in made else {**made, LOCAL: local_engine()}


def _loaded(
    value: str, named: Mapping[str, Callable[[], LanguageEngine | CompletingEngine]], patience: Patience
) -> LanguageEngine:
    engine = loader.load_engine(_VARIABLE, value, named, ("capabilities",))
    if value == LOCAL:
        return cast(LanguageEngine, engine)
    if hasattr(engine, "analyze"):
        return GuardedEngine(value, cast(LanguageEngine, engine), patience)
    if hasattr(engine, "complete"):
        return _prompted(GuardedModel(value, cast(CompletingEngine, engine), patience))
    told = f"{value!r} does not make an engine: there is neither analyze nor complete"
    raise ConfigError(f"{_VARIABLE}: {told}")


def local_engine() -> LanguageEngine:
    """Make the engine that is always there."""
    from trunkline_ai.engines.local.engine import LocalEngine  # noqa: PLC0415 - engines load when used

    return LocalEngine()


def _local(_config: AiConfig) -> LanguageEngine:
    return local_engine()


def _openai(config: AiConfig) -> CompletingEngine:
    from trunkline_ai.engines.openai.engine import OpenAiEngine  # noqa: PLC0415 - engines load when used

    return OpenAiEngine(config.openai)


def _vertex(config: AiConfig) -> CompletingEngine:
    from trunkline_ai.engines.vertex.engine import VertexEngine  # noqa: PLC0415 - as above

    return VertexEngine(config.vertex)


def _prompted(model: CompletingEngine) -> LanguageEngine:
    from trunkline_ai.engines.prompted import PromptedEngine  # noqa: PLC0415 - only models need prompts

    return PromptedEngine(model)


NAMED: dict[str, Callable[[AiConfig], LanguageEngine | CompletingEngine]] = {
    LOCAL: _local,
    OPENAI: _openai,
    VERTEX: _vertex,
}
"""The service's own engines, each made from its own settings."""
