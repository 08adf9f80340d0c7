"""The settings that engines behind a network have in common: how much they are asked, and how patiently."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting


@dataclass(frozen=True, kw_only=True)
class RemoteLimits:
    """How much a provider is asked."""

    requests_at_once: int = setting(16, "the most requests at once; further ones wait", least=1, most=1_000)
    patience_seconds: float = setting(
        20.0, "how long a request is repeated that the provider can't take now", least=0, most=600
    )
    requests_per_minute: int = setting(
        0, "the most requests a minute; further ones wait; 0: any number", least=0, most=1_000_000
    )
    tokens_per_minute: int = setting(
        0,
        "the most tokens a minute, read and written; further requests wait; 0: any number",
        least=0,
        most=1_000_000_000,
    )
    tenant_requests_per_minute: int = setting(
        0,
        "the most requests of one tenant a minute; further ones wait; 0: any number",
        least=0,
        most=1_000_000,
    )
    tenant_tokens_per_minute: int = setting(
        0,
        "the most tokens of one tenant a minute; further requests wait; 0: any number",
        least=0,
        most=1_000_000_000,
    )
    hedged: bool = setting(
        False,
        "send a second request if the first takes longer than 95 of 100 did, use the answer that comes first, and "
        "cancel the other; the provider can bill both",
        form=forms.SWITCH,
    )
