"""The service's settings: TRUNKLINE_AI_*."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime.config import CommonConfig, setting


@dataclass(frozen=True, kw_only=True)
class AiConfig(CommonConfig):
    """What the ai service is told."""

    engine: str = setting("local", "analysis engine: local, or module:factory of one's own")
    analyses_days: int = setting(
        0,
        "days an analysis is kept when its tenant's retention says nothing; 0: for good",
        least=0,
        most=36500,
    )
    list_staleness_seconds: float = setting(
        5.0,
        "how old the snapshot may be that ListAnalyses reads on Spanner; SQLite shows the latest",
        least=0,
        most=3600,
    )
    readers: int = setting(4, "connections that read the store", least=1, most=64)
    sweep_seconds: float = setting(600.0, "how often what is past its days is deleted", least=1)
    analyses_at_once: int = setting(16, "conversations analysed at once; further ones wait", least=1)
