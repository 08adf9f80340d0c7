"""How long recordings and transcripts are kept, and the sweeper that deletes what is past its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from trunkline_runtime import logs, metrics
from trunkline_runtime.errors import TrunklineError
from trunkline_store.database import Database
from trunkline_store.deletion import delete_all, delete_keys, owners
from trunkline_store.spanner import SPANNER, force_index

from trunkline_audio.blobs import Blobs
from trunkline_audio.forgetting import Forget
from trunkline_audio.naming import recording_name
from trunkline_audio.recordings import blob_key
from trunkline_audio.tables import recordings, transcripts

log = logs.get_logger(__name__)

_expired = metrics.counter(
    "trunkline_audio_expired_total", "What was deleted when its days were over", ["kind"]
)

_RECORDINGS_A_STEP = 20  # files are deleted one by one


def expiry(given: datetime | None, days: int, now: datetime) -> datetime | None:
    """When something made now is deleted: as the caller said, else after so many days, else never."""
    if given is not None:
        return given
    return now + timedelta(days=days) if days else None


def given_time(request: Any, field: str) -> datetime | None:
    """A request's timestamp, None when it is not set."""
    return getattr(request, field).ToDatetime(UTC) if request.HasField(field) else None


class Sweeper:
    """Deletes what is past its time, in small transactions."""

    def __init__(self, db: Database, blobs: Blobs, forget: Forget | None = None) -> None:
        """`forget` tells the calls whose recordings go; None: nobody is told."""
        self._db = db
        self._blobs = blobs
        self._forget = forget

    async def sweep(self) -> None:
        """One pass over everything. Transcripts outlive their recordings unless their own time has come.

        On Spanner transcripts go by the table's ROW DELETION POLICY; recordings have bytes, which it does not know.
        """
        now = self._db.clock.now()
        removed = {"recordings": 0, "transcripts": 0}
        async for tenant in owners(self._db, recordings):
            late = (recordings.c.tenant_id == tenant) & (recordings.c.expire_at <= now)
            removed["recordings"] += await delete_recordings(self._db, self._blobs, late, forget=self._forget)
        if self._db.engine == "sqlite":
            async for tenant in owners(self._db, transcripts):
                late = (transcripts.c.tenant_id == tenant) & (transcripts.c.expire_at <= now)
                removed["transcripts"] += await delete_all(self._db, transcripts, late)
        for kind, count in removed.items():
            _expired.labels(kind).inc(count)
        if any(removed.values()):
            log.info("expired_deleted", **removed)


async def delete_recordings(
    db: Database,
    blobs: Blobs,
    condition: sa.ColumnElement[bool],
    most: int | None = None,
    forget: Forget | None = None,
) -> int:
    """Delete the recordings that fit, `most` at most; how many.

    Their calls are told first, then the bytes go: after a crash in between the row still says what is to go. While
    nobody can be told, they stay until the next pass.
    """
    query = sa.select(recordings.c.tenant_id, recordings.c.recording_id, recordings.c.call).where(condition)
    query = query.with_hint(recordings, force_index("recordings_by_expiry"), SPANNER)
    total = 0
    while most is None or total < most:
        found = await db.read(lambda conn: conn.execute(query.limit(_RECORDINGS_A_STEP)).all())
        if not found:
            break
        for row in found:
            if forget is not None and row.call and not await _told(forget, row):
                return total
            await blobs.delete(blob_key(row.tenant_id, row.recording_id))
        keys = [(row.tenant_id, row.recording_id) for row in found]
        await db.write(lambda conn: delete_keys(conn, recordings, keys))  # noqa: B023 - awaited right here
        total += len(found)
    return total


async def _told(forget: Forget, row: Any) -> bool:
    """Tell a recording's call that it goes; False when that has to wait. An answer that would always fail does not."""
    name = recording_name(row.tenant_id, row.recording_id)
    try:
        await forget(row.call, name, True)
    except TrunklineError as error:
        log.warning("call_not_told", recording=name, reason=error.reason)
        return not error.transient
    return True
