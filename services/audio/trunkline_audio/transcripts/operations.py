"""Transcription as a long-running operation: what starts it, and what works on it."""

from __future__ import annotations

from sqlalchemy.engine import Connection
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_jobs.operations import Kind, Operation, Operations, Work
from trunkline_runtime.api import resources
from trunkline_runtime.api.times import given_time
from trunkline_runtime.errors import NotFound
from trunkline_runtime.identity.callers import current_caller

from trunkline_audio.names import RECORDING, transcript_name
from trunkline_audio.recordings.rows import recording_of
from trunkline_audio.transcripts.transcriber import Transcriber, TranscriptionTask

KIND = "transcribe"
# Of those that end with their process: a recording that a decoder or engine dies of is not tried for ever.
_ATTEMPTS = 2


async def start(operations: Operations, request: pb.TranscribeRecordingRequest) -> Operation:
    """Keep the operation that a request asks for. Raises NotFound when the recording is not there."""
    ids = resources.parse(RECORDING, request.name)
    tenant, recording = ids["tenant"], ids["recording"]

    def check(conn: Connection) -> None:
        if recording_of(conn, tenant, recording) is None:
            raise NotFound(request.name)

    return await operations.start(
        tenant,
        KIND,
        request,
        pb.TranscribeRecordingMetadata(recording=request.name),
        request_id=request.request_id,
        requested_by=str(current_caller()),
        check=check,
        may_differ=("expire_time",),  # counted from the moment of the request
    )


def transcribing(transcriber: Transcriber) -> Kind:
    """Return the kind of operation that has recordings transcribed."""

    async def work(work: Work) -> pb.TranscribeRecordingResponse:
        request: pb.TranscribeRecordingRequest = work.request
        task = TranscriptionTask(
            tenant_id=work.tenant,
            recording_id=resources.parse(RECORDING, request.name)["recording"],
            language=request.language,
            channel_speakers=tuple(request.channel_speakers),
            generation=request.generation,
            engine=request.engine,
            phrases=tuple(request.phrases),
            expire_at=given_time(request, "expire_time"),
        )
        made = await transcriber.transcribe(task)
        name = transcript_name(made.tenant_id, made.transcript_id)
        return pb.TranscribeRecordingResponse(transcript=name)

    return Kind(KIND, pb.TranscribeRecordingRequest, work, attempts=_ATTEMPTS)
