"""The service's settings: TRUNKLINE_AI_*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trunkline_runtime import forms
from trunkline_runtime.config import ConfigError, StoreConfig, env_name, load, setting
from trunkline_runtime.engines.prices import PRICES

from trunkline_ai.cache.settings import CacheSettings
from trunkline_ai.engines.openai.settings import OpenAiSettings
from trunkline_ai.engines.vertex.settings import VertexSettings

SERVICE = "ai"
LOCAL = "local"
OPENAI = "openai"
VERTEX = "vertex"

QUALITY = "quality"
BALANCED = "balanced"
CHEAP = "cheap"
PRIVATE = "private"


@dataclass(frozen=True, kw_only=True)
class AiConfig(StoreConfig):
    """What the ai service is told."""

    engines: tuple[str, ...] = setting(
        (LOCAL,),
        "the analysis engine: local, vertex (Gemini), openai (any endpoint that speaks its protocol), or "
        "module:factory of your own engine; or several, comma-separated, the best first: the next one answers while "
        "one can't, and local is always the last",
        form=forms.plug_ins(LOCAL, VERTEX, OPENAI),
        name="engine",
    )
    policy: str = setting(
        QUALITY,
        "how an engine is chosen for a conversation, if the tenant's settings don't say this: quality (the order of "
        "the engines), balanced (local for what is simple), cheap (the cheapest one that analyses the language), or "
        "private (engines inside your network only)",
        choices=(QUALITY, BALANCED, CHEAP, PRIVATE),
    )
    complex_from: float = setting(
        0.35,
        "the complexity, 0 to 1, from which the policy balanced asks the other engines before local",
        least=0,
        most=1,
    )
    engine_failures: int = setting(
        3,
        "the number of consecutive failures after which an engine isn't asked for a while",
        least=1,
        most=1_000,
    )
    engine_rest_seconds: float = setting(
        30.0, "how long an engine isn't asked after consecutive failures", least=0.01, most=3_600
    )
    engine_patience_seconds: float = setting(
        120.0,
        "how long an engine of your own can take for an answer before another one is asked",
        least=0.1,
        most=3_600,
    )
    openai: OpenAiSettings = field(default_factory=OpenAiSettings)
    vertex: VertexSettings = field(default_factory=VertexSettings)
    prices_file: Path | None = setting(
        None,
        "a TOML file with the prices of models, instead of the one that the suite brings; read at start",
        form=PRICES,
    )
    cache: CacheSettings = field(default_factory=CacheSettings)
    analyses_days: int = setting(
        0,
        "how many days to keep an analysis, if the tenant's retention does not set this; 0 keeps it "
        "permanently",
        least=0,
        most=36500,
    )
    sweep_seconds: float = setting(
        600.0, "the interval between deletions of expired data", least=1, most=86_400
    )
    analyses_at_once: int = setting(
        16,
        "the most conversations analysed at once by engines inside the service; further ones wait",
        least=1,
        most=1_000,
    )
    analyses_waiting: int = setting(
        1_000,
        "the most analyses that are made or wait for an engine; further requests must try again later",
        least=1,
        most=100_000,
    )


def load_config(env: Mapping[str, str] | None = None, *, reach: bool = False) -> AiConfig:
    """Return the settings. Raises ConfigError that lists what is wrong."""
    config = load(AiConfig, SERVICE, env, reach=reach)
    if VERTEX in config.engines and not config.vertex.project:
        raise ConfigError([f"{env_name(SERVICE, f'{VERTEX}_project')} is required for the engine {VERTEX}"])
    return config
