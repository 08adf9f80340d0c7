"""Those who wait for the ends of operations: this process wakes them, or one look for all at what others ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager

Running = Callable[[str, Collection[str]], Awaitable[set[str]]]


class Waiters:
    """Events by tenant and operation.

    However many wait, a look is one read for each tenant: hundreds who look for themselves, all at the same moment,
    hold up everybody else's calls.
    """

    def __init__(self, running: Running, look_seconds: float) -> None:
        """Look every `look_seconds` as long as somebody waits.

        `running` tells which of a tenant's operations need not be looked at: they run on.
        """
        self._running = running
        self._look_seconds = look_seconds
        self._events: dict[str, dict[str, set[asyncio.Event]]] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def entered(self, tenant: str, operation: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the operation may have ended, or is gone."""
        event = asyncio.Event()
        self._events.setdefault(tenant, {}).setdefault(operation, set()).add(event)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_ever())
        try:
            yield event
        finally:
            of_tenant = self._events[tenant]
            of_tenant[operation].discard(event)
            if not of_tenant[operation]:
                del of_tenant[operation]
            if not of_tenant:
                del self._events[tenant]
            if not self._events and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def entries(self) -> set[tuple[str, str]]:
        """Return the tenants and operations that somebody waits for."""
        return {(tenant, operation) for tenant, found in self._events.items() for operation in found}

    def wake(self, tenant: str, operation: str) -> None:
        """Wake those who wait for an operation."""
        for event in self._events.get(tenant, {}).get(operation, ()):
            event.set()

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            for tenant in list(self._events):
                await self._look(tenant)

    async def _look(self, tenant: str) -> None:
        asked = set(self._events.get(tenant, ()))
        try:
            running = await self._running(tenant, asked) if asked else asked
        except Exception:  # whoever is woken looks, and tells its caller what is wrong
            running = set()
        for operation in asked - running:
            self.wake(tenant, operation)
