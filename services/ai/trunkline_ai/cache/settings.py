"""The settings of the cache of answers, TRUNKLINE_AI_CACHE_*."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """How much is kept, how long, and where."""

    hours: float = setting(
        24.0,
        "how long a model's answer is given again to the same question of the same tenant, in hours; 0 keeps none",
        least=0,
        most=168,
    )
    memory_bytes: int = setting(
        8 * 1024 * 1024,
        "the most memory that answers take in each replica; 0 keeps none",
        least=0,
        most=2**32,
    )
    redis: str | None = setting(
        None,
        "the Redis that all replicas keep answers in, sealed with the service's key, such as "
        "redis://127.0.0.1:6379/1; if empty, each replica has its own answers alone",
        secret=True,
        form=forms.MAYBE_REDIS,
    )
    similar: bool = setting(
        True,
        "whether a robocall whose words are nearly those of an earlier one of the same tenant gets its answer",
        form=forms.SWITCH,
    )
