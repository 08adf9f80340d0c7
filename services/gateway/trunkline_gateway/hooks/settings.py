"""What is taken of webhooks, and under which URL: a part of TRUNKLINE_GATEWAY_*."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_runtime import forms
from trunkline_runtime.settings import setting

MOST_BODY_BYTES = 8 << 20
"""What the whole way of a webhook was tested with: a row of the store, a claim, an answer with the body."""


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """What the gateway is told about webhooks."""

    public_url: str = setting(
        "http://127.0.0.1:8080",
        "the URL that providers post to and sign; never taken from a Host header",
        form=forms.WEB,
    )
    max_body_bytes: int = setting(
        1_048_576,
        "the largest body of a webhook, in bytes; a larger webhook is answered 413",
        least=1_024,
        most=MOST_BODY_BYTES,
    )
    max_unverified: int = setting(
        10_000,
        "the most receipts that can wait for a source that cannot be looked up; above that, 503",
        least=1,
        most=1_000_000,
    )
    max_unverified_bytes: int = setting(
        268_435_456,
        "the most bytes of such receipts, including headers; above that, 503",
        least=1_048_576,
        most=68_719_476_736,
    )
    ceiling_per_second: float = setting(
        50.0,
        "the most webhooks a second of one source; above that, 429 with Retry-After. Keep it well below "
        "the gateway's capacity, so that one source leaves room for the others",
        least=1,
        most=10_000_000,
    )
    ceiling_burst: float = setting(
        500.0,
        "the number of webhooks of one source that can arrive at once before the ceiling applies",
        least=1,
        most=10_000_000,
    )
    tenant_bytes_per_second: float = setting(
        8_388_608.0,
        "the most bytes a second of one tenant's webhooks, after decompression; above that, 429 with Retry-After",
        least=1_048_576,
        most=1e12,
    )
    tenant_bytes_burst: float = setting(
        33_554_432.0,
        "the number of bytes of one tenant's webhooks that can arrive at once before that limit applies",
        least=1_048_576,
        most=1e12,
    )
