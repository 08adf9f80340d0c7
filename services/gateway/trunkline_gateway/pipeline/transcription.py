"""The pipeline's longest stage: it starts an operation, waits a while for it, and else gives its slot back.

The operation goes on without the worker. Its name is in the job's checkpoint, so the next run, of whichever worker,
finds it again. A recording that is known to be short is transcribed within one call, which costs three transactions
and two calls less; what takes long after all becomes an operation too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from google.longrunning import operations_pb2
from trunkline.audio.v1 import transcript_pb2
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_runtime.digests import digest, letters
from trunkline_runtime.errors import DeadlineExceeded, Internal, NotFound, TrunklineError
from trunkline_runtime.errors.wire import from_status

from trunkline_gateway.pipeline.clients import Clients
from trunkline_gateway.pipeline.policy import StillRunning
from trunkline_gateway.pipeline.run import Run

OPERATION = "transcribe_operation"
"""The operation's name in a job's checkpoint."""
# The first look comes soon: what cannot begin, for lack of an engine, is not to hold a slot meanwhile.
WAITS = (1.0, 19.0)
SHORT_SECONDS = 60.0
"""A recording of at most this length is transcribed in a fraction of the time that a call may take."""
_ID_LETTERS = 40


class Transcription:
    """Has recordings transcribed by the audio service; `waits` are the seconds of the looks of one run."""

    def __init__(self, clients: Clients, waits: Sequence[float] = WAITS) -> None:
        self._clients = clients
        self._waits = waits

    async def of(
        self, run: Run, request: pb.TranscribeRecordingRequest, seconds: float = 0.0
    ) -> transcript_pb2.Transcript:
        """Return the transcript of a recording of so many seconds, 0.0 where that is not known.

        Raises StillRunning, the error that the operation waits for to pass, and the one that it ended with.
        """
        if 0.0 < seconds <= SHORT_SECONDS and not run.known.get(OPERATION):
            with contextlib.suppress(DeadlineExceeded):
                return await self._clients.transcribe_short(_within_one_call(request))
        operation = await self._again(run) or await self._start(run, request)
        for patience in self._waits:
            if operation.done:
                break
            run.note(OPERATION, operation.name)
            operation = await self._clients.wait(operation.name, patience)
            problem = _problem(operation)
            if problem is not None and problem.transient:
                raise problem
        if not operation.done:
            raise StillRunning(operation.name)
        if operation.HasField("error"):
            run.note(OPERATION, "")  # the next attempt starts it again
            raise from_status(operation.error)
        response = pb.TranscribeRecordingResponse()
        if not operation.response.Unpack(response):
            raise Internal("the operation answered another message")
        return await self._clients.transcript(pb.GetTranscriptRequest(name=response.transcript))

    async def _again(self, run: Run) -> operations_pb2.Operation | None:
        """Return the operation that an earlier run started; None when there is none, or it is gone."""
        name = run.known.get(OPERATION)
        if not name:
            return None
        try:
            return await self._clients.wait(name, 0.0)
        except NotFound:
            return None

    async def _start(self, run: Run, request: pb.TranscribeRecordingRequest) -> operations_pb2.Operation:
        # However often an event's request is sent, it is one operation; it begins anew only where it failed.
        # What is asked for is part of it, since the source's options may have changed in between; until when the
        # transcript is kept, which is counted from now, is not, nor is the class, which a job may leave.
        asked_for = pb.TranscribeRecordingRequest()
        asked_for.CopyFrom(request)
        asked_for.ClearField("expire_time")
        asked_for.ClearField("priority")
        asked_for.ClearField("phrases")
        asked = asked_for.SerializeToString(deterministic=True)
        request.request_id = letters(digest(run.job.event, asked), _ID_LETTERS)
        return await self._clients.transcribe(request)


def _within_one_call(request: pb.TranscribeRecordingRequest) -> pb.CreateTranscriptRequest:
    short = pb.CreateTranscriptRequest(
        parent=request.name.partition("/recordings/")[0],
        recording=request.name,
        language=request.language,
        channel_speakers=request.channel_speakers,
        generation=request.generation,
        priority=request.priority,
        engine=request.engine,
        phrases=request.phrases,
    )
    if request.HasField("redaction"):
        short.redaction.CopyFrom(request.redaction)
    if request.HasField("expire_time"):
        short.expire_time.CopyFrom(request.expire_time)
    return short


def _problem(operation: operations_pb2.Operation) -> TrunklineError | None:
    """Return why an operation waits; None when it runs or has ended."""
    metadata = pb.TranscribeRecordingMetadata()
    if operation.done or not operation.metadata.Unpack(metadata) or not metadata.progress.HasField("problem"):
        return None
    return from_status(metadata.progress.problem)
