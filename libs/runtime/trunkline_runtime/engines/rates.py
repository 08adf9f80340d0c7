"""Limits of requests and tokens a minute: of an engine, and of each tenant with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

BURST_SECONDS = 5.0
"""Of how many seconds what was not used may come at once."""
MOST_CORRECTED_SECONDS = 60.0
"""How far ahead a correction may move what is next: others count the tokens."""
_MOST_TENANTS = 1_000


class Rate:
    """So many a minute, 0 for any number. What is larger than what is left may go, and the next one waits for it."""

    def __init__(self, per_minute: float, now: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._now = now
        self._next = now()
        """When the next one is due."""

    def wait(self) -> float:
        """Return in how many seconds the next one is due; 0 for now."""
        return max(0.0, self._next - self._now())

    @property
    def rests(self) -> bool:
        """Whether nothing of it is used."""
        return self._next <= self._now() - BURST_SECONDS

    def take(self, amount: float = 1.0) -> float:
        """Take so much, and return in how many seconds that is due. A negative amount was not used after all."""
        now = self._now()
        due = max(self._next, now - BURST_SECONDS)
        self._next = due + amount * self._interval
        return max(0.0, due - now)

    def correct(self, amount: float) -> None:
        """Take so much more than was thought. The next one waits a minute for it at most: a count may be wrong."""
        now = self._now()
        due = max(self._next, now - BURST_SECONDS)
        self._next = min(due + amount * self._interval, max(due, now + MOST_CORRECTED_SECONDS))


class Rates:
    """An engine's limits and each tenant's: the gate of its FairLanes, which takes the first try of a request.

    A try goes when no limit is used up, so that a request of many tokens never waits for ever; what it takes beyond
    its limit, the next ones wait for.
    """

    def __init__(
        self,
        requests: float = 0,
        tokens: float = 0,
        tenant_requests: float = 0,
        tenant_tokens: float = 0,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Each is a number a minute, 0 for no limit."""
        self._now = now
        self._sleep = sleep
        self._engine = (Rate(requests, now), Rate(tokens, now))
        self._of_tenant = (tenant_requests, tenant_tokens)
        self._tenants: dict[str, tuple[Rate, Rate]] = {}

    def wait(self, tenant: str) -> float:
        """Return in how many seconds the tenant's next request may go; 0 for now."""
        rates: list[Rate] = [*self._engine, *self._tenants.get(tenant, ())]
        return max(rate.wait() for rate in rates)

    def take(self, tenant: str, size: int) -> None:
        """Take a request of so many tokens."""
        self._taken(tenant, 1, size)

    async def again(self, tenant: str, tokens: int) -> None:
        """Wait until another try of a request is due, and take it."""
        seconds = self._taken(tenant, 1, tokens)
        if seconds > 0:
            await self._sleep(seconds)

    def correct(self, tenant: str, tokens: int) -> None:
        """Take so many more tokens than was thought, or less, if negative."""
        for _, of_tokens in self._pairs(tenant):
            of_tokens.correct(tokens)

    def _taken(self, tenant: str, requests: int, tokens: int) -> float:
        return max(
            rate.take(amount)
            for pair in self._pairs(tenant)
            for rate, amount in zip(pair, (requests, tokens), strict=True)
        )

    def _pairs(self, tenant: str) -> list[tuple[Rate, Rate]]:
        pairs: list[tuple[Rate, Rate]] = [self._engine]
        if any(self._of_tenant):
            if tenant not in self._tenants:
                self._forget()
                self._tenants[tenant] = (
                    Rate(self._of_tenant[0], self._now),
                    Rate(self._of_tenant[1], self._now),
                )
            pairs.append(self._tenants[tenant])
        return pairs

    def _forget(self) -> None:
        """Keep nothing of tenants that used nothing of late, once there are many."""
        if len(self._tenants) >= _MOST_TENANTS:
            self._tenants = {
                tenant: pair for tenant, pair in self._tenants.items() if not all(rate.rests for rate in pair)
            }
