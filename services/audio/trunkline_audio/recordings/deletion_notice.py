"""Tells the tenant service what is being deleted, so that no call goes on naming it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from trunkline.tenant.v1 import call_service_pb2, call_service_pb2_grpc
from trunkline_runtime.errors import NotFound, from_rpc_error
from trunkline_runtime.rpc.channels import Channels, unconfined

_SECONDS = 5.0

Forget = Callable[[str, str, bool], Awaitable[None]]
"""Takes the names of call and recording, and whether the transcript stays. Raises TrunklineError."""
ForgetTranscript = Callable[[str, str], Awaitable[None]]
"""Takes the names of call and transcript. Raises TrunklineError."""


def deletion_notice(channels: Channels, tenant_address: str) -> Forget:
    """Return what tells the tenant service of a recording, as audio's own identity."""
    stub = call_service_pb2_grpc.CallServiceStub(channels.get(tenant_address))

    async def forget(call: str, recording: str, transcript_stays: bool) -> None:
        request = call_service_pb2.ForgetRecordingRequest(
            name=call, recording=recording, transcript_stays=transcript_stays
        )
        await _told(stub.ForgetRecording, request)

    return forget


def transcript_notice(channels: Channels, tenant_address: str) -> ForgetTranscript:
    """Return what tells the tenant service of a transcript, as audio's own identity."""
    stub = call_service_pb2_grpc.CallServiceStub(channels.get(tenant_address))

    async def forget(call: str, transcript: str) -> None:
        await _told(
            stub.ForgetTranscript, call_service_pb2.ForgetTranscriptRequest(name=call, transcript=transcript)
        )

    return forget


async def _told(method: Any, request: Any) -> None:
    """Tell a call; one that is gone names nothing."""
    try:
        with unconfined():
            await method(request, timeout=_SECONDS)
    except grpc.RpcError as error:
        problem = from_rpc_error(error)
        if not isinstance(problem, NotFound):
            raise problem from None
