"""How many bytes each tenant has, of recordings and of incomplete uploads: counted at times, added to in between."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from cachetools import LRUCache
from trunkline_runtime.errors import ResourceExhausted

_COUNTED_SECONDS = 60.0
_TENANTS = 10_000
_RETRY_SECONDS = 900.0


class RecordingsQuota:
    """Holds fetches and uploads to a tenant's quota; it may be passed by what is on its way."""

    def __init__(
        self, *counts: Callable[[str], Awaitable[int]], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`counts` count a tenant's bytes of each kind."""
        self._counts = counts
        self._now = now
        self._known: LRUCache[str, tuple[float, int]] = LRUCache(_TENANTS)

    async def check(self, tenant: str, quota: int, own: int = 0) -> None:
        """Raise ResourceExhausted when a tenant has as many bytes as it may; a quota of 0 is none.

        `own` are bytes that are counted already of what is asked for.
        """
        if quota and await self.used(tenant) - own >= quota:
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
            known = (self._now(), sum([await count(tenant) for count in self._counts]))
            self._known[tenant] = known
        return known[1]

    def add(self, tenant: str, size: int) -> None:
        """Count bytes that were kept, or, less than 0, that went."""
        known = self._known.get(tenant)
        if known is not None:
            self._known[tenant] = (known[0], known[1] + size)
