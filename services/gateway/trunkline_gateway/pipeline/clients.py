"""The other services as the pipeline asks them: stubs, deadlines, quick retries, breakers, domain errors."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from trunkline.ai.v1 import analysis_pb2, analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import (
    recording_pb2,
    recording_service_pb2,
    recording_service_pb2_grpc,
    transcript_pb2,
    transcription_service_pb2,
    transcription_service_pb2_grpc,
)
from trunkline.tenant.v1 import (
    call_pb2,
    call_service_pb2,
    call_service_pb2_grpc,
    source_pb2,
    source_service_pb2,
    source_service_pb2_grpc,
)
from trunkline_runtime.breakers import Breakers, is_outage
from trunkline_runtime.errors import Unavailable, from_rpc_error
from trunkline_runtime.resilience import RetryPolicy, retrying

from trunkline_gateway.pipeline.policy import POLICIES

Answer_co = TypeVar("Answer_co", covariant=True)
T = TypeVar("T")

TENANT, AUDIO, AI = "tenant", "audio", "ai"
# What a service that starts again, or a connection that was cut, costs: two more tries within a second or
# two.
_QUICKLY = RetryPolicy(attempts=2, first_seconds=0.2, most_seconds=1.0, total_seconds=3.0, retry_on=is_outage)


class Method(Protocol[Answer_co]):
    """A unary method of a stub."""

    def __call__(self, request: Any, *, timeout: float) -> Awaitable[Answer_co]:
        """Ask."""
        ...


@dataclass(frozen=True, slots=True)
class Clients:
    """What the stages ask. Every method raises TrunklineError or CircuitOpen, and nothing of gRPC's."""

    breakers: Breakers
    resolve_method: Method[source_pb2.ResolvedSource]
    record_method: Method[call_pb2.Call]
    fetch_method: Method[recording_pb2.Recording]
    transcribe_short_method: Method[transcript_pb2.Transcript]
    transcribe_method: Method[operations_pb2.Operation]
    wait_method: Method[operations_pb2.Operation]
    transcript_method: Method[transcript_pb2.Transcript]
    analyse_method: Method[analysis_pb2.Analysis]
    record_state_method: Method[call_service_pb2.RecordCallStateResponse]

    @classmethod
    def over(
        cls, breakers: Breakers, *, tenant: grpc.aio.Channel, audio: grpc.aio.Channel, ai: grpc.aio.Channel
    ) -> Clients:
        """Make the stubs over one channel per service."""
        return cls(
            breakers,
            source_service_pb2_grpc.SourceServiceStub(tenant).ResolveSource,
            call_service_pb2_grpc.CallServiceStub(tenant).RecordCall,
            recording_service_pb2_grpc.RecordingServiceStub(audio).FetchRecording,
            transcription_service_pb2_grpc.TranscriptionServiceStub(audio).CreateTranscript,
            transcription_service_pb2_grpc.TranscriptionServiceStub(audio).TranscribeRecording,
            operations_pb2_grpc.OperationsStub(audio).WaitOperation,
            transcription_service_pb2_grpc.TranscriptionServiceStub(audio).GetTranscript,
            analysis_service_pb2_grpc.AnalysisServiceStub(ai).AnalyzeCall,
            call_service_pb2_grpc.CallServiceStub(tenant).RecordCallState,
        )

    async def resolve(self, request: source_service_pb2.ResolveSourceRequest) -> source_pb2.ResolvedSource:
        """Ask for a source with its secrets."""
        return await self._ask(TENANT, self.resolve_method, request, POLICIES["normalise"].call)

    async def record(self, request: call_service_pb2.RecordCallRequest) -> call_pb2.Call:
        """Record what an event says."""
        return await self._ask(TENANT, self.record_method, request, POLICIES["record"].call)

    async def record_state(self, request: call_service_pb2.RecordCallStateRequest) -> None:
        """Say how far an event has brought its call."""
        await self._ask(TENANT, self.record_state_method, request, POLICIES["record"].call)

    async def fetch(self, request: recording_service_pb2.FetchRecordingRequest) -> recording_pb2.Recording:
        """Fetch a recording."""
        return await self._ask(AUDIO, self.fetch_method, request, POLICIES["fetch_recording"].call)

    async def transcribe_short(
        self, request: transcription_service_pb2.CreateTranscriptRequest
    ) -> transcript_pb2.Transcript:
        """Transcribe a recording within the call."""
        return await self._ask(AUDIO, self.transcribe_short_method, request, POLICIES["transcribe"].call)

    async def transcribe(
        self, request: transcription_service_pb2.TranscribeRecordingRequest
    ) -> operations_pb2.Operation:
        """Start to transcribe a recording."""
        return await self._ask(AUDIO, self.transcribe_method, request, POLICIES["transcribe"].call)

    async def wait(self, operation: str, seconds: float) -> operations_pb2.Operation:
        """Return an operation of the audio service's when it has ended, or as it is after so many seconds."""
        request = operations_pb2.WaitOperationRequest(name=operation)
        request.timeout.FromMilliseconds(int(seconds * 1000))
        return await self._ask(AUDIO, self.wait_method, request, POLICIES["transcribe"].call)

    async def transcript(
        self, request: transcription_service_pb2.GetTranscriptRequest
    ) -> transcript_pb2.Transcript:
        """Read a transcript."""
        return await self._ask(AUDIO, self.transcript_method, request, POLICIES["transcribe"].call)

    async def analyse(self, request: analysis_service_pb2.AnalyzeCallRequest) -> analysis_pb2.Analysis:
        """Analyse a conversation."""
        return await self._ask(AI, self.analyse_method, request, POLICIES["analyse"].call)

    async def _ask(self, service: str, method: Method[T], request: Any, seconds: float) -> T:
        async def once() -> T:
            return await unary(method, request, seconds)

        async def guarded() -> T:
            return await self.breakers.call(service, once)

        try:
            return await guarded()
        except Unavailable as error:
            if not is_outage(error):
                raise
        return await retrying(_QUICKLY)(guarded)


async def unary(method: Method[T], request: Any, seconds: float) -> T:
    """Ask once. Raises TrunklineError."""
    try:
        return await method(request, timeout=seconds)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
