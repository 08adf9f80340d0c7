"""Tells the tenant service that a recording is being deleted, so that no call goes on naming it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
from trunkline.tenant.v1 import call_service_pb2, call_service_pb2_grpc
from trunkline_runtime.errors import NotFound, from_rpc_error
from trunkline_runtime.rpc.channels import Channels, unconfined

_SECONDS = 5.0

Forget = Callable[[str, str, bool], Awaitable[None]]
"""Takes the names of call and recording, and whether the transcript stays. Raises TrunklineError."""


def deletion_notice(channels: Channels, tenant_address: str) -> Forget:
    """Return what tells the tenant service, as audio's own identity. A call that is gone names nothing."""
    stub = call_service_pb2_grpc.CallServiceStub(channels.get(tenant_address))

    async def forget(call: str, recording: str, transcript_stays: bool) -> None:
        request = call_service_pb2.ForgetRecordingRequest(
            name=call, recording=recording, transcript_stays=transcript_stays
        )
        try:
            with unconfined():
                await stub.ForgetRecording(request, timeout=_SECONDS)
        except grpc.RpcError as error:
            problem = from_rpc_error(error)
            if not isinstance(problem, NotFound):
                raise problem from None

    return forget
