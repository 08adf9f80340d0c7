"""The hourly limits of requests to the API, and where they are counted: a part of TRUNKLINE_TENANT_*."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline_runtime import forms
from trunkline_runtime.settings import setting


@dataclass(frozen=True, kw_only=True)
class RateSettings:
    """What the tenant service is told about the limits of requests."""

    rate_address_per_hour: int = setting(
        1_000,
        "the most API requests an hour from one address (for IPv6, one /64), on each route; 0 for no limit",
        least=0,
        most=1_000_000_000,
    )
    rate_user_per_hour: int = setting(
        500,
        "the most API requests an hour of one user, on each route; 0 for no limit",
        least=0,
        most=1_000_000_000,
    )
    rate_tenant_per_hour: int = setting(
        10_000,
        "the most API requests an hour of one tenant with the plan STANDARD, on each route; a fifth of it for TRIAL, "
        "ten times for LARGE; 0 for no limit",
        least=0,
        most=1_000_000_000,
    )
    rates_file: Path | None = setting(
        None,
        "a JSON file that changes these limits, and holds the emergency throttle; it is read again when it changes",
        form=forms.FILE,
    )
    rates_redis: str | None = setting(
        None,
        "the Redis that all replicas count requests in, such as redis://127.0.0.1:6379/0; if empty, each replica "
        "counts by itself",
        secret=True,
        form=forms.MAYBE_REDIS,
    )
