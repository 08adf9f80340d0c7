"""TranscriptionService over gRPC: translates, nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.api import httpbody_pb2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from trunkline.audio.v1 import transcript_pb2, transcription_service_pb2, transcription_service_pb2_grpc
from trunkline_jobs.operations import Operations
from trunkline_runtime.api import paging, resources
from trunkline_runtime.api.validation import validator
from trunkline_runtime.errors import InvalidArgument, NotFound
from trunkline_store.clock import Clock

from trunkline_audio.names import RECORDING, TENANT, TRANSCRIPT
from trunkline_audio.recordings.deletion_notice import ForgetTranscript
from trunkline_audio.recordings.plans import AskPlan, as_tenant_set
from trunkline_audio.transcripts import operations
from trunkline_audio.transcripts.export.formats import exported
from trunkline_audio.transcripts.rows import Transcript, Transcripts
from trunkline_audio.transcripts.search import Query, page_of
from trunkline_audio.transcripts.transcriber import Transcriber
from trunkline_audio.transcripts.watch import TranscriptionWatch


class TranscriptionServicer(transcription_service_pb2_grpc.TranscriptionServiceServicer):
    """Makes and shows transcripts."""

    def __init__(
        self,
        transcripts: Transcripts,
        transcriber: Transcriber,
        started: Operations,
        watch: TranscriptionWatch,
        forget: ForgetTranscript,
        plan_of: AskPlan,
        clock: Clock,
    ) -> None:
        """`started` are the service's operations; `forget` is told of transcripts that are deleted.

        `plan_of` is asked how a tenant wants its recordings transcribed.
        """
        self._plan_of = plan_of
        self._clock = clock
        self._watch = watch
        self._forget = forget
        self._transcripts = transcripts
        self._transcriber = transcriber
        self._operations = started
        self._validate = validator()

    async def CreateTranscript(
        self, request: transcription_service_pb2.CreateTranscriptRequest, context: Any
    ) -> transcript_pb2.Transcript:
        """Create or get."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        ids = resources.parse(RECORDING, request.recording, field="recording")
        if ids["tenant"] != tenant:
            raise InvalidArgument("recording", "must belong to parent")
        await self._complete(tenant, request)
        task = operations.task_of(tenant, request.recording, request)
        return (await self._transcriber.transcribe(task)).to_proto()

    async def TranscribeRecording(
        self, request: transcription_service_pb2.TranscribeRecordingRequest, context: Any
    ) -> operations_pb2.Operation:
        """Start, and say what it is called."""
        await self._complete(resources.parse(RECORDING, request.name)["tenant"], request)
        return (await operations.start(self._operations, request)).to_proto()

    async def WatchTranscription(
        self, request: transcription_service_pb2.WatchTranscriptionRequest, context: Any
    ) -> AsyncIterator[transcription_service_pb2.WatchTranscriptionResponse]:
        """Follow one operation."""
        async with aclosing(self._watch.follow(request.name, request.cursor)) as answers:
            async for answer in answers:
                yield answer

    async def BatchTranscribeRecordings(
        self, request: transcription_service_pb2.BatchTranscribeRecordingsRequest, context: Any
    ) -> transcription_service_pb2.BatchTranscribeRecordingsResponse:
        """Start each, and say what they are called."""
        return await operations.start_batch(self._operations, request, self._validate, self._complete)

    async def GetTranscript(
        self, request: transcription_service_pb2.GetTranscriptRequest, context: Any
    ) -> transcript_pb2.Transcript:
        """One transcript."""
        return (await self._get(request.name)).to_proto()

    async def ListTranscripts(
        self, request: transcription_service_pb2.ListTranscriptsRequest, context: Any
    ) -> transcription_service_pb2.ListTranscriptsResponse:
        """A page without segments, the latest first."""
        tenant = resources.parse(TENANT, request.parent, field="parent")["tenant"]
        found, token = await self._transcripts.page(
            tenant, paging.place_of(request, "transcripts", request.parent, request.filter), request.filter
        )
        return transcription_service_pb2.ListTranscriptsResponse(
            transcripts=[transcript.to_proto() for transcript in found], next_page_token=token
        )

    async def ExportTranscript(
        self, request: transcription_service_pb2.ExportTranscriptRequest, context: Any
    ) -> httpbody_pb2.HttpBody:
        """One transcript as a file; hours of it take a thread a while."""
        found = await self._get(request.name)
        content_type, data = await asyncio.to_thread(exported, found, request.format or "text")
        return httpbody_pb2.HttpBody(content_type=content_type, data=data)

    async def SearchTranscript(
        self, request: transcription_service_pb2.SearchTranscriptRequest, context: Any
    ) -> transcription_service_pb2.SearchTranscriptResponse:
        """A page of matches."""
        place = paging.place_of(request, "matches", request.name, request.query)
        found = await self._get(request.name)
        return await asyncio.to_thread(page_of, Query(request.query), found, place)

    async def DeleteTranscript(
        self, request: transcription_service_pb2.DeleteTranscriptRequest, context: Any
    ) -> empty_pb2.Empty:
        """Tells its call first: whoever asks again after a failure finds the transcript, and tells again."""
        ids = resources.parse(TRANSCRIPT, request.name)
        call = await self._transcripts.call_of(ids["tenant"], ids["transcript"])
        if call:
            await self._forget(call, request.name)
        if not await self._transcripts.delete(ids["tenant"], ids["transcript"]):
            raise NotFound(request.name)
        return empty_pb2.Empty()

    async def _complete(self, tenant: str, request: Any) -> None:
        """Set what a request leaves open. Raises InvalidArgument("engine") if the engine isn't there."""
        own = bool(request.engine)
        await as_tenant_set(self._plan_of, tenant, request, self._clock.now())
        self._transcriber.check(request.engine, "" if own else "the tenant's speech_settings.engine ")

    async def _get(self, name: str) -> Transcript:
        ids = resources.parse(TRANSCRIPT, name)
        found = await self._transcripts.get(ids["tenant"], ids["transcript"])
        if found is None:
            raise NotFound(name)
        return found
