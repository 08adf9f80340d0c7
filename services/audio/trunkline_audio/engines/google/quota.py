"""The project's quota: so many requests at once, so many a minute, waited for by tenants in turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from trunkline_audio.workers.fairness import FairLanes

BURST_SECONDS = 5.0
"""Of how many seconds unused requests may come at once."""


class RequestQuota:
    """Requests take turns (`turn`), and each try of one waits until it is due (`due`). Nobody fails for waiting.

    Only whoever has a turn waits to be due, in the order of the turns: so a tenant with many recordings is at most the
    requests at once ahead of another.
    """

    def __init__(
        self,
        at_once: int,
        per_minute: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._fair = FairLanes(at_once)
        self._interval = 60.0 / per_minute
        self._now = now
        self._sleep = sleep
        self._next = now()
        """When the next try is due."""

    @asynccontextmanager
    async def turn(self, tenant: str, recording: str, priority: int = 0) -> AsyncIterator[None]:
        """Hold one of the places while the block lasts; waits for it, in its class."""
        async with self._fair.lane(tenant, recording, priority):
            yield

    async def due(self) -> None:
        """Wait until another try may be sent."""
        now = self._now()
        due = max(self._next, now - BURST_SECONDS)
        self._next = due + self._interval
        if due > now:
            await self._sleep(due - now)
