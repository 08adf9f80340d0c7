"""How far an event has brought its call: which state comes when, and which of two states of one event is the later.

Three states cost nothing: the record of an event's facts says what comes next, that of its results that it is done.
Only a stage that lasts, and an event that ends badly, are told by themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc
from trunkline.common.v1 import provider_pb2
from trunkline.tenant.v1 import call_pb2, call_service_pb2, call_service_pb2_grpc
from trunkline_runtime.errors import from_rpc_error
from trunkline_runtime.rpc.channels import Channels, unconfined

from trunkline_gateway.providers.base import ANALYSE, FETCH, NORMALISE, RECORD, TRANSCRIBE, Facts

State: TypeAlias = call_pb2.CallState.ValueType
FIELDS = ("state", "state_reason", "state_sequence")
TellCall = Callable[[call_service_pb2.RecordCallStateRequest], Awaitable[None]]
_STATES_A_LEASE = 16
_TELL_SECONDS = 5.0
_REASON_MOST = 600
_OF_STAGE: dict[str, State] = {
    FETCH: call_pb2.CALL_STATE_FETCHING,
    TRANSCRIBE: call_pb2.CALL_STATE_TRANSCRIBING,
    ANALYSE: call_pb2.CALL_STATE_ANALYSING,
    RECORD: call_pb2.CALL_STATE_ANALYSING,
}


def of_stage(stage: str) -> State:
    """Return the state of a call that is at a stage."""
    return _OF_STAGE[stage]


def sequence(lease_token: int, state: State) -> int:
    """Return what tells the later of two states of one event: a job's leases have growing tokens."""
    return lease_token * _STATES_A_LEASE + state


def first_state(facts: Facts, stage: str) -> State:
    """Return the state that an event's facts leave its call in, `stage` being where its job goes on."""
    if facts.stages and stage != NORMALISE and ANALYSE in facts.stages:
        return _OF_STAGE.get(stage, call_pb2.CALL_STATE_ANALYSING)
    if FETCH in facts.stages:
        return call_pb2.CALL_STATE_FETCHING
    if ANALYSE in facts.stages:
        return call_pb2.CALL_STATE_ANALYSING
    if facts.call.kind not in (
        provider_pb2.CONVERSATION_KIND_UNSPECIFIED,
        provider_pb2.CONVERSATION_KIND_CALL,
    ):
        return call_pb2.CALL_STATE_DONE
    return call_pb2.CALL_STATE_NO_RECORDING if _is_over(facts) else call_pb2.CALL_STATE_RECEIVED


def is_processed(facts: Facts) -> bool:
    """Say whether an event has stages beyond its facts. The state of any other gives way to that of one that has."""
    return ANALYSE in facts.stages


def _is_over(facts: Facts) -> bool:
    """Say whether a telephone call has ended, as its provider tells."""
    match facts.call.provider:
        case provider_pb2.PROVIDER_CALLRAIL:
            return "duration" in facts.stated
        case provider_pb2.PROVIDER_TWILIO:
            missed = "answered" in facts.stated and not facts.call.answered
            return missed or "duration" in facts.stated
        case _:  # a sender of one webhook a call
            return True


def told_state(
    call: str, event: str, state: State, lease_token: int, reason: str = ""
) -> call_service_pb2.RecordCallStateRequest:
    """Return the request that says a state by itself."""
    return call_service_pb2.RecordCallStateRequest(
        name=call,
        event=event,
        state=state,
        state_reason=reason[:_REASON_MOST],
        state_sequence=sequence(lease_token, state),
    )


def cancelled_state(call: str, event: str, lease_token: int) -> call_service_pb2.RecordCallStateRequest:
    """Return the request that says that an event was cancelled whose last lease had that token."""
    reason = "CANCELLED: a user cancelled the event"
    return told_state(call, event, call_pb2.CALL_STATE_FAILED, lease_token, reason)


def telling(channels: Channels, tenant_address: str) -> TellCall:
    """Return what tells the tenant service, as the gateway's own identity. It raises TrunklineError."""
    stub = call_service_pb2_grpc.CallServiceStub(channels.get(tenant_address))

    async def tell(request: call_service_pb2.RecordCallStateRequest) -> None:
        try:
            with unconfined():
                await stub.RecordCallState(request, timeout=_TELL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    return tell
