"""The source of an event with its credentials, asked for once and used for half a minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from trunkline.tenant.v1 import source_pb2, source_service_pb2

from trunkline_gateway.providers.base import Source
from trunkline_gateway.sources import source_of

Resolve = Callable[[source_service_pb2.ResolveSourceRequest], Awaitable[source_pb2.ResolvedSource]]
_MOST = 10_000


class Sources:
    """A short cache in front of ResolveSource, single flight.

    It holds credentials, so nothing of it is logged.
    """

    def __init__(self, resolve: Resolve, seconds: float, now: Callable[[], float] = time.monotonic):
        """Use an answer for `seconds`."""
        self._resolve = resolve
        self._seconds = seconds
        self._now = now
        self._known: dict[str, tuple[float, Source]] = {}
        self._asking: dict[str, asyncio.Task[Source]] = {}

    async def get(self, name: str) -> Source:
        """Return `tenants/{tenant}/sources/{source}`.

        Raises what ResolveSource raises: NotFound when it is gone.
        """
        source_id = name.rsplit("/", 1)[1]
        known = self._known.get(source_id)
        if known is not None and known[0] > self._now():
            return known[1]
        task = self._asking.get(source_id)
        if task is None:
            task = self._asking[source_id] = asyncio.create_task(self._ask(source_id))
            task.add_done_callback(lambda done: self._asked(source_id, done))
        return await asyncio.shield(task)

    def forget(self, source_id: str) -> None:
        """Ask again next time: what was known was refused by the provider."""
        self._known.pop(source_id, None)

    async def _ask(self, source_id: str) -> Source:
        request = source_service_pb2.ResolveSourceRequest(source_id=source_id)
        source = source_of(await self._resolve(request))
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[source_id] = (self._now() + self._seconds, source)
        return source

    def _asked(self, source_id: str, task: asyncio.Task[Source]) -> None:
        self._asking.pop(source_id, None)
        if not task.cancelled():
            task.exception()  # every waiter may be gone by now: then nobody else would have looked
