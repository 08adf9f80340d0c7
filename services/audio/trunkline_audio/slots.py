"""How many uploads or downloads run at once, and how many of them may be one tenant's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from trunkline_runtime.errors import ResourceExhausted


class FairSlots:
    """`slots` of something (`kind`: "uploads") at once. A tenant gets one more only while more are free than it holds.

    So one tenant takes half of them, two take a quarter more, and a tenant without any finds a free one.
    """

    def __init__(self, slots: int, kind: str) -> None:
        self._kind = kind
        self._free = slots
        self._held: Counter[str] = Counter()

    @contextmanager
    def held(self, tenant: str) -> Iterator[None]:
        """Hold a slot while the block lasts. Raises ResourceExhausted: nobody waits with an open stream."""
        if self._free <= self._held[tenant]:
            raise ResourceExhausted(
                f"too many {self._kind} run at once; try again in a moment",
                reason=f"{self._kind.upper()}_BUSY",
                subject=f"{self._kind} at once",
                retry_after=1.0,
            )
        self._free -= 1
        self._held[tenant] += 1
        try:
            yield
        finally:
            self._free += 1
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]
