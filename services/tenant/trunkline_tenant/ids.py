"""Names that derive from what they name: call ids, lead ids, etags."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable


def digest(*parts: str | bytes) -> bytes:
    """Return the SHA-256 of the parts, each with its length before it: ("ab", "c") is not ("a", "bc")."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "big"))
        sha.update(data)
    return sha.digest()


def short(data: bytes, length: int) -> str:
    """Return the first `length` characters of lower-case base32, 5 bits each."""
    return base64.b32encode(data).decode().lower()[:length]


def call_id(tenant: str, provider: int, account: str, provider_call_id: str) -> str:
    """Return the id of a call: the same for every event about it, apart for every tenant and account."""
    return "c" + short(digest(tenant, str(provider), account, provider_call_id), 26)


def lead_id(tenant: str, number: str) -> str:
    """Return the id of the lead that a number stands for."""
    return "l" + short(digest(tenant, number), 26)


def etag(*parts: str | bytes) -> str:
    """Return an etag of that content."""
    return short(digest(*parts), 16)


_SUM_BITS = 63


def events_sum(events: Iterable[str], known: int = 0) -> int:
    """Return a number of these events and of those that `known` stands for: the same in any order, each once."""
    for event in events:
        known += int.from_bytes(digest(event)[:8], "big")
    return known % (1 << _SUM_BITS)
