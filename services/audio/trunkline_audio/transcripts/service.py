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
from trunkline_runtime.api.times import given_time
from trunkline_runtime.api.validation import validator
from trunkline_runtime.errors import InvalidArgument, NotFound

from trunkline_audio.names import RECORDING, TENANT, TRANSCRIPT, queue_class
from trunkline_audio.recordings.deletion_notice import ForgetTranscript
from trunkline_audio.transcripts import operations
from trunkline_audio.transcripts.export.formats import exported
from trunkline_audio.transcripts.rows import Transcript, Transcripts
from trunkline_audio.transcripts.search import Query, page_of
from trunkline_audio.transcripts.task import TranscriptionTask
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
    ) -> None:
        """`started` are the service's operations; `forget` is told of transcripts that are deleted."""
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
        task = TranscriptionTask(
            tenant_id=tenant,
            recording_id=ids["recording"],
            language=request.language,
            channel_speakers=tuple(request.channel_speakers),
            generation=request.generation,
            engine=request.engine,
            phrases=tuple(request.phrases),
            expire_at=given_time(request, "expire_time"),
            priority=queue_class(request.priority),
        )
        return (await self._transcriber.transcribe(task)).to_proto()

    async def TranscribeRecording(
        self, request: transcription_service_pb2.TranscribeRecordingRequest, context: Any
    ) -> operations_pb2.Operation:
        """Start, and say what it is called."""
        self._transcriber.check(request.engine)
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
        return await operations.start_batch(self._operations, request, self._check)

    def _check(self, one: transcription_service_pb2.TranscribeRecordingRequest) -> None:
        """Raise InvalidArgument for a request of a batch that would be refused by itself."""
        self._validate(one)
        self._transcriber.check(one.engine)

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

    async def _get(self, name: str) -> Transcript:
        ids = resources.parse(TRANSCRIPT, name)
        found = await self._transcripts.get(ids["tenant"], ids["transcript"])
        if found is None:
            raise NotFound(name)
        return found
