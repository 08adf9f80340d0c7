"""The gauge that says how much sound waits to be transcribed: what the service's autoscaler scales by."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_jobs import Depths, Queue
from trunkline_jobs.table import through
from trunkline_runtime.api import resources
from trunkline_runtime.observe.metrics import gauge
from trunkline_store import Database
from trunkline_store.hot import Hot, Row

from trunkline_audio.names import RECORDING
from trunkline_audio.recordings.rows import recording_of
from trunkline_audio.schema import jobs, operations

LOOK_SECONDS = 5.0
SAMPLE = 200
"""How many recordings of a class are looked at. Further ones are taken to be as long as these are on average."""
WAITING = gauge(
    "trunkline_audio_waiting_seconds",
    "Seconds of sound of operations that are due and that no replica works on; each replica shows all of them.",
)


class WaitingSound:
    """Sets the gauge; `look` is to be called every LOOK_SECONDS."""

    def __init__(self, db: Database, queue: Queue, *, sample: int = SAMPLE) -> None:
        """`sample` is as SAMPLE says."""
        self._db = db
        self._queue = queue
        self._depths = Depths(jobs)
        queued = through(sa.select(jobs.c.tenant_id, jobs.c.job_id), jobs, "queue")
        due = queued.where(
            jobs.c.queue_class == sa.bindparam("class_"),
            jobs.c.shard == 0,
            jobs.c.visible_at <= sa.bindparam("now_", type_=jobs.c.visible_at.type),
        )
        some = due.limit(sample).subquery()
        same = sa.and_(operations.c.tenant_id == some.c.tenant_id, operations.c.operation_id == some.c.job_id)
        self._requests = Hot(
            sa.select(operations.c.tenant_id, operations.c.request).select_from(some.join(operations, same))
        )
        WAITING.set(0)

    async def look(self) -> None:
        """Look once. Raises StoreError."""
        WAITING.set(await self._db.read(lambda conn: self._seconds(conn, self._queue.now(conn))))

    def _seconds(self, conn: Connection, now: datetime) -> float:
        total = 0.0
        for queue_class, depth in self._depths.of(conn, now).items():
            if not depth.jobs:
                continue
            asked = {"class_": int(queue_class), "now_": now}
            found = [_length(conn, row) for row in self._requests.all(conn, asked)]
            if found:
                total += sum(found) / len(found) * depth.jobs
        return total


def _length(conn: Connection, row: Row) -> float:
    """Return the seconds of an operation's recording; 0 when the recording is gone."""
    request = pb.TranscribeRecordingRequest.FromString(row["request"])
    recording = recording_of(conn, row["tenant_id"], resources.parse(RECORDING, request.name)["recording"])
    return 0.0 if recording is None else recording.duration_us / 1e6
