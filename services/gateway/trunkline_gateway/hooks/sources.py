"""The sources as the gateway knows them: fed by the tenant service, kept on disk, asked for once when missing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from typing import Protocol

from cachetools import TTLCache
from trunkline.tenant.v1 import source_pb2, source_service_pb2, tenant_pb2
from trunkline_runtime.errors import DeadlineExceeded, NotFound, TrunklineError, Unavailable
from trunkline_runtime.flights import Flights
from trunkline_runtime.language_tags import region_of
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import gauge
from trunkline_runtime.process.periodic import set_aside
from trunkline_runtime.resilience import Pauses

from trunkline_gateway.hooks.source_cache import SourceCache
from trunkline_gateway.providers.base import Secret, Source

log = get_logger(__name__)

STALE = gauge("trunkline_source_cache_stale", "1 while the sources on disk are not those in memory.")

_SAVE_AGAIN_SECONDS = 5.0
_NEGATIVE_SECONDS = 5.0
_NEGATIVE_MOST = 10_000
# So many are asked for side by side, and so many may wait for their turn: ids that strangers make up cost no more.
_ASKED_AT_ONCE = 16
_ASKED_MOST = 1_000
# So long after the tenant service could not be reached nobody asks again: the next one would wait as long.
_REST_SECONDS = 1.0
# An answer that the watch has overtaken is asked for again, so many times in all.
_ASKS = 3


class SourceFeed(Protocol):
    """What the tenant service offers (a real client, or a test's own)."""

    async def resolve(self, source_id: str) -> source_pb2.ResolvedSource:
        """Give one source. Raises NotFound only when there is none, other errors when it cannot be asked."""
        ...

    def watch(self, after_revision: int) -> AsyncIterator[source_service_pb2.WatchSourcesResponse]:
        """Give every source, then each change."""
        ...


def source_of(resolved: source_pb2.ResolvedSource) -> Source:
    """Build the in-memory form, once per change, so that the hot path only reads attributes."""
    source = resolved.source
    _, tenant_id, _, source_id = source.name.split("/")
    return Source(
        source_id=source_id,
        tenant_id=tenant_id,
        provider=source.provider,
        secrets=tuple(
            Secret(s.value, s.expire_time.ToDatetime(UTC) if s.HasField("expire_time") else None, s.name)
            for s in resolved.secrets
        ),
        accepting=resolved.accepting,
        language=source.language,
        provider_account=source.provider_account,
        fetch_credential=resolved.fetch_credential,
        mapping=source.mapping if source.HasField("mapping") else None,
        hmac=source.hmac if source.HasField("hmac") else None,
        api_base_url=source.api_base_url,
        region=source.region or region_of(source.language),
        channel_roles=source.channel_roles,
        headerless_format=source.headerless_format,
        secret_form=source.secret_form,
        retention=resolved.retention,
        quotas=resolved.quotas,
        speech_settings=resolved.speech_settings,
        analysis_settings=resolved.analysis_settings,
        receipts_quota=resolved.quotas.receipts_bytes,
    )


class SourceMap:
    """Every source by its bare id. `get` is the hot path; `resolve` asks the tenant service, single flight."""

    def __init__(
        self,
        feed: SourceFeed,
        cache: SourceCache | None,
        now: Callable[[], float] = time.monotonic,
        rest_seconds: float = _REST_SECONDS,
        gone: Callable[[str, str], None] = lambda _tenant, _source: None,
    ):
        """Start with what the cache on disk holds, so that a restart without the tenant service serves.

        `gone` is told the ids of a source, and of its tenant before it, that takes no more webhooks.
        `rest_seconds` is how long nobody is asked after nobody could be reached.
        """
        self._feed = feed
        self._cache = cache
        self._resolved: dict[str, source_pb2.ResolvedSource] = cache.load() if cache else {}
        self._sources = {key: source_of(value) for key, value in self._resolved.items()}
        self._quotas: dict[str, tenant_pb2.Quotas] = {s.tenant_id: s.quotas for s in self._sources.values()}
        self._now = now
        self._missing: TTLCache[str, None] = TTLCache(_NEGATIVE_MOST, ttl=_NEGATIVE_SECONDS, timer=now)
        self._turns = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._rest_seconds = rest_seconds
        self._gone = gone
        self._resting_until = -math.inf
        self._flights: Flights[str, Source | None] = Flights()
        # Known from before or from an answer, and not yet seen by the watch.
        self._unconfirmed: set[str] = set()
        self._revision = 0  # all changes up to it were seen by the watch
        self._resets = 0
        self._dirty = asyncio.Event()

    def get(self, source_id: str) -> Source | None:
        """Return the source, or None when it is not known here (which is not yet a 404)."""
        return self._sources.get(source_id)

    def quotas_of(self, tenant_id: str) -> tenant_pb2.Quotas:
        """Return what is known here of a tenant's quotas; all 0, which is no bound, when it never had a source."""
        return self._quotas.get(tenant_id) or tenant_pb2.Quotas()

    def count_of(self, tenant_id: str) -> int:
        """Return how many sources of a tenant are known here."""
        return sum(source.tenant_id == tenant_id for source in self._sources.values())

    def __len__(self) -> int:
        return len(self._sources)

    async def resolve(self, source_id: str) -> Source | None:
        """Return the source, or None when the tenant service says that there is none.

        Raises TrunklineError when it cannot be asked: then nobody knows.
        """
        known = self._sources.get(source_id)
        if known is not None:
            return known
        if source_id in self._missing:
            return None
        if source_id not in self._flights and len(self._flights) >= _ASKED_MOST:
            raise Unavailable("too many unknown sources are asked for", reason="SOURCES_CROWDED")
        return await self._flights.run(source_id, lambda: self._ask(source_id))

    async def _ask(self, source_id: str) -> Source | None:
        for _ in range(_ASKS):
            resets = self._resets
            try:
                resolved = await self._ask_feed(source_id)
            except NotFound:
                if source_id not in self._sources:  # it may have been made meanwhile
                    self._missing[source_id] = None
                return self._sources.get(source_id)
            if resets == self._resets and not self._overtaken(source_id, resolved):
                return self._put(resolved)
        raise Unavailable("the source changes while it is asked for", reason="SOURCE_CHANGES")

    async def _ask_feed(self, source_id: str) -> source_pb2.ResolvedSource:
        async with self._turns:
            if self._resting_until > self._now():
                raise Unavailable(
                    "the tenant service could not be reached just now", reason="SOURCES_UNKNOWN"
                )
            try:
                return await self._feed.resolve(source_id)
            except (Unavailable, DeadlineExceeded):
                self._resting_until = self._now() + self._rest_seconds
                raise

    def _overtaken(self, source_id: str, resolved: source_pb2.ResolvedSource) -> bool:
        """Whether the watch has seen what an answer tells and more, yet has no such source: it was deleted since."""
        return source_id not in self._sources and resolved.revision <= self._revision

    def _put(self, resolved: source_pb2.ResolvedSource, *, watched: bool = False) -> Source:
        for settings in ("speech_settings", "analysis_settings"):  # long, and only a worker needs them
            resolved.ClearField(settings)
        source = source_of(resolved)
        if watched:
            self._unconfirmed.discard(source.source_id)
        there = self._resolved.get(source.source_id)
        if (
            there is not None and there.revision > resolved.revision
        ):  # a slow answer must not undo a later change
            return self._sources[source.source_id]
        if there is None and not watched:
            self._unconfirmed.add(source.source_id)
        self._resolved[source.source_id] = resolved
        self._sources[source.source_id] = source
        self._quotas[source.tenant_id] = source.quotas
        self._missing.pop(source.source_id, None)
        self._dirty.set()
        if not source.accepting:
            self._gone(source.tenant_id, source.source_id)
        return source

    async def follow(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Follow the tenant service for ever; what is known goes on serving while it cannot be reached."""
        pauses = Pauses(0.2, 5.0)
        while True:
            if self._revision == 0:
                self._doubt_all()
            try:
                async for message in self._feed.watch(self._revision):
                    pauses.reset()
                    self._resting_until = -math.inf
                    self._apply(message)
            except TrunklineError as error:
                log.warning("sources_watch_lost", reason=error.reason, retry_seconds=pauses.seconds)
            await pauses.rest(sleep)

    def _apply(self, message: source_service_pb2.WatchSourcesResponse) -> None:
        self._revision = max(self._revision, message.revision)
        match message.WhichOneof("change"):
            case "upserted":
                with set_aside("sources", source=message.upserted.source.name[:100]):
                    self._put(message.upserted, watched=True)
            case "deleted_source_id":
                self._forget(message.deleted_source_id)
            case "reset":
                # Revisions count anew: the tenant service may have been restored to an earlier state.
                self._revision = 0
                self._resets += 1
                self._doubt_all()
            case "caught_up":
                for source_id in [
                    s for s in self._unconfirmed if self._resolved[s].revision <= self._revision
                ]:
                    self._forget(source_id)

    def _doubt_all(self) -> None:
        """Whatever the snapshot that comes does not hold will be forgotten when it is complete."""
        self._unconfirmed = set(self._sources)
        for resolved in self._resolved.values():
            resolved.revision = 0

    def _forget(self, source_id: str) -> None:
        self._unconfirmed.discard(source_id)
        self._resolved.pop(source_id, None)
        source = self._sources.pop(source_id, None)
        if source is not None:
            self._gone(source.tenant_id, source_id)
        self._dirty.set()

    async def persist(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Write the cache on disk after changes, for ever; several changes make one write.

        It is there for a restart without the tenant service: one that cannot be written is tried again, no more.
        """
        trouble = ""
        while self._cache is not None:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await asyncio.to_thread(self._cache.save, list(self._resolved.values()))
            except OSError as error:
                if trouble != str(error):
                    log.warning(
                        "sources_cache_not_written", error=str(error), retry_seconds=_SAVE_AGAIN_SECONDS
                    )
                trouble = str(error)
                STALE.set(1)
                self._dirty.set()
                await sleep(_SAVE_AGAIN_SECONDS)
            else:
                trouble = ""
                STALE.set(0)
