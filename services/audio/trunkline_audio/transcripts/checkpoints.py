"""What is finished of a transcript that is being made: kept in the store, under the lease of its operation.

Rows are numbered in the order in which they were written, so a watcher follows them by the number of the last one, at
any replica. They belong to the transcript and not to the operation: whoever makes the same transcript takes them up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_jobs import LeaseLost
from trunkline_jobs.operations import Work
from trunkline_runtime.observe import logs
from trunkline_runtime.process.pace import Pace
from trunkline_store import Database, StoreError
from trunkline_store.records.expiry import lives

from trunkline_audio.engines.base import Checkpoints, Segment
from trunkline_audio.names import duration, microseconds
from trunkline_audio.recordings.rows import Recording, recording_of
from trunkline_audio.schema import checkpoints
from trunkline_audio.transcripts.rows import segment
from trunkline_audio.transcripts.speakers import speaker

log = logs.get_logger(__name__)

WRITE_SECONDS = 1.0
AFTERWARDS = timedelta(hours=1)
"""How long they stay once the transcript is there: for watchers that come back."""


@dataclass(frozen=True)
class KeptSegments:
    """One row: its number, and the segments as they are stored."""

    number: int
    segments: list[dict[str, Any]]


def values_of(conn: Connection, tenant: str, transcript: str, now: datetime) -> dict[str, Any]:
    """Return what engines kept for a transcript, by key."""
    c = checkpoints.c
    query = sa.select(c.key, c.value).where(*_of(tenant, transcript), lives(c.expire_at, now))
    return {row.key: row.value for row in conn.execute(query)}


def kept_after(
    conn: Connection, tenant: str, transcript: str, number: int, now: datetime, most: int
) -> list[KeptSegments]:
    """Return at most so many rows that were written after the one of that number, in order."""
    c = checkpoints.c
    later = (*_of(tenant, transcript), c.number > number, lives(c.expire_at, now))
    query = sa.select(c.number, c.segments).where(*later).order_by(c.number).limit(most)
    return [KeptSegments(row.number, row.segments) for row in conn.execute(query)]


def forget(conn: Connection, tenant: str, transcript: str) -> None:
    """Delete what is kept for a transcript."""
    conn.execute(sa.delete(checkpoints).where(*_of(tenant, transcript)))


class Notebook:
    """Writes what one attempt finishes, and how far it is, about once in `WRITE_SECONDS` (`checkpoints.write`).

    `roles` are those of the recording's channels. Rows are kept for `keep`, or, once the transcript is there, for
    `AFTERWARDS`. It is closed with the attempt: what comes later is not kept.
    """

    lasting = True

    def __init__(self, db: Database, work: Work, roles: Sequence[int], keep: timedelta, pace: Pace) -> None:
        self._db = db
        self._work = work
        self._roles = roles
        self._keep = keep
        self._pace = pace
        self._seconds = pace.interval("checkpoints.write", WRITE_SECONDS)
        self._transcript = ""
        self._recording: Recording | None = None
        self._used = False
        self._pending: dict[str, dict[str, Any]] = {}
        self._reached = 0
        self._dirty = asyncio.Event()
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._writer = asyncio.create_task(self._write_for_ever())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the rest, as long as the operation is this attempt's, and write no more."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        if self._used:
            with contextlib.suppress(StoreError):
                await (self._ended() if kind is None else self.written())

    def of(self, recording: Recording, transcript: str) -> Checkpoints:
        """Return it as the checkpoints of a recording, for the transcript of that id."""
        self._recording, self._transcript = recording, transcript
        return self

    async def found(self) -> Mapping[str, Any]:
        """What earlier attempts kept."""
        now = self._db.clock.now()
        tenant, transcript = self._work.tenant, self._transcript
        self._touch()
        return await self._db.read(lambda conn: values_of(conn, tenant, transcript, now))

    def keep(self, key: str, value: Any, segments: Sequence[Segment] = (), lanes: int = 1) -> None:
        """Have a value kept soon."""
        shown = [segment(speaker(item, lanes, self._roles), item) for item in segments]
        self._pending[key] = {"key": key, "value": value, "segments": shown}
        self._touch()

    def reach(self, seconds: float) -> None:
        """Tell how far it is."""
        self._reached = max(self._reached, microseconds(seconds))
        self._touch()

    async def written(self) -> None:
        """Write what is to be kept. Raises StoreError, of which LeaseLost."""
        async with self._writing:
            pending = dict(self._pending)
            await self._work.state(
                self.metadata(), (lambda conn: self._add(conn, pending)) if pending else None
            )
            for key, part in pending.items():
                if self._pending.get(key) is part:
                    del self._pending[key]

    async def drop(self, key: str) -> None:
        """Delete a value."""
        self._pending.pop(key, None)
        c = checkpoints.c
        mine = (*_of(self._work.tenant, self._transcript), c.key == key)
        async with self._writing:
            await self._work.state(
                self.metadata(), lambda conn: _done(conn.execute(sa.delete(checkpoints).where(*mine)))
            )

    async def _ended(self) -> None:
        """Write the rest, and that the transcript is there."""
        assert self._recording is not None
        self._reached = self._recording.duration_us
        until = self._db.clock.now() + AFTERWARDS
        mine = _of(self._work.tenant, self._transcript)

        def write(conn: Connection) -> None:
            self._add(conn, self._pending)
            conn.execute(sa.update(checkpoints).where(*mine).values(expire_at=until))

        await self._work.state(self.metadata(), write)

    def _add(self, conn: Connection, pending: Mapping[str, dict[str, Any]]) -> None:
        assert self._recording is not None
        tenant, recording = self._work.tenant, self._recording.recording_id
        if recording_of(conn, tenant, recording) is None:
            return
        c = checkpoints.c
        mine = _of(tenant, self._transcript)
        there = set(conn.execute(sa.select(c.key).where(*mine, c.key.in_(pending))).scalars())
        last = conn.execute(sa.select(sa.func.max(c.number)).where(*mine)).scalar() or 0
        ids = {"tenant_id": tenant, "transcript_id": self._transcript, "recording_id": recording}
        until = self._db.clock.now() + self._keep
        new = [part for key, part in pending.items() if key not in there]
        rows = [
            {**ids, **part, "number": number, "expire_at": until} for number, part in enumerate(new, last + 1)
        ]
        if rows:
            conn.execute(checkpoints.insert(), rows)

    def metadata(self) -> pb.TranscribeRecordingMetadata:
        """How far it is."""
        assert self._recording is not None
        metadata = pb.TranscribeRecordingMetadata(
            recording=self._work.request.name, total_duration=duration(self._recording.duration_us)
        )
        if self._reached:
            reached = min(self._reached, self._recording.duration_us)
            metadata.transcribed_duration.CopyFrom(duration(reached))
        return metadata

    def _touch(self) -> None:
        if self._writer is not None:
            self._used = True
            self._dirty.set()

    async def _write_for_ever(self) -> None:
        while True:
            await self._dirty.wait()
            await self._pace.sleep(self._seconds)
            self._dirty.clear()
            try:
                await self.written()
            except LeaseLost:
                return
            except StoreError as error:
                log.warning("checkpoints_not_written", transcript=self._transcript, reason=error.reason)
                self._dirty.set()


def _of(tenant: str, transcript: str) -> tuple[sa.ColumnElement[bool], ...]:
    return checkpoints.c.tenant_id == tenant, checkpoints.c.transcript_id == transcript


def _done(_: object) -> None:
    """Drop a statement's result."""
