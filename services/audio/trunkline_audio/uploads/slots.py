"""How many uploads are read at once, and how many of them may be one tenant's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from trunkline_runtime.errors import ResourceExhausted


class Slots:
    """`slots` uploads at once. A tenant gets a further one only while more are free than it holds.

    So one tenant takes half of them, two take a quarter more, and a tenant without any finds a free one.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._held: Counter[str] = Counter()

    @contextmanager
    def held(self, tenant: str) -> Iterator[None]:
        """Hold a slot while the block lasts. Raises ResourceExhausted: nobody waits with an open stream."""
        if self._free <= self._held[tenant]:
            raise ResourceExhausted(
                "too many uploads run at once; try again in a moment",
                reason="UPLOADS_BUSY",
                subject="uploads at once",
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
