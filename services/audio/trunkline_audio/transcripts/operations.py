"""Transcription as a long-running operation: what starts it, and what works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from google.protobuf.message import Message
from sqlalchemy.engine import Connection
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_jobs.operations import Kind, Operation, Operations, Work
from trunkline_runtime.api import resources
from trunkline_runtime.api.times import given_time
from trunkline_runtime.digests import digest, letters
from trunkline_runtime.errors import InvalidArgument, NotFound, TrunklineError, to_status
from trunkline_runtime.errors.coded import domain_error
from trunkline_runtime.identity.callers import current_caller
from trunkline_store import StoreError

from trunkline_audio.names import RECORDING, transcript_name
from trunkline_audio.recordings.rows import recording_of
from trunkline_audio.transcripts.transcriber import Transcriber, TranscriptionTask

KIND = "transcribe"
# Of those that end with their process: a recording that a decoder or engine dies of is not tried for ever.
_ATTEMPTS = 2
_ID_LETTERS = 40


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


async def start_batch(
    operations: Operations, request: pb.BatchTranscribeRecordingsRequest, validate: Callable[[Message], None]
) -> pb.BatchTranscribeRecordingsResponse:
    """Keep the operations that the requests of a batch ask for; what is wrong with one is its result alone."""

    async def result(one: pb.TranscribeRecordingRequest) -> pb.BatchTranscribeRecordingsResult:
        found = pb.BatchTranscribeRecordingsResult(recording=one.name)
        try:
            validate(one)
            if not one.name.startswith(f"{request.parent}/"):
                raise InvalidArgument("name", "must belong to parent")
            if request.request_id and not one.request_id:
                one.request_id = _derived_request_id(request.request_id, one)
            found.operation = (await start(operations, one)).name
        except (TrunklineError, StoreError) as error:
            found.error.CopyFrom(to_status(domain_error(error) or error))
        return found

    results = await asyncio.gather(*(result(one) for one in request.requests))
    return pb.BatchTranscribeRecordingsResponse(results=results)


def _derived_request_id(batch: str, one: pb.TranscribeRecordingRequest) -> str:
    asked = pb.TranscribeRecordingRequest()
    asked.CopyFrom(one)
    asked.ClearField("expire_time")
    return letters(digest(batch, asked.SerializeToString(deterministic=True)), _ID_LETTERS)


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
            expire_at=given_time(request, "expire_time"),
        )
        made = await transcriber.transcribe(task)
        name = transcript_name(made.tenant_id, made.transcript_id)
        return pb.TranscribeRecordingResponse(transcript=name)

    return Kind(KIND, pb.TranscribeRecordingRequest, work, attempts=_ATTEMPTS)
