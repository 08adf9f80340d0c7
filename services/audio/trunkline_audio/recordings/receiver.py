"""Takes a recording in: fetch, keep the bytes, find out what they are, keep the row."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from trunkline_runtime.engines.base import EngineError
from trunkline_runtime.errors import (
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    TrunklineError,
    Unavailable,
)
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe import logs, metrics
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_store.clock import Clock
from trunkline_store.records.expiry import expiry

from trunkline_audio.media.blobs.base import Blobs, BlobStat
from trunkline_audio.media.fetch import Fetched, Fetcher, FetchError, FetchFailure
from trunkline_audio.media.preparation import Examined
from trunkline_audio.names import microseconds
from trunkline_audio.recordings.non_audio import HEAD_BYTES, what_it_is
from trunkline_audio.recordings.probe import NOT_AUDIO, Probe, Unreadable
from trunkline_audio.recordings.quota import RecordingsQuota
from trunkline_audio.recordings.rows import Recording, Recordings, blob_folder, blob_key

log = logs.get_logger(__name__)

_failures = metrics.counter("trunkline_audio_fetch_failures_total", "Fetches without bytes", ["reason"])

MAX_INDEX_BYTES = 64 * 1024
TRUNCATED = "RECORDING_TRUNCATED"
# What is left of a caller's time for the rest: its bytes are kept and looked at.
_MARGIN_SECONDS = 10.0


@dataclass(frozen=True)
class FetchOrder:
    """What is to be fetched. URL and headers are credentials: used, never stored, never shown."""

    tenant_id: str
    recording_id: str
    call: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    url_field: str = ""
    attachment: bool = False
    """A file of a message: kept as it comes, whatever it is."""
    quota_bytes: int = 0
    """The most bytes that may be kept of the tenant; 0: no bound."""
    expire_at: datetime | None = None
    """When it is deleted; None: as the service is set to."""
    least_seconds: float = 0.0
    """Sound that is shorter was cut on its way, and is not kept."""
    headerless: str = ""
    """What the bytes are if they have no header: a name of HEADERLESS_NAMES."""
    seconds: float | None = None
    """How long the caller waits; None: for ever. It is told what happened before it has gone."""


class RecordingReceiver:
    """Fetches recordings, each once, `at_once` of them at a time.

    Intervals: `fetch.margin`, what is left of a caller's time once the bytes are there.
    """

    def __init__(
        self,
        *,
        recordings: Recordings,
        blobs: Blobs,
        fetcher: Fetcher,
        probe: Probe,
        quota: RecordingsQuota,
        clock: Clock,
        at_once: int,
        keep_days: int = 0,
        pace: Pace = MACHINE,
    ) -> None:
        self._recordings = recordings
        self._quota = quota
        self._blobs = blobs
        self._fetcher = fetcher
        self._probe = probe
        self._clock = clock
        self._at_once = at_once
        self._keep_days = keep_days
        self._pace = pace
        self._margin_seconds = pace.interval("fetch.margin", _MARGIN_SECONDS)
        self._flights: Flights[str, Recording] = Flights()

    async def receive(self, order: FetchOrder) -> Recording:
        """The recording, fetched unless it is there. Raises TrunklineError as FetchRecording documents."""
        found = await self._recordings.get(order.tenant_id, order.recording_id)
        if found is not None:
            return found
        await self._recordings.check(order.tenant_id, order.recording_id)
        await self._quota.check(order.tenant_id, order.quota_bytes)
        key = blob_key(order.tenant_id, order.recording_id)
        if key not in self._flights and len(self._flights) >= self._at_once:
            raise ResourceExhausted(
                f"{self._at_once} recordings are already being fetched",
                reason="FETCHES_BUSY",
                subject="recordings fetched at once",
                retry_after=1.0,
            )
        return await self._flights.run(key, lambda: self._receive(key, order))

    async def close(self) -> None:
        """Gives up what is under way; nothing half-done stays."""
        await self._flights.close()

    async def _receive(self, key: str, order: FetchOrder) -> Recording:
        try:
            async with self._opened(order) as fetched:
                kept = await self._blobs.put(key, fetched.chunks())
                content_type = fetched.content_type
        except FetchError as error:
            _failures.labels(error.failure.value).inc()
            raise _domain_error(error) from None
        if order.attachment:
            file = Examined(content_type, channels=0, sample_rate=0, seconds=0.0)
            return await self._keep(order, kept, file)
        try:
            found = await self._probe.examine(key, order.tenant_id, order.headerless)
        except Unreadable as bad:
            looks = what_it_is(bad.head, content_type, kept.size) if bad.no_audio else ""
            raise unreadable(bad.error, NOT_AUDIO if bad.no_audio else "", looks) from None
        if found.seconds < order.least_seconds:
            await self._blobs.delete(key)
            _failures.labels(TRUNCATED).inc()
            raise Unavailable(
                f"the recording came with {found.seconds:.1f} s of sound ({kept.size} bytes), at least"
                f" {order.least_seconds:.1f} s were to come",
                reason=TRUNCATED,
            )
        return await self._keep(order, kept, found)

    async def _keep(self, order: FetchOrder, kept: BlobStat, found: Examined) -> Recording:
        """Keep the row of bytes that are kept."""
        log.info(
            "received",
            tenant=order.tenant_id,
            recording=order.recording_id,
            bytes=kept.size,
            format=found.format,
            sound_seconds=found.seconds,
        )
        made = Recording(
            tenant_id=order.tenant_id,
            recording_id=order.recording_id,
            call=order.call,
            sha256=kept.sha256,
            size_bytes=kept.size,
            format=found.format,
            duration_us=microseconds(found.seconds),
            channels=found.channels,
            sample_rate_hertz=found.sample_rate,
            created_at=self._clock.now(),
            expire_at=expiry(order.expire_at, self._keep_days, self._clock.now()),
        )
        self._quota.add(order.tenant_id, kept.size)
        try:
            return await self._recordings.add(made)
        except NotFound:  # the tenant was deleted meanwhile: its bytes are to go as well
            await self._blobs.delete_folder(blob_folder(order.tenant_id), most=1_000)
            raise
        except FailedPrecondition:  # it was itself
            await self._blobs.delete(blob_key(order.tenant_id, order.recording_id))
            raise

    @asynccontextmanager
    async def _opened(self, order: FetchOrder) -> AsyncIterator[Fetched]:
        until = (
            None
            if order.seconds is None
            else self._pace.clock() + max(1.0, order.seconds - self._margin_seconds)
        )

        def left() -> float | None:
            return None if until is None else max(0.1, until - self._pace.clock())

        if not order.url_field:
            async with self._fetcher.fetch(order.url, order.headers, left()) as fetched:
                yield fetched
            return
        async with self._fetcher.fetch(order.url, order.headers, left()) as index:
            url = index.resolved(_member(index, await index.read(MAX_INDEX_BYTES), order.url_field))
            headers = index.headers_for(url)
        async with self._fetcher.fetch(url, headers, left()) as fetched:
            yield fetched


def _member(index: Fetched, body: bytes, name: str) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        looks = what_it_is(body[:HEAD_BYTES], index.content_type, len(body))
        said = f"the provider's answer is not JSON: {looks}"
        raise FetchError(FetchFailure.BAD_ANSWER, said) from None
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, str) or not value:
        # Providers answer before the sound is there; the member comes with it.
        raise FetchError(FetchFailure.NOT_READY, f"the provider's answer has no {name!r} yet")
    return value


def _domain_error(error: FetchError) -> TrunklineError:
    if error.failure.transient:
        return Unavailable(str(error), reason=error.failure.value, retry_after=error.retry_after)
    return FailedPrecondition(str(error), reason=error.failure.value)


def unreadable(error: EngineError, reason: str = "", looks: str = "") -> TrunklineError:
    """What a failed decode or engine means to a caller: worth another try, or never; `looks` says what came."""
    if error.transient:
        return Unavailable(str(error), reason=error.reason, retry_after=error.retry_after or 1.0)
    return FailedPrecondition(
        f"{error}; {looks}" if looks else str(error),
        reason=reason or "RECORDING_UNREADABLE",
        metadata={"cause": error.reason},
    )
