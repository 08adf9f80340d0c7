"""Takes uploads in: bytes into blobs, in one stream or in parts. Nothing is held in memory but a piece."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from trunkline_runtime.api.resources import new_id
from trunkline_runtime.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    OutOfRange,
)
from trunkline_runtime.flights import Flights
from trunkline_runtime.observe import logs, metrics
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_store.clock import Clock

from trunkline_audio.media.blobs.base import BlobNotFound, Blobs
from trunkline_audio.names import recording_name
from trunkline_audio.recordings.plans import AskPlan, TenantPlan
from trunkline_audio.recordings.probe import Probe
from trunkline_audio.recordings.quota import RecordingsQuota
from trunkline_audio.recordings.rows import Recording, Recordings
from trunkline_audio.recordings.uploads.completion import UPLOADED, Completed, Completer
from trunkline_audio.recordings.uploads.incoming import Pieces, bounded, patient
from trunkline_audio.recordings.uploads.rows import WRITER_SECONDS, Upload, Uploads, until
from trunkline_audio.slots import FairSlots

log = logs.get_logger(__name__)

_uploaded_bytes = metrics.counter("trunkline_audio_uploaded_bytes_total", "Bytes of uploads that arrived", [])

PIECE_BYTES = 8 * 1024 * 1024
"""What is kept at a time of an upload in parts: so much is sent again after a crash."""
_READ_SECONDS = 30.0
_COMPLETE_SECONDS = 86_400.0


@dataclass(frozen=True, kw_only=True)
class UploadOrder:
    """What a caller says of the bytes that it sends."""

    tenant_id: str
    recording_id: str = ""
    """Empty: a new one."""
    call: str = ""
    headerless: str = ""
    expire_at: datetime | None = None
    sha256: str = ""
    """Hexadecimal; empty when it is not stated."""
    size_bytes: int = 0
    """0 when it is not stated."""


@dataclass(frozen=True)
class UploadLimits:
    """Bounds of uploads: bytes of one, how many are read at once, seconds of one stream and until one is abandoned."""

    max_bytes: int
    at_once: int
    stream_seconds: float
    keep_seconds: float


class Uploader:
    """Takes bytes from streams. Interval: `uploads.read`, the longest pause; and Completer's."""

    def __init__(
        self,
        *,
        uploads: Uploads,
        recordings: Recordings,
        blobs: Blobs,
        probe: Probe,
        quota: RecordingsQuota,
        plan_of: AskPlan,
        clock: Clock,
        limits: UploadLimits,
        keep_days: int = 0,
        pace: Pace = MACHINE,
    ) -> None:
        self._uploads = uploads
        self._recordings = recordings
        self._blobs = blobs
        self._quota = quota
        self._plan_of = plan_of
        self._clock = clock
        self._limits = limits
        self._read_seconds = pace.interval("uploads.read", _READ_SECONDS)
        self._completion = Completer(
            uploads=uploads, probe=probe, quota=quota, clock=clock, keep_days=keep_days, pace=pace
        )
        self._slots = FairSlots(limits.at_once, "uploads")
        self._finishing: Flights[str, Upload] = Flights()
        self._cleaning: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Gives up what is under way; nothing of a stream stays, and of an upload in parts what was kept."""
        await self._finishing.close()
        await asyncio.gather(*self._cleaning, return_exceptions=True)

    async def upload(self, order: UploadOrder, chunks: AsyncIterator[bytes]) -> Completed:
        """Keep what `chunks` give as a recording. Raises TrunklineError as UploadRecording documents."""
        self._check_expiry(order, "expire_time")
        known, plan = await self._admitted(order)
        if known is not None:
            return Completed(known, existing=True)
        with self._slots.held(order.tenant_id):
            async with self._bounded_time():
                return await self._stream(order, plan, self._counted(chunks, order.size_bytes))

    async def create(self, order: UploadOrder) -> tuple[Upload, Recording | None]:
        """Begin an upload in parts; with the recording when its bytes are there already."""
        self._check_expiry(order, "upload.recording_expire_time")
        known, _ = await self._admitted(order)
        made = self._made(order, order.recording_id or new_id(), self._limits.keep_seconds)
        if known is not None:
            return replace(made, recording_id=known.recording_id, existing=True), known
        await self._uploads.begin(made)
        return made, None

    async def get(self, tenant: str, upload: str) -> tuple[Upload, Recording | None]:
        """An upload, and the recording that it became. Raises NotFound, and why it failed."""
        return await self._shown(await self._uploads.get(tenant, upload))

    async def write(
        self, tenant: str, upload_id: str, offset: int, size: int, chunks: AsyncIterator[bytes]
    ) -> tuple[Upload, Recording | None]:
        """Append what `chunks` give, and complete the upload if that is all of it.

        Bytes that are kept already are passed over. Raises TrunklineError as WriteUpload documents.
        """
        upload = await self._uploads.get(tenant, upload_id)
        if upload.recording_id or upload.failure:
            return await self._shown(upload)
        self._check_size(size)
        if size and upload.size_bytes and size != upload.size_bytes:
            raise InvalidArgument("size_bytes", f"is {size}, and was stated as {upload.size_bytes}")
        if offset > upload.received_bytes:
            raise OutOfRange(
                f"the next byte is at {upload.received_bytes}, not at {offset}",
                reason="UPLOAD_OFFSET",
                metadata={"received_bytes": str(upload.received_bytes)},
            )
        await self._quota.check(tenant, (await self._plan_of(tenant)).quota_bytes, own=upload.received_bytes)
        with self._slots.held(tenant):
            async with self._bounded_time():
                source = Pieces(patient(chunks, self._read_seconds), skip=upload.received_bytes - offset)
                most = size or upload.size_bytes or self._limits.max_bytes
                while not source.ended:
                    upload = await self._append(upload, source, size, most)
            if upload.is_whole:
                key = f"{tenant}/{upload_id}"
                upload = await self._finishing.run(key, lambda: self._finish(upload))
        return await self._shown(upload)

    async def cancel(self, tenant: str, upload_id: str) -> None:
        """Delete an upload with what arrived. Raises NotFound."""
        upload = await self._uploads.get(tenant, upload_id)
        await self._uploads.remove(upload, self._blobs)
        if not upload.recording_id:
            self._quota.add(tenant, -upload.received_bytes)

    async def _admitted(self, order: UploadOrder) -> tuple[Recording | None, TenantPlan]:
        """Check what is known before the first byte; the recording if its bytes are there."""
        self._check_size(order.size_bytes)
        if order.sha256:
            known = await self._uploads.same(order.tenant_id, order.sha256, order.headerless)
            if known is not None:
                return known, TenantPlan()
        plan = await self._plan_of(order.tenant_id)
        await self._quota.check(order.tenant_id, plan.quota_bytes)
        return None, plan

    def _check_expiry(self, order: UploadOrder, field: str) -> None:
        if order.expire_at is not None and order.expire_at <= self._clock.now():
            raise InvalidArgument(field, "must be in the future")

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise InvalidArgument(
                "size_bytes",
                f"{size} bytes are more than the {self._limits.max_bytes} that are kept",
                reason="RECORDING_TOO_LARGE",
            )

    def _made(self, order: UploadOrder, upload_id: str, seconds: float) -> Upload:
        now = self._clock.now()
        return Upload(
            tenant_id=order.tenant_id,
            upload_id=upload_id,
            call=order.call,
            headerless=order.headerless,
            sha256=order.sha256,
            size_bytes=order.size_bytes,
            recording_expire_at=order.expire_at,
            created_at=now,
            expire_at=until(now, seconds),
        )

    async def _stream(self, order: UploadOrder, plan: TenantPlan, chunks: AsyncIterator[bytes]) -> Completed:
        if order.recording_id:
            there = await self._recordings.get(order.tenant_id, order.recording_id)
            if there is not None:
                return await self._compared(there, chunks)
        upload = self._made(order, order.recording_id or new_id(), self._limits.stream_seconds * 2)
        upload = replace(
            upload, writer=uuid.uuid4().hex, writer_until=until(upload.created_at, WRITER_SECONDS)
        )
        try:
            await self._uploads.begin(upload)  # also inside: what was cancelled may be committed all the same
            async with self._completion.renewed(upload):
                stat = await self._blobs.put(upload.blob_key, chunks)
                kept = await self._completion.complete(upload, stat, plan, keep_until=None)
        except BaseException:
            await self._cleaned(self._forgotten(upload))
            raise
        await self._unless_its_own(upload, kept)
        return kept

    async def _unless_its_own(self, upload: Upload, kept: Completed) -> None:
        """Delete the bytes of an upload, which another recording has."""
        if kept.recording.recording_id != upload.upload_id:
            await self._blobs.delete(upload.blob_key)

    async def _compared(self, there: Recording, chunks: AsyncIterator[bytes]) -> Completed:
        """Tell whether a recording has the bytes that come. Raises AlreadyExists."""
        digest = hashlib.sha256()
        async for chunk in chunks:
            digest.update(chunk)
        if digest.hexdigest() != there.sha256:
            raise AlreadyExists(recording_name(there.tenant_id, there.recording_id))
        return Completed(there, existing=True)

    async def _append(self, upload: Upload, source: Pieces, size: int, most: int) -> Upload:
        """Keep the next piece; one of a stream that failed is kept as far as it came."""
        name = f"p.{upload.received_bytes}.{uuid.uuid4().hex[:8]}"
        key = f"{upload.folder}/{name}"
        stat = await self._blobs.put(key, source.piece(PIECE_BYTES))
        received = upload.received_bytes + stat.size
        try:
            if received > most:
                raise InvalidArgument(
                    "data",
                    f"more than {most} bytes came",
                    reason="RECORDING_TOO_LARGE" if not size else "SIZE",
                )
            moved = until(self._clock.now(), self._limits.keep_seconds)
            upload = await self._uploads.append(upload, name, stat.size, size, moved)
        except BaseException:
            await self._cleaned(self._removed(upload, name))
            raise
        if not stat.size:
            await self._blobs.delete(key)
        self._quota.add(upload.tenant_id, stat.size)
        _uploaded_bytes.inc(stat.size)
        if source.failure is not None:
            raise source.failure
        return upload

    async def _finish(self, upload: Upload) -> Upload:
        """Put the pieces of an upload together, and make them a recording."""
        writer = uuid.uuid4().hex
        upload = await self._uploads.hold(upload, writer)
        if upload.recording_id or upload.failure:
            return upload
        upload = replace(upload, writer=writer)
        try:
            plan = await self._plan_of(upload.tenant_id)
            async with self._completion.renewed(upload):
                stat = await self._blobs.put(upload.blob_key, self._together(upload))
                keep_until = until(self._clock.now(), _COMPLETE_SECONDS)
                kept = await self._completion.complete(upload, stat, plan, keep_until)
        except (InvalidArgument, BlobNotFound) as error:
            lost = ["name", "what had arrived was lost; start again", "UPLOAD_LOST"]
            failed = lost if isinstance(error, BlobNotFound) else [*error.violations[0], error.reason]
            if await self._uploads.leaves_bytes(upload):
                await self._blobs.delete(upload.blob_key)
                await self._blobs.delete_folder(upload.folder, len(upload.pieces))
                await self._uploads.fail(upload, failed)
                self._quota.add(upload.tenant_id, -upload.received_bytes)
            return await self._uploads.get(upload.tenant_id, upload.upload_id)
        except BaseException:
            await self._cleaned(self._let_go(upload))
            raise
        await self._unless_its_own(upload, kept)
        await self._blobs.delete_folder(upload.folder, len(upload.pieces))
        return await self._uploads.get(upload.tenant_id, upload.upload_id)

    async def _together(self, upload: Upload) -> AsyncIterator[bytes]:
        for _, piece in upload.pieces:
            async for chunk in self._blobs.read(f"{upload.folder}/{piece}"):
                yield chunk

    async def _shown(self, upload: Upload) -> tuple[Upload, Recording | None]:
        if upload.failure:
            field, message, reason = upload.failure
            raise InvalidArgument(field, message, reason=reason)
        if not upload.recording_id:
            return upload, None
        found = await self._recordings.get(upload.tenant_id, upload.recording_id)
        if found is None:  # it was deleted since
            raise NotFound(recording_name(upload.tenant_id, upload.recording_id))
        return upload, found

    async def _counted(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        """Give what comes, within the bounds of one stream. Raises InvalidArgument and DeadlineExceeded."""
        async for chunk in bounded(patient(chunks, self._read_seconds), size, self._limits.max_bytes):
            _uploaded_bytes.inc(len(chunk))
            yield chunk

    @asynccontextmanager
    async def _bounded_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limits.stream_seconds):
                yield
        except TimeoutError:
            raise DeadlineExceeded(
                f"the stream took more than {self._limits.stream_seconds:g} s", reason="UPLOAD_TOO_SLOW"
            ) from None

    async def _cleaned(self, work: Awaitable[None]) -> None:
        """Do what has to be done after a failure, to its end: its caller may be cancelled once more."""
        task = asyncio.ensure_future(_logged(work))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        await asyncio.shield(task)

    async def _forgotten(self, upload: Upload) -> None:
        """Delete what is left of a stream, but nothing of another one that has the id."""
        if not await self._uploads.leaves_bytes(upload):
            return
        await self._blobs.delete(upload.blob_key)
        await self._uploads.delete(upload)
        UPLOADED.labels("failed").inc()

    async def _let_go(self, upload: Upload) -> None:
        if await self._uploads.leaves_bytes(upload):
            await self._blobs.delete(upload.blob_key)
            await self._uploads.release(upload)

    async def _removed(self, upload: Upload, piece: str) -> None:
        """Delete a piece, unless it was noted all the same: its asker may have gone in that moment."""
        if not await self._uploads.names(upload, piece):
            await self._blobs.delete(f"{upload.folder}/{piece}")


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception as error:
        log.warning("upload_not_cleaned", error=type(error).__name__)
