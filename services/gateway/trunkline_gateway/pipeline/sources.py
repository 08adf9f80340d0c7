"""The source of an event with its credentials: asked for once, used for half a minute, and told of when refused."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from cachetools import TTLCache
from trunkline.tenant.v1 import source_pb2, source_service_pb2
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import gauge

from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.providers.base import Source

log = get_logger(__name__)

REFUSED = gauge(
    "trunkline_recording_refused_sources",
    "Sources of which this worker's last requests for recordings were refused (401 or 403).",
)
# What is still refused is asked for again sooner than this; of the others nothing waits any more.
_STALE_SECONDS = 3600.0

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


class RefusedSources:
    """One alert a source, however many calls wait for the same credential."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        """`now` gives seconds that only grow."""
        self._now = now
        self._last: dict[str, float] = {}
        # By time too: of a source that is gone nobody says anything any more.
        REFUSED.set_function(self._count)

    def refused(self, source: str) -> None:
        """Say that a source's credential was refused."""
        if source not in self._last:
            log.warning("recordings_refused", source=source)
        self._last[source] = self._now()
        self._forget_stale()

    def answered(self, source: str) -> None:
        """Say that a source's credential was accepted."""
        if self._last.pop(source, None) is not None:
            log.info("recordings_accepted_again", source=source)

    def _forget_stale(self) -> None:
        oldest = self._now() - _STALE_SECONDS
        self._last = {source: last for source, last in self._last.items() if last > oldest}

    def _count(self) -> float:
        """Count, in the thread of the metrics, those that were refused lately."""
        oldest = self._now() - _STALE_SECONDS
        return sum(last > oldest for last in list(self._last.values()))
