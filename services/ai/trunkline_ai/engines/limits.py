"""The settings that engines behind a network have in common: how much they are asked, how patiently, at what price."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting


@dataclass(frozen=True, kw_only=True)
class RemoteLimits:
    """How much a provider is asked, and what its answers may take."""

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
    most_output_tokens: int = setting(
        2_000, "the most tokens of an answer; one that is cut there is not used", least=16, most=100_000
    )
    most_characters: int = setting(
        100_000, "how much of a conversation is sent, in characters", least=100, most=1_000_000
    )
    first_token_seconds: float = setting(
        20.0, "how long to wait for the first piece of an answer, and for each next one", least=0.1, most=600
    )
    request_seconds: float = setting(60.0, "how long an answer can take as a whole", least=0.1, most=3_600)
    input_price_micros: int = setting(
        -1,
        "the price of a million input tokens, in millionths of a US dollar; -1: as in the file of prices",
        least=-1,
        most=1_000_000_000,
    )
    output_price_micros: int = setting(
        -1, "the same, of a million output tokens", least=-1, most=1_000_000_000
    )
