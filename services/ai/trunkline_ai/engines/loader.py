"""Finds the engine that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from trunkline_runtime.config import ConfigError, env_name
from trunkline_runtime.engines import loader

from trunkline_ai.cache.tiers import AnswerCache
from trunkline_ai.config import LOCAL, OPENAI, SERVICE, VERTEX, AiConfig
from trunkline_ai.engines.base import CompletingEngine, LanguageEngine

_VARIABLE = env_name(SERVICE, "engine")


def load_engine(config: AiConfig, cache: AnswerCache | None = None) -> LanguageEngine:
    """Make the engine of `config.engine`: a name of NAMED, or `module:factory`. Starts nothing. Raises ConfigError.

    An engine that has `complete` and no tasks of its own gets them from its prompts, and its answers are kept in
    `cache`.
    """
    named = {name: partial(make, config) for name, make in NAMED.items()}
    engine = loader.load_engine(_VARIABLE, config.engine, named, ("capabilities",))
    if hasattr(engine, "analyze"):
        return cast(LanguageEngine, engine)
    if hasattr(engine, "complete"):
        return _prompted(cast(CompletingEngine, engine), cache)
    told = f"{config.engine!r} does not make an engine: there is neither analyze nor complete"
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


def _prompted(model: CompletingEngine, cache: AnswerCache | None) -> LanguageEngine:
    from trunkline_ai.cache.engine import CachedEngine  # noqa: PLC0415 - only models need prompts
    from trunkline_ai.engines.prompted import PromptedEngine  # noqa: PLC0415 - as above

    return PromptedEngine(model if cache is None else CachedEngine(model, cache))


NAMED: dict[str, Callable[[AiConfig], LanguageEngine | CompletingEngine]] = {
    LOCAL: _local,
    OPENAI: _openai,
    VERTEX: _vertex,
}
"""The service's own engines, each made from its own settings."""
