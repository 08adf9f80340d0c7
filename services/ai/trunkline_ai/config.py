"""The service's settings: TRUNKLINE_AI_*."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime.config import StoreConfig, setting


@dataclass(frozen=True, kw_only=True)
class AiConfig(StoreConfig):
    """What the ai service is told."""

    engine: str = setting("local", "analysis engine: local, or module:factory of one's own")
    analyses_days: int = setting(
        0,
        "days an analysis is kept when its tenant's retention says nothing; 0: for good",
        least=0,
        most=36500,
    )
    sweep_seconds: float = setting(600.0, "how often what is past its days is deleted", least=1, most=86_400)
    analyses_at_once: int = setting(
        16, "conversations analysed at once; further ones wait", least=1, most=1_000
    )
