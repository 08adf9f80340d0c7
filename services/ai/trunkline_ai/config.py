"""The service's settings: TRUNKLINE_AI_*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trunkline_runtime.config import ConfigError, StoreConfig, env_name, load, setting

from trunkline_ai.cache.settings import CacheSettings
from trunkline_ai.names import SERVICE
from trunkline_ai.routing.settings import VERTEX, LanguageEngineSettings


@dataclass(frozen=True, kw_only=True)
class AiConfig(LanguageEngineSettings, StoreConfig):
    """What the ai service is told."""

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
