"""What engines of speech and of language are both told: a part of TRUNKLINE_AUDIO_* and of TRUNKLINE_AI_*."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline_runtime.engines.prices import PRICES
from trunkline_runtime.settings import setting


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What every service with engines is told about them; each adds its own engines and theirs."""

    engines: tuple[str, ...]
    """The engines' names, the preferred one first. Each service declares which there are.

    Declared here only for its place: a field that a subclass declares again keeps its position.
    """
    engine_failures: int = setting(
        3,
        "the number of consecutive failures after which an engine isn't asked for a while, if another one can answer",
        least=1,
        most=1_000,
    )
    engine_rest_seconds: float = setting(
        30.0, "how long an engine isn't asked after consecutive failures", least=0.01, most=3_600
    )
    prices_file: Path | None = setting(
        None,
        "a TOML file with the prices of models, instead of the one that the suite brings; read at start",
        form=PRICES,
    )
