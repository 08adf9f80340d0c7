"""Names that derive from what they name: call ids, lead ids, etags."""

from __future__ import annotations

from collections.abc import Iterable

from trunkline_runtime.digests import digest, letters

_WIDTH = 8  # of the lengths in the digests that these ids derive from


def call_id(tenant: str, provider: int, account: str, provider_call_id: str) -> str:
    """Return the id of a call: the same for every event about it, apart for every tenant and account."""
    return "c" + letters(digest(tenant, str(provider), account, provider_call_id, width=_WIDTH), 26)


def lead_id(tenant: str, number: str) -> str:
    """Return the id of the lead that a number stands for."""
    return "l" + letters(digest(tenant, number, width=_WIDTH), 26)


def etag(*parts: str | bytes) -> str:
    """Return an etag of that content."""
    return letters(digest(*parts, width=_WIDTH), 16)


_SUM_BITS = 63


def events_sum(events: Iterable[str], known: int = 0) -> int:
    """Return a number of these events and of those that `known` stands for: the same in any order, each once."""
    for event in events:
        known += int.from_bytes(digest(event, width=_WIDTH)[:8], "big")
    return known % (1 << _SUM_BITS)
