"""The sources as the gateway knows them: fed by the tenant service, kept on disk, asked for once when missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from typing import Protocol

from trunkline.tenant.v1 import source_pb2, source_service_pb2
from trunkline_runtime.errors import NotFound, TrunklineError
from trunkline_runtime.logs import get_logger

from trunkline_gateway.providers.base import Secret, Source
from trunkline_gateway.source_cache import SourceCache

log = get_logger(__name__)

_NEGATIVE_SECONDS = 5.0
_NEGATIVE_MOST = 10_000


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
        secret_form=source.secret_form,
        retention=resolved.retention,
    )


def region_of(language: str) -> str:
    """Return the region of a BCP 47 tag such as `en-US`; empty when it names none."""
    regions = (part.upper() for part in language.split("-")[1:] if len(part) == 2 and part.isalpha())
    return next(regions, "")


class SourceMap:
    """Every source by its bare id. `get` is the hot path; `resolve` asks the tenant service, single flight."""

    def __init__(
        self, feed: SourceFeed, cache: SourceCache | None, now: Callable[[], float] = time.monotonic
    ):
        """Start with what the cache on disk holds, so that a restart without the tenant service serves."""
        self._feed = feed
        self._cache = cache
        self._now = now
        self._resolved: dict[str, source_pb2.ResolvedSource] = cache.load() if cache else {}
        self._sources = {key: source_of(value) for key, value in self._resolved.items()}
        self._missing: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[Source | None]] = {}
        self._unconfirmed: set[str] = (
            set()
        )  # known from before, not yet seen in the snapshot that is coming in
        self._dirty = asyncio.Event()
        self.caught_up = False  # a watch is connected and its snapshot is complete

    def get(self, source_id: str) -> Source | None:
        """Return the source, or None when it is not known here (which is not yet a 404)."""
        return self._sources.get(source_id)

    def __len__(self) -> int:
        return len(self._sources)

    async def resolve(self, source_id: str) -> Source | None:
        """Return the source, or None when the tenant service says that there is none.

        Raises TrunklineError when it cannot be asked: then nobody knows.
        """
        known = self._sources.get(source_id)
        if known is not None:
            return known
        if self._missing.get(source_id, 0.0) > self._now():
            return None
        task = self._asking.get(source_id)
        if task is None:
            task = asyncio.create_task(self._ask(source_id))
            self._asking[source_id] = task
            task.add_done_callback(lambda _: self._asking.pop(source_id, None))
        return await asyncio.shield(task)

    async def _ask(self, source_id: str) -> Source | None:
        try:
            resolved = await self._feed.resolve(source_id)
        except NotFound:
            if (
                len(self._missing) >= _NEGATIVE_MOST
            ):  # somebody is guessing ids: forget the guesses, not the sources
                self._missing.clear()
            self._missing[source_id] = self._now() + _NEGATIVE_SECONDS
            return None
        return self._put(resolved)

    def _put(self, resolved: source_pb2.ResolvedSource) -> Source:
        source = source_of(resolved)
        self._unconfirmed.discard(source.source_id)
        there = self._resolved.get(source.source_id)
        if (
            there is not None and there.revision > resolved.revision
        ):  # a slow answer must not undo a later change
            return self._sources[source.source_id]
        self._resolved[source.source_id] = resolved
        self._sources[source.source_id] = source
        self._missing.pop(source.source_id, None)
        self._dirty.set()
        return source

    async def follow(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Follow the tenant service for ever; what is known goes on serving while it cannot be reached."""
        revision = 0
        delay = 0.2
        while True:
            if revision == 0:
                self._unconfirmed = set(self._sources)
            try:
                async for message in self._feed.watch(revision):
                    delay = 0.2
                    self._apply(message)
                    # A reset counts anew: the tenant service may have been restored to an earlier state.
                    after_reset = message.WhichOneof("change") == "reset"
                    revision = 0 if after_reset else max(revision, message.revision)
            except TrunklineError as error:
                log.warning("sources_watch_lost", reason=error.reason, retry_seconds=delay)
            self.caught_up = False
            await sleep(delay)
            delay = min(delay * 2, 5.0)

    def _apply(self, message: source_service_pb2.WatchSourcesResponse) -> None:
        match message.WhichOneof("change"):
            case "upserted":
                self._put(message.upserted)
            case "deleted_source_id":
                self._forget(message.deleted_source_id)
            case "reset":
                self._unconfirmed = set(self._sources)
                for resolved in self._resolved.values():
                    resolved.revision = 0
            case "caught_up":
                for source_id in self._unconfirmed:
                    self._forget(source_id)
                self._unconfirmed = set()
                self.caught_up = True

    def _forget(self, source_id: str) -> None:
        self._resolved.pop(source_id, None)
        self._sources.pop(source_id, None)
        self._dirty.set()

    async def persist(self) -> None:
        """Write the cache on disk after changes, for ever; several changes make one write."""
        while self._cache is not None:
            await self._dirty.wait()
            self._dirty.clear()
            await asyncio.to_thread(self._cache.save, list(self._resolved.values()))
