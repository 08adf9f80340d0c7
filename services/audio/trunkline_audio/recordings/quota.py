"""How many bytes of recordings each tenant has: counted now and then, and added to in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import LRUCache
from trunkline_runtime.errors import ResourceExhausted

from trunkline_audio.recordings.rows import Recordings

_COUNTED_SECONDS = 60.0
_TENANTS = 10_000
_RETRY_SECONDS = 900.0


class Quota:
    """Holds fetches to a tenant's quota; it may be passed by the recordings that are being fetched."""

    def __init__(self, recordings: Recordings, now: Callable[[], float] = time.monotonic) -> None:
        self._recordings = recordings
        self._now = now
        self._known: LRUCache[str, tuple[float, int]] = LRUCache(_TENANTS)

    async def check(self, tenant: str, quota: int) -> None:
        """Raise ResourceExhausted when a tenant has as many bytes as it may; a quota of 0 is none."""
        if quota and await self.used(tenant) >= quota:
            raise ResourceExhausted(
                f"the plan allows {quota:,} bytes of recordings; delete some, or ask the operator for a larger plan",
                reason="RECORDINGS_QUOTA",
                subject=f"tenants/{tenant}",
                retry_after=_RETRY_SECONDS,
            )

    async def used(self, tenant: str) -> int:
        """Return the bytes of a tenant, counted a minute ago at most."""
        known = self._known.get(tenant)
        if known is None or self._now() - known[0] > _COUNTED_SECONDS:
            known = (self._now(), await self._recordings.bytes_of(tenant))
            self._known[tenant] = known
        return known[1]

    def add(self, tenant: str, size: int) -> None:
        """Count a recording that was kept."""
        known = self._known.get(tenant)
        if known is not None:
            self._known[tenant] = (known[0], known[1] + size)
