"""ConversationService: a call with everything known about it, composed from the services that own the parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import empty_pb2
from trunkline.ai.v1 import analysis_service_pb2, analysis_service_pb2_grpc
from trunkline.audio.v1 import (
    audio_feature_service_pb2,
    audio_feature_service_pb2_grpc,
    recording_service_pb2,
    recording_service_pb2_grpc,
    transcription_service_pb2,
    transcription_service_pb2_grpc,
)
from trunkline.gateway.v1 import conversation_service_pb2 as pb
from trunkline.gateway.v1 import conversation_service_pb2_grpc
from trunkline.tenant.v1 import call_service_pb2, call_service_pb2_grpc
from trunkline_runtime.api.resources import tenant_of
from trunkline_runtime.errors import Unavailable
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.rpc.call import current_rpc
from trunkline_runtime.rpc.channels import Channels, acting_for

from trunkline_gateway.events.call_deletion import CallDeletions

log = get_logger(__name__)

PART_SECONDS = 3.0
_RETRY_SECONDS = 1.0
_KEPT_SECONDS = 0.2
"""Kept of the caller's time to answer without a part that does not come."""
_NAMED_BY = {"audio_features": "transcript"}
"""The field of the call that names a part, where it is not called as the part."""


class ConversationService(conversation_service_pb2_grpc.ConversationServiceServicer):
    """Asks for the parts at once, each with `part_seconds`; one that cannot be had is named in `missing`.

    The services are asked as the gateway confined to the call's tenant: a name in the call cannot lead to
    another tenant's part.
    """

    def __init__(
        self,
        channels: Channels,
        deletions: CallDeletions,
        *,
        tenant_address: str,
        audio_address: str,
        ai_address: str,
        part_seconds: float = PART_SECONDS,
    ) -> None:
        self._channels = channels
        self._deletions = deletions
        self._tenant = tenant_address
        self._audio = audio_address
        self._ai = ai_address
        self._part_seconds = part_seconds

    async def GetConversation(self, request: pb.GetConversationRequest, context: Any) -> pb.Conversation:
        """Show a call with its parts. Raises what GetCall raises; a part's failure only leaves it out."""
        with acting_for(tenant_of(request.name)):
            conversation = pb.Conversation(call=await self._call(request.name))
            asked = {
                part: ask
                for part, ask in self._parts(conversation).items()
                if getattr(conversation.call, _NAMED_BY.get(part, part))
            }
            found = await asyncio.gather(*(self._had(part, ask) for part, ask in asked.items()))
        for part, message in zip(asked, found, strict=True):
            if message is None:
                conversation.missing.append(part)
            else:
                getattr(conversation, part).CopyFrom(message)
        return conversation

    async def DeleteCall(self, request: pb.DeleteCallRequest, context: Any) -> empty_pb2.Empty:
        """Have a call deleted everywhere."""
        await self._deletions.order_call(request.name)
        return empty_pb2.Empty()

    async def DeleteCaller(self, request: pb.DeleteCallerRequest, context: Any) -> empty_pb2.Empty:
        """Have all calls of a lead's number deleted everywhere."""
        await self._deletions.order_caller(request.name)
        return empty_pb2.Empty()

    async def _call(self, name: str) -> Any:
        calls = call_service_pb2_grpc.CallServiceStub(self._channels.get(self._tenant))
        try:
            return await calls.GetCall(call_service_pb2.GetCallRequest(name=name))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                # gRPC's own words name the address that it could not reach.
                raise Unavailable(
                    "calls are temporarily unavailable",
                    reason="CALLS_UNAVAILABLE",
                    retry_after=_RETRY_SECONDS,
                ) from error
            raise

    def _parts(self, conversation: pb.Conversation) -> dict[str, Callable[[float], Awaitable[Any]]]:
        """Return how each part is asked for; a part is named as its field of the conversation."""
        call = conversation.call
        audio, ai = self._channels.get(self._audio), self._channels.get(self._ai)
        recordings = recording_service_pb2_grpc.RecordingServiceStub(audio)
        transcripts = transcription_service_pb2_grpc.TranscriptionServiceStub(audio)
        features = audio_feature_service_pb2_grpc.AudioFeatureServiceStub(audio)
        analyses = analysis_service_pb2_grpc.AnalysisServiceStub(ai)
        return {
            "recording": lambda seconds: recordings.GetRecording(
                recording_service_pb2.GetRecordingRequest(name=call.recording), timeout=seconds
            ),
            "transcript": lambda seconds: transcripts.GetTranscript(
                transcription_service_pb2.GetTranscriptRequest(name=call.transcript), timeout=seconds
            ),
            "audio_features": lambda seconds: features.GetAudioFeatures(
                audio_feature_service_pb2.GetAudioFeaturesRequest(name=f"{call.transcript}/audioFeatures"),
                timeout=seconds,
            ),
            "analysis": lambda seconds: analyses.GetAnalysis(
                analysis_service_pb2.GetAnalysisRequest(name=call.analysis), timeout=seconds
            ),
        }

    async def _had(self, part: str, ask: Callable[[float], Awaitable[Any]]) -> Any:
        """Return a part, None when it cannot be had."""
        try:
            return await ask(self._seconds())
        except grpc.RpcError as error:
            code = error.code()
            note = log.info if code is grpc.StatusCode.NOT_FOUND else log.warning
            note("conversation_part_missing", part=part, code=code.name)
            return None

    def _seconds(self) -> float:
        rpc = current_rpc()
        remaining = rpc.remaining_seconds() if rpc is not None else None
        if remaining is None:
            return self._part_seconds
        return max(0.0, min(self._part_seconds, remaining - _KEPT_SECONDS))
