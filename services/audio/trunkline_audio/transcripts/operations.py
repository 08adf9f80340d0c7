"""Transcription as a long-running operation: what starts it, and what works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import cast

from sqlalchemy.engine import Connection
from trunkline.audio.v1 import transcription_service_pb2 as pb
from trunkline_jobs.operations import Operation, OperationKind, Operations, Work
from trunkline_runtime.api import resources
from trunkline_runtime.api.times import given_time
from trunkline_runtime.digests import digest, letters
from trunkline_runtime.engines.fairness import queue_class
from trunkline_runtime.errors import InvalidArgument, NotFound, TrunklineError, to_status
from trunkline_runtime.errors.coded import domain_error
from trunkline_runtime.identity.callers import current_caller
from trunkline_runtime.observe import logs
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_store import Database, StoreError
from trunkline_words.personal.policy import transcript_kinds

from trunkline_audio.engines.base import SpeechEngine, SubmittingEngine
from trunkline_audio.names import RECORDING, TENANT, transcript_name
from trunkline_audio.recordings.rows import recording_of
from trunkline_audio.transcripts import checkpoints
from trunkline_audio.transcripts.checkpoints import Notebook
from trunkline_audio.transcripts.submissions import given_up, name_of
from trunkline_audio.transcripts.task import TranscriptionTask, transcript_id
from trunkline_audio.transcripts.transcriber import Transcriber

log = logs.get_logger(__name__)

KIND = "transcribe"
# Of those that end with their process and did not get on: a recording that a decoder or engine dies of is not tried
# for ever.
_ATTEMPTS = 2
# Until when it is kept is counted from the moment of the request; a caller's job may change its class, and a tenant its
# phrases.
MAY_DIFFER = ("expire_time", "priority", "phrases")
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
        may_differ=MAY_DIFFER,
        queue_class=queue_class(request.priority),
    )


async def start_batch(
    operations: Operations,
    request: pb.BatchTranscribeRecordingsRequest,
    validate: Callable[[pb.TranscribeRecordingRequest], None],
    complete: Callable[[str, pb.TranscribeRecordingRequest], Awaitable[None]],
) -> pb.BatchTranscribeRecordingsResponse:
    """Keep the operations that the requests of a batch ask for; what is wrong with one is its result alone.

    `complete` sets what a request of a tenant leaves open, and raises InvalidArgument for an engine that isn't there.
    """
    tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]

    async def result(one: pb.TranscribeRecordingRequest) -> pb.BatchTranscribeRecordingsResult:
        found = pb.BatchTranscribeRecordingsResult(recording=one.name)
        try:
            validate(one)
            if not one.name.startswith(f"{request.parent}/"):
                raise InvalidArgument("name", "must belong to parent")
            if request.request_id and not one.request_id:
                one.request_id = _derived_request_id(request.request_id, one)
            await complete(tenant, one)
            found.operation = (await start(operations, one)).name
        except (TrunklineError, StoreError) as error:
            found.error.CopyFrom(to_status(domain_error(error) or error))
        return found

    results = await asyncio.gather(*(result(one) for one in request.requests))
    return pb.BatchTranscribeRecordingsResponse(results=results)


def _derived_request_id(batch: str, one: pb.TranscribeRecordingRequest) -> str:
    asked = pb.TranscribeRecordingRequest()
    asked.CopyFrom(one)
    asked.ClearField("expire_time")  # MAY_DIFFER
    asked.ClearField("priority")
    asked.ClearField("phrases")
    return letters(digest(batch, asked.SerializeToString(deterministic=True)), _ID_LETTERS)


def transcribing(
    transcriber: Transcriber, db: Database, keep: timedelta, pace: Pace = MACHINE
) -> OperationKind:
    """Return the kind of operation that has recordings transcribed; what an attempt finished is kept for `keep`."""

    async def work(work: Work) -> pb.TranscribeRecordingResponse:
        request: pb.TranscribeRecordingRequest = work.request
        task = task_of(work.tenant, request.name, request)
        async with Notebook(db, work, task.roles, keep, pace) as notebook:
            made = await transcriber.transcribe(task, notebook.of, stops=True)
        name = transcript_name(made.tenant_id, made.transcript_id)
        return pb.TranscribeRecordingResponse(transcript=name)

    return OperationKind(KIND, pb.TranscribeRecordingRequest, work, attempts=_ATTEMPTS)


def task_of(
    tenant: str, recording: str, request: pb.TranscribeRecordingRequest | pb.CreateTranscriptRequest
) -> TranscriptionTask:
    """Return what a request asks for about a tenant's recording, by its name."""
    return TranscriptionTask(
        tenant_id=tenant,
        recording_id=resources.parse(RECORDING, recording)["recording"],
        language=request.language,
        channel_speakers=tuple(request.channel_speakers),
        generation=request.generation,
        engine=request.engine,
        phrases=tuple(request.phrases),
        redacted=transcript_kinds(request.redaction),
        expire_at=given_time(request, "expire_time"),
        priority=queue_class(request.priority),
    )


def transcript_made_by(conn: Connection, operation: Operation) -> str:
    """Return the id of the transcript that an operation makes, or made; empty when its recording is gone."""
    request = pb.TranscribeRecordingRequest.FromString(operation.request)
    task = task_of(operation.tenant_id, request.name, request)
    recording = recording_of(conn, operation.tenant_id, task.recording_id)
    return "" if recording is None else transcript_id(task, recording.sha256)


class BesideTranscriptions:
    """The checkpoints of transcriptions, and what was submitted to a provider, as what goes with an operation."""

    def __init__(self, db: Database, engines: Iterable[SpeechEngine]) -> None:
        self._db = db
        self._submitting = [cast(SubmittingEngine, one) for one in engines if one.capabilities.submits]

    def deleted(self, conn: Connection, operation: Operation) -> None:
        """Delete the checkpoints."""
        if transcript := transcript_made_by(conn, operation):
            checkpoints.forget(conn, operation.tenant_id, transcript)

    async def cancelled(self, operation: Operation) -> None:
        """Have the provider give up what was submitted."""
        if not self._submitting:
            return

        def submissions(conn: Connection) -> list[tuple[SubmittingEngine, str]]:
            transcript = transcript_made_by(conn, operation)
            now = self._db.clock.now()
            kept = checkpoints.values_of(conn, operation.tenant_id, transcript, now) if transcript else {}
            return [(engine, name) for engine in self._submitting if (name := name_of(engine, kept))]

        def forget(conn: Connection) -> None:
            self.deleted(conn, operation)

        try:
            found = await self._db.read(submissions)
            for engine, name in found:
                await given_up(engine, name)
            if found:
                await self._db.write(forget)
        except StoreError as error:
            log.warning("submission_not_cancelled", operation=operation.name, reason=error.reason)
