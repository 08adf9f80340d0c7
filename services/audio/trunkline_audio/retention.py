"""How long recordings and transcripts are kept, and the sweeper that deletes what is past its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline_jobs.operations import Operations
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe import logs, metrics
from trunkline_runtime.process.periodic import set_aside
from trunkline_store.database import Database
from trunkline_store.declare import by_index
from trunkline_store.records.deletion import delete_all, delete_keys, owners
from trunkline_store.records.expiry import overdue

from trunkline_audio.media.blobs.base import Blobs
from trunkline_audio.names import recording_name
from trunkline_audio.recordings.deletion_notice import Forget
from trunkline_audio.recordings.rows import blob_key, forget_checkpoints
from trunkline_audio.recordings.uploads.rows import Uploads
from trunkline_audio.schema import checkpoints, recordings, refusals, result_claims, transcripts

log = logs.get_logger(__name__)

_expired = metrics.counter(
    "trunkline_audio_expired_total", "What was deleted when its days were over", ["kind"]
)

_RECORDINGS_A_STEP = 20  # files are deleted one by one
_MOST_LEFT = 200


class Sweeper:
    """Deletes what is past its time, in small transactions."""

    def __init__(
        self,
        db: Database,
        blobs: Blobs,
        forget: Forget | None = None,
        operations: Operations | None = None,
        uploads: Uploads | None = None,
        recordings_age: timedelta | None = None,
    ) -> None:
        """`forget` tells the calls whose recordings go; None: nobody is told.

        A recording older than `recordings_age` goes even if its own time is later, or never comes.
        """
        self._recordings_age = recordings_age
        self._operations = operations
        self._uploads = uploads
        self._db = db
        self._blobs = blobs
        self._forget = forget

    async def sweep(self) -> None:
        """One pass over everything. Transcripts outlive their recordings unless their own time has come.

        On Spanner transcripts, checkpoints, claims, refusals, and operations go by their tables' ROW DELETION POLICY;
        recordings have bytes, which it does not know.
        """
        now = self._db.clock.now()
        removed = {"recordings": 0, "transcripts": 0, "checkpoints": 0, "result_claims": 0, "refusals": 0}
        async for tenant in owners(self._db, recordings):
            for index, late in self._late(tenant, now):
                with set_aside("retention", tenant=tenant, of="recordings"):
                    removed["recordings"] += await delete_recordings(
                        self._db, self._blobs, late, forget=self._forget, index=index
                    )
        if not self._db.features.deletes_expired:
            for table in (transcripts, checkpoints, result_claims, refusals):  # claims of processes that died
                async for tenant in owners(self._db, table):
                    late = overdue(table, tenant, now)
                    with set_aside("retention", tenant=tenant, of=table.name):
                        removed[table.name] += await delete_all(self._db, table, late)
        if self._operations is not None:
            removed["operations"] = await self._operations.sweep()
        if self._uploads is not None:
            removed["uploads"] = await self._uploads.sweep(self._blobs)
        for kind, count in removed.items():
            _expired.labels(kind).inc(count)
        if any(removed.values()):
            log.info("expired_deleted", **removed)

    def _late(self, tenant: str, now: datetime) -> Iterator[tuple[str, sa.ColumnElement[bool]]]:
        """Give what finds a tenant's recordings that are to go, each with its index."""
        yield "recordings_by_expiry", overdue(recordings, tenant, now)
        if self._recordings_age is not None:
            old = recordings.c.created_at <= now - self._recordings_age
            yield "recordings_by_time", sa.and_(recordings.c.tenant_id == tenant, old)


async def delete_recordings(
    db: Database,
    blobs: Blobs,
    condition: sa.ColumnElement[bool],
    most: int | None = None,
    forget: Forget | None = None,
    index: str = "",
) -> int:
    """Delete the recordings that fit, `most` at most; how many.

    `index` is what Spanner finds them by, where the condition is one that the index has every row of: that by expiry
    has none of a recording that never expires, and Spanner refuses a query that might mean one.
    Their calls are told first, then the bytes go: after a crash in between the row still says what is to go. While
    nobody can be told, they stay until the next pass. A recording whose bytes cannot be deleted keeps
    its row too, and does not stand in the way of the others.
    """
    query = sa.select(recordings.c.tenant_id, recordings.c.recording_id, recordings.c.call).where(condition)
    if index:
        query = by_index(query, recordings, index)
    total = 0
    left: set[tuple[str, str]] = set()
    while (most is None or total < most) and len(left) < _MOST_LEFT:
        limit = len(left) + _RECORDINGS_A_STEP  # those that are left are found again
        found = await db.scan(lambda conn: conn.execute(query.limit(limit)).all())  # noqa: B023 - awaited right here
        gone: list[tuple[str, str]] = []
        waits = False
        for row in found:
            key = (row.tenant_id, row.recording_id)
            if key in left:
                continue
            waits = forget is not None and bool(row.call) and not await _told(forget, row)
            if waits:
                break
            if await _without_bytes(blobs, row):
                gone.append(key)
            else:
                left.add(key)
        await db.write(lambda conn: _delete(conn, gone))  # noqa: B023 - awaited right here
        total += len(gone)
        if waits or len(found) < limit:
            break
    return total


def _delete(conn: Connection, gone: Sequence[tuple[str, str]]) -> None:
    delete_keys(conn, recordings, gone)
    for tenant, recording in gone:
        forget_checkpoints(conn, tenant, recording)


async def _without_bytes(blobs: Blobs, row: Any) -> bool:
    """Delete a recording's bytes; False when they cannot be deleted now."""
    with set_aside("recordings", tenant=row.tenant_id, recording=row.recording_id):
        await blobs.delete(blob_key(row.tenant_id, row.recording_id))
        return True
    return False


async def _told(forget: Forget, row: Any) -> bool:
    """Tell a recording's call that it goes; False when that has to wait. An answer that would always fail does not."""
    name = recording_name(row.tenant_id, row.recording_id)
    try:
        await forget(row.call, name, True)
    except TrunklineError as error:
        log.warning("call_not_told", recording=name, reason=error.reason)
        return not error.transient
    return True
