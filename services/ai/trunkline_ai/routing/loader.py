"""Finds the engines that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from trunkline_runtime.config import ConfigError, env_name
from trunkline_runtime.engines import loader
from trunkline_runtime.engines.account import Account
from trunkline_runtime.engines.prices import load_prices, priced

from trunkline_ai.cache.tiers import AnswerCache
from trunkline_ai.engines.base import CompletingEngine, LanguageEngine
from trunkline_ai.engines.charged import ChargedEngine, ChargedModel
from trunkline_ai.names import SERVICE
from trunkline_ai.routing.guards import GuardedEngine, GuardedModel, Patience
from trunkline_ai.routing.settings import LOCAL, OPENAI, VERTEX, LanguageEngineSettings

_VARIABLE = env_name(SERVICE, "engine")
_PRICES = {"input_price_micros": "input_micros", "output_price_micros": "output_micros"}
"""The settings of an engine that a price sets."""


def load_engines(
    settings: LanguageEngineSettings, account: Account | None = None, cache: AnswerCache | None = None
) -> dict[str, LanguageEngine]:
    """Make the engines of `settings.engines`, each a name of NAMED or `module:factory`, and LOCAL. Starts nothing.

    An engine that has `complete` and no tasks of its own gets them from its prompts. With an `account`, the answers of
    engines other than LOCAL are charged; in a `cache`, models' answers are kept. Raises ConfigError.
    """
    named = {name: partial(make, settings) for name, make in NAMED.items()}
    patience = Patience(
        settings.engine_failures, settings.engine_rest_seconds, settings.engine_patience_seconds
    )
    made = {value: _loaded(value, named, patience, account, cache) for value in settings.engines}
    return made if LOCAL in made else {**made, LOCAL: local_engine()}


def _loaded(
    value: str,
    named: Mapping[str, Callable[[], LanguageEngine | CompletingEngine]],
    patience: Patience,
    account: Account | None,
    cache: AnswerCache | None,
) -> LanguageEngine:
    engine = loader.load_engine(_VARIABLE, value, named, ("capabilities",))
    if value == LOCAL:
        return cast(LanguageEngine, engine)
    if hasattr(engine, "analyze"):
        guarded = GuardedEngine(value, cast(LanguageEngine, engine), patience)
        return guarded if account is None else ChargedEngine(guarded, account)
    if hasattr(engine, "complete"):
        # A spent budget says nothing of the engine: its breaker is inside.
        model = GuardedModel(value, cast(CompletingEngine, engine), patience)
        return _prompted(model if account is None else ChargedModel(model, account), cache)
    told = f"{value!r} does not make an engine: there is neither analyze nor complete"
    raise ConfigError(f"{_VARIABLE}: {told}")


def local_engine() -> LanguageEngine:
    """Make the engine that is always there."""
    from trunkline_ai.engines.local.engine import LocalEngine  # noqa: PLC0415 - engines load when used

    return LocalEngine()


def _local(_settings: LanguageEngineSettings) -> LanguageEngine:
    return local_engine()


def _openai(settings: LanguageEngineSettings) -> CompletingEngine:
    from trunkline_ai.engines.openai.engine import OpenAiEngine  # noqa: PLC0415 - engines load when used

    return OpenAiEngine(
        priced(settings.openai, load_prices(settings.prices_file), settings.openai.model, _PRICES)
    )


def _vertex(settings: LanguageEngineSettings) -> CompletingEngine:
    from trunkline_ai.engines.vertex.engine import VertexEngine  # noqa: PLC0415 - as above

    return VertexEngine(
        priced(settings.vertex, load_prices(settings.prices_file), settings.vertex.model, _PRICES)
    )


def _prompted(model: CompletingEngine, cache: AnswerCache | None) -> LanguageEngine:
    from trunkline_ai.cache.engine import CachedEngine  # noqa: PLC0415 - only models need prompts
    from trunkline_ai.engines.prompted import PromptedEngine  # noqa: PLC0415 - as above
    from trunkline_ai.redaction.engine import RedactedEngine  # noqa: PLC0415 - as above

    # What is kept is redacted: the cache is behind the placeholders.
    return PromptedEngine(RedactedEngine(model if cache is None else CachedEngine(model, cache)))


NAMED: dict[str, Callable[[LanguageEngineSettings], LanguageEngine | CompletingEngine]] = {
    LOCAL: _local,
    OPENAI: _openai,
    VERTEX: _vertex,
}
"""The service's own engines, each made from its own settings."""
