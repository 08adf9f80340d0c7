"""The source of an event with its credentials, asked for once and used for half a minute."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from cachetools import TTLCache
from trunkline.tenant.v1 import source_pb2, source_service_pb2
from trunkline_runtime.flights import Flights

from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.providers.base import Source

Resolve = Callable[[source_service_pb2.ResolveSourceRequest], Awaitable[source_pb2.ResolvedSource]]
_MOST = 10_000


class Sources:
    """A short cache in front of ResolveSource, single flight.

    It holds credentials, so nothing of it is logged.
    """

    def __init__(self, resolve: Resolve, seconds: float, now: Callable[[], float] = time.monotonic):
        """Use an answer for `seconds`."""
        self._resolve = resolve
        self._known: TTLCache[str, Source] = TTLCache(_MOST, ttl=seconds, timer=now)
        self._flights: Flights[str, Source] = Flights()

    async def get(self, name: str) -> Source:
        """Return `tenants/{tenant}/sources/{source}`.

        Raises what ResolveSource raises: NotFound when it is gone.
        """
        source_id = name.rsplit("/", 1)[1]
        known = self._known.get(source_id)
        return known or await self._flights.run(source_id, lambda: self._ask(source_id))

    def forget(self, source_id: str) -> None:
        """Ask again next time: what was known was refused by the provider."""
        self._known.pop(source_id, None)

    async def _ask(self, source_id: str) -> Source:
        request = source_service_pb2.ResolveSourceRequest(source_id=source_id)
        source = self._known[source_id] = source_of(await self._resolve(request))
        return source
