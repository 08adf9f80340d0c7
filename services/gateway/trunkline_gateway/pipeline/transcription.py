"""The pipeline's longest stage: it starts an operation, waits a while for it, and else gives its slot back.

The operation goes on without the worker. Its name is in the job's checkpoint, so the next run, of whichever worker,
finds it again.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.longrunning import operations_pb2
from trunkline.audio.v1 import transcript_pb2
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_runtime.digests import digest, letters
from trunkline_runtime.errors import Internal, NotFound, TrunklineError
from trunkline_runtime.wire import from_status

from trunkline_gateway.pipeline.clients import Clients
from trunkline_gateway.pipeline.policy import StillRunning
from trunkline_gateway.pipeline.run import Run

OPERATION = "transcribe_operation"
"""The operation's name in a job's checkpoint."""
# The first look comes soon: what cannot begin, for lack of an engine, is not to hold a slot meanwhile.
WAITS = (1.0, 19.0)
_ID_LETTERS = 40


class Transcription:
    """Has recordings transcribed by the audio service; `waits` are the seconds of the looks of one run."""

    def __init__(self, clients: Clients, waits: Sequence[float] = WAITS) -> None:
        self._clients = clients
        self._waits = waits

    async def of(self, run: Run, request: pb.TranscribeRecordingRequest) -> transcript_pb2.Transcript:
        """Return the transcript.

        Raises StillRunning, the error that the operation waits for to pass, and the one that it ended with.
        """
        operation = await self._again(run) or await self._start(run, request)
        for seconds in self._waits:
            if operation.done:
                break
            run.note(OPERATION, operation.name)
            operation = await self._clients.wait(operation.name, seconds)
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
        # transcript is kept, which is counted from now, is not.
        asked_for = pb.TranscribeRecordingRequest()
        asked_for.CopyFrom(request)
        asked_for.ClearField("expire_time")
        asked = asked_for.SerializeToString(deterministic=True)
        request.request_id = letters(digest(run.job.event, asked), _ID_LETTERS)
        return await self._clients.transcribe(request)


def _problem(operation: operations_pb2.Operation) -> TrunklineError | None:
    """Return why an operation waits; None when it runs or has ended."""
    metadata = pb.TranscribeRecordingMetadata()
    if operation.done or not operation.metadata.Unpack(metadata) or not metadata.progress.HasField("problem"):
        return None
    return from_status(metadata.progress.problem)
