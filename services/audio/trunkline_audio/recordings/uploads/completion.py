"""The end of an upload: a look at what its bytes are, and the recording that they become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from trunkline_runtime.errors import InvalidArgument, TrunklineError
from trunkline_runtime.observe import logs, metrics
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_store import StoreError
from trunkline_store.clock import Clock
from trunkline_store.records.expiry import expiry

from trunkline_audio.media.blobs.base import BlobStat
from trunkline_audio.names import microseconds
from trunkline_audio.recordings.non_audio import what_was_sent
from trunkline_audio.recordings.plans import TenantPlan
from trunkline_audio.recordings.probe import NOT_AUDIO, Probe, Unreadable
from trunkline_audio.recordings.quota import RecordingsQuota
from trunkline_audio.recordings.receiver import unreadable
from trunkline_audio.recordings.rows import Recording
from trunkline_audio.recordings.uploads.rows import Upload, Uploads

log = logs.get_logger(__name__)

UPLOADED = metrics.counter("trunkline_audio_uploads_total", "Uploads that ended", ["outcome"])
_RENEW_SECONDS = 30.0


@dataclass(frozen=True)
class Completed:
    """A recording, and whether it was there before."""

    recording: Recording
    existing: bool


class Completer:
    """Makes recordings of whole uploads. Interval: `uploads.renew`, at which a writer says that it lives."""

    def __init__(
        self,
        *,
        uploads: Uploads,
        probe: Probe,
        quota: RecordingsQuota,
        clock: Clock,
        keep_days: int = 0,
        pace: Pace = MACHINE,
    ) -> None:
        self._uploads = uploads
        self._probe = probe
        self._quota = quota
        self._clock = clock
        self._keep_days = keep_days
        self._renew_seconds = pace.interval("uploads.renew", _RENEW_SECONDS)
        self._sleep = pace.sleep

    @asynccontextmanager
    async def renewed(self, upload: Upload) -> AsyncIterator[None]:
        """Say now and then that the writer lives, while the block lasts."""

        async def renew() -> None:
            while True:
                await self._sleep(self._renew_seconds)
                try:
                    await self._uploads.hold(upload, upload.writer)
                except (TrunklineError, StoreError) as error:
                    log.warning("upload_not_renewed", upload=upload.upload_id, reason=error.reason)

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()

    async def complete(
        self, upload: Upload, stat: BlobStat, plan: TenantPlan, keep_until: datetime | None
    ) -> Completed:
        """Make a recording of bytes that lie under its key. Raises TrunklineError; the bytes may still be there."""
        if not stat.size:
            raise InvalidArgument("data", "is empty", reason="RECORDING_EMPTY")
        if upload.size_bytes not in (0, stat.size):
            raise InvalidArgument(
                "size_bytes", f"is {upload.size_bytes}, and {stat.size} bytes came", reason="SIZE_MISMATCH"
            )
        if upload.sha256 not in ("", stat.sha256):
            raise InvalidArgument(
                "sha256", f"is not that of the bytes: {stat.sha256}", reason="SHA256_MISMATCH"
            )
        known = await self._uploads.same(upload.tenant_id, stat.sha256, upload.headerless)
        if known is None:  # others may have come meanwhile
            await self._quota.check(upload.tenant_id, plan.quota_bytes, own=upload.received_bytes)
        found = known or await self._examined(upload, stat)
        now = self._clock.now()
        made = replace(
            found,
            recording_id=upload.upload_id,
            call=upload.call,
            created_at=now,
            expire_at=expiry(upload.recording_expire_at, plan.keep_days or self._keep_days, now),
        )
        recording, existing = await self._uploads.complete(upload, made, keep_until)
        self._quota.add(upload.tenant_id, (0 if existing else stat.size) - upload.received_bytes)
        UPLOADED.labels("existing" if existing else "new").inc()
        log.info(
            "uploaded",
            tenant=upload.tenant_id,
            recording=recording.recording_id,
            bytes=stat.size,
            format=recording.format,
            existing=existing,
        )
        return Completed(recording, existing)

    async def _examined(self, upload: Upload, stat: BlobStat) -> Recording:
        try:
            found = await self._probe.examine(upload.blob_key, upload.tenant_id, upload.headerless)
        except Unreadable as bad:
            UPLOADED.labels("unreadable").inc()
            if bad.error.transient:
                raise unreadable(bad.error) from None
            looks = f"; {what_was_sent(bad.head, stat.size)}" if bad.no_audio else ""
            reason = NOT_AUDIO if bad.no_audio else bad.error.reason
            raise InvalidArgument("data", f"{bad.error}{looks}", reason=reason) from None
        return Recording(
            tenant_id=upload.tenant_id,
            recording_id=upload.upload_id,
            call=upload.call,
            sha256=stat.sha256,
            size_bytes=stat.size,
            format=found.format,
            duration_us=microseconds(found.seconds),
            channels=found.channels,
            sample_rate_hertz=found.sample_rate,
            created_at=self._clock.now(),
        )
