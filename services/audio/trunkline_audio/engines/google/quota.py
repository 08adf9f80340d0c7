"""The project's quota: so many requests at once, so many a minute, waited for by tenants in turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from trunkline_runtime.engines.fairness import FairLanes
from trunkline_runtime.engines.rates import Rate


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
        self._rate = Rate(per_minute, now)
        self._sleep = sleep

    @asynccontextmanager
    async def turn(self, tenant: str, recording: str, priority: int = 0) -> AsyncIterator[None]:
        """Hold one of the places while the block lasts; waits for it, in its class."""
        async with self._fair.lane(tenant, recording, priority):
            yield

    async def due(self) -> None:
        """Wait until another try may be sent."""
        seconds = self._rate.take()
        if seconds > 0:
            await self._sleep(seconds)
