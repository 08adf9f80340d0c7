"""WatchTranscription: what is finished, how far it is, and the end; from the store, so any replica serves a watcher."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_jobs.operations import Operation, Operations
from trunkline_runtime.api import resources
from trunkline_runtime.errors import NotFound, ResourceExhausted, Unavailable
from trunkline_runtime.process.pace import first_of
from trunkline_runtime.rpc.operations import OPERATION
from trunkline_store import Database
from trunkline_store.records.expiry import is_over

from trunkline_audio.transcripts.checkpoints import KeptSegments, kept_after
from trunkline_audio.transcripts.operations import KIND, transcript_made_by
from trunkline_audio.transcripts.rows import segment_message

TENANTS_SHARE = 0.5
"""Of the watchers: the rest is left to other tenants."""
_ROWS_A_MESSAGE = 50
_LOOK_SECONDS = 15.0
_RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class _SeenOperation:
    operation: Operation
    kept: list[KeptSegments]


class TranscriptionWatch:
    """Follows operations for at most `at_once` watchers; `stopping` ends them."""

    def __init__(
        self,
        db: Database,
        operations: Operations,
        stopping: asyncio.Event,
        *,
        at_once: int,
    ) -> None:
        self._db = db
        self._operations = operations
        self._stopping = stopping
        self._at_once = at_once
        self._watchers: Counter[str] = Counter()

    async def follow(self, name: str, cursor: str) -> AsyncGenerator[pb.WatchTranscriptionResponse, None]:
        """Yield what is known after the cursor, then what becomes known, until the operation ends.

        Raises NotFound, ResourceExhausted, and Unavailable when the service stops.
        """
        ids = resources.parse(OPERATION, name)
        tenant, identity = ids["tenant"], ids["operation"]
        with self._counted(tenant), self._operations.watched(tenant, identity) as stirred:
            number, told = int(cursor or 0), None
            while True:
                stirred.clear()
                seen = await self._look(name, tenant, identity, number)
                number = seen.kept[-1].number if seen.kept else number
                full = len(seen.kept) == _ROWS_A_MESSAGE
                answer = _answer(seen, number, ended=seen.operation.done and not full)
                state = pb.WatchTranscriptionResponse()
                state.CopyFrom(answer)
                state.ClearField("segments")
                if state != told or seen.kept:
                    yield answer
                told = state
                if answer.done:
                    return
                if self._stopping.is_set():
                    raise Unavailable(
                        "the service is stopping; watch again", reason="STOPPING", retry_after=1.0
                    )
                if not full:
                    await first_of((stirred, self._stopping), _LOOK_SECONDS)

    @contextmanager
    def _counted(self, tenant: str) -> Iterator[None]:
        most_of_tenant = math.ceil(self._at_once * TENANTS_SHARE)
        if self._watchers.total() >= self._at_once or self._watchers[tenant] >= most_of_tenant:
            raise ResourceExhausted(
                "the limit of watchers of transcriptions is reached",
                reason="TOO_MANY_WATCHERS",
                subject="watchers of transcriptions",
                retry_after=_RETRY_SECONDS,
            )
        self._watchers[tenant] += 1
        try:
            yield
        finally:
            self._watchers[tenant] -= 1
            self._watchers += Counter()  # forgets those who have none

    async def _look(self, name: str, tenant: str, identity: str, number: int) -> _SeenOperation:
        now = self._db.clock.now()

        def read(conn: Connection) -> _SeenOperation | None:
            operation = self._operations.read(conn, tenant, identity)
            if operation is None or operation.kind != KIND or is_over(operation.expire_at, now):
                return None
            transcript = transcript_made_by(conn, operation)
            kept = kept_after(conn, tenant, transcript, number, now, _ROWS_A_MESSAGE) if transcript else []
            return _SeenOperation(operation, kept)

        seen = await self._db.read(read)
        if seen is None:
            raise NotFound(name)
        return seen


def _answer(seen: _SeenOperation, number: int, *, ended: bool) -> pb.WatchTranscriptionResponse:
    operation = seen.operation.to_proto()
    metadata = pb.TranscribeRecordingMetadata()
    operation.metadata.Unpack(metadata)
    answer = pb.WatchTranscriptionResponse(
        segments=[segment_message(item) for kept in seen.kept for item in kept.segments],
        cursor=str(number),
        done=ended,
    )
    for field in ("transcribed_duration", "total_duration"):
        if metadata.HasField(field):
            getattr(answer, field).CopyFrom(getattr(metadata, field))
    if metadata.progress.HasField("problem"):
        answer.problem.CopyFrom(metadata.progress.problem)
    if ended and operation.HasField("error"):
        answer.failure.CopyFrom(operation.error)
    if ended and operation.HasField("response"):
        response = pb.TranscribeRecordingResponse()
        operation.response.Unpack(response)
        answer.transcript = response.transcript
    return answer
