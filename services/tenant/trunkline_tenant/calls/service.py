"""CallService: records what events say about calls, shows and lists calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.common.v1 import labels_pb2, provider_pb2
from trunkline.tenant.v1 import call_pb2, call_service_pb2, call_service_pb2_grpc
from trunkline_runtime.api import paging, resources
from trunkline_runtime.api.columns import Filter, by_enum, by_id, conditions
from trunkline_runtime.api.filters import FieldType, Value
from trunkline_runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from trunkline_store import Database
from trunkline_store.records.keyset import Page

from trunkline_tenant.calls import call_events, erasure, facts, record
from trunkline_tenant.calls import rows as call_rows
from trunkline_tenant.leads import phone_numbers
from trunkline_tenant.schema import call_aliases, calls

_MOST_ID = 256
_COLUMNS = [calls.c[name] for name in call_rows.SHOWN]
_NUMBERS = ("caller_number", "tracking_number", "business_number")
# Names of other resources that an event may state: of the same tenant, like the call.
_NAMES = ("source", "recording", "transcript", "analysis")


def _number(value: Value) -> str:
    return phone_numbers.read(str(value)).text


FILTERS = {
    "spam": Filter(FieldType.BOOLEAN, calls.c.spam),
    "sentiment": by_enum("sentiment", calls.c.sentiment, labels_pb2.Sentiment, "SENTIMENT_"),
    "intent": by_enum("intent", calls.c.intent, labels_pb2.Intent, "INTENT_"),
    "lead_level": by_enum("lead_level", calls.c.lead_level, labels_pb2.LeadLevel, "LEAD_LEVEL_"),
    "lead_score": Filter(FieldType.INTEGER, calls.c.lead_score),
    "outcome": by_enum("outcome", calls.c.outcome, labels_pb2.CallOutcome, "CALL_OUTCOME_"),
    "kind": by_enum("kind", calls.c.kind, provider_pb2.ConversationKind, "CONVERSATION_KIND_"),
    "provider": by_enum("provider", calls.c.provider, provider_pb2.Provider, "PROVIDER_"),
    "source": by_id(calls.c.source_id),
    "caller_number": Filter(FieldType.STRING, calls.c.caller_number, _number),
    "start_time": Filter(FieldType.TIMESTAMP, calls.c.start_time),
    "state": by_enum("state", calls.c.state, call_pb2.CallState, "CALL_STATE_"),
    "update_time": Filter(FieldType.TIMESTAMP, calls.c.update_time),
}


class CallService(call_service_pb2_grpc.CallServiceServicer):
    """trunkline.tenant.v1.CallService. `staleness` is how old a list may be; what is asked by name is the latest."""

    def __init__(self, db: Database, staleness: timedelta | None = None) -> None:
        self._db = db
        self._staleness = staleness

    async def RecordCall(self, request: call_service_pb2.RecordCallRequest, context: object) -> call_pb2.Call:
        """Merge what one event says about a call."""
        said = said_by(request)
        row = await self._db.write(lambda conn: record.record(conn, said, self._db.clock.now()))
        if row is None:
            raise FailedPrecondition("the call was deleted on request", reason="CALL_ERASED")
        return call_rows.shown(row)

    async def RecordCallState(
        self, request: call_service_pb2.RecordCallStateRequest, context: object
    ) -> call_service_pb2.RecordCallStateResponse:
        """Say how far an event has brought its call."""
        name = resources.parse("tenants/{tenant}/calls/{call}", request.name)
        event = resources.parse("tenants/{tenant}/events/{event}", request.event, field="event")["event"]
        state = call_pb2.Call(
            state=request.state, state_reason=request.state_reason, state_sequence=request.state_sequence
        )
        recorded = await self._db.write(
            lambda conn: record.record_state(
                conn, name["tenant"], name["call"], event, state, self._db.clock.now()
            )
        )
        return call_service_pb2.RecordCallStateResponse(recorded=recorded)

    async def ForgetRecording(
        self, request: call_service_pb2.ForgetRecordingRequest, context: object
    ) -> call_service_pb2.ForgetRecordingResponse:
        """Take a deleted recording out of its call."""
        name = resources.parse("tenants/{tenant}/calls/{call}", request.name)
        now = self._db.clock.now()
        forgotten = await self._db.write(
            lambda conn: record.forget_recording(
                conn,
                name["tenant"],
                name["call"],
                request.recording,
                now,
                transcript_stays=request.transcript_stays,
            )
        )
        return call_service_pb2.ForgetRecordingResponse(forgotten=forgotten)

    async def ForgetTranscript(
        self, request: call_service_pb2.ForgetTranscriptRequest, context: object
    ) -> call_service_pb2.ForgetTranscriptResponse:
        """Take a deleted transcript out of its call."""
        name = resources.parse("tenants/{tenant}/calls/{call}", request.name)
        now = self._db.clock.now()
        forgotten = await self._db.write(
            lambda conn: record.forget_transcript(conn, name["tenant"], name["call"], request.transcript, now)
        )
        return call_service_pb2.ForgetTranscriptResponse(forgotten=forgotten)

    async def EraseCall(
        self, request: call_service_pb2.EraseCallRequest, context: object
    ) -> call_service_pb2.EraseCallResponse:
        """Delete a call, and leave its tombstone."""
        name = resources.parse("tenants/{tenant}/calls/{call}", request.name)
        now = self._db.clock.now()
        names, erased = await self._db.write(
            lambda conn: erasure.erase(conn, name["tenant"], name["call"], now)
        )
        parent = f"tenants/{name['tenant']}"
        return call_service_pb2.EraseCallResponse(
            calls=[f"{parent}/calls/{call}" for call in names], erased=erased
        )

    async def GetCall(self, request: call_service_pb2.GetCallRequest, context: object) -> call_pb2.Call:
        """Show a call, also by a name that it had before it was merged."""
        name = resources.parse("tenants/{tenant}/calls/{call}", request.name)
        return await self._db.read(lambda conn: _get(conn, name["tenant"], name["call"]))

    async def ListCalls(
        self, request: call_service_pb2.ListCallsRequest, context: object
    ) -> call_service_pb2.ListCallsResponse:
        """List a tenant's calls by the time they began."""
        read = page_of(request).made(lambda row: call_rows.shown(row._mapping))
        shown, token = await self._db.scan(read, staleness=self._staleness)
        return call_service_pb2.ListCallsResponse(calls=shown, next_page_token=token)


def page_of(request: call_service_pb2.ListCallsRequest) -> Page:
    """Return the page that a request asks for. Raises InvalidArgument("filter")."""
    tenant = resources.tenant_of(request.parent, field="parent")
    where = conditions(request.filter, FILTERS)
    field, _, direction = request.order_by.partition(" ")
    by = calls.c.update_time if field == "update_time" else calls.c.start_time
    shown = [*_COLUMNS, *(column for column in (by,) if column not in set(_COLUMNS))]
    return Page(
        select=sa.select(*shown).where(calls.c.tenant_id == tenant, *where),
        key=[by, calls.c.call_id],
        place=paging.place_of(request, "ListCalls", tenant, request.filter, request.order_by),
        descending=not field or direction == "desc",
    )


def said_by(request: call_service_pb2.RecordCallRequest) -> record.Said:
    """Return what a request says. Raises InvalidArgument that names every wrong field."""
    tenant = resources.tenant_of(request.parent, field="parent")
    call = request.call
    problems: list[tuple[str, str]] = []
    if not call.provider:
        problems.append(("call.provider", "is required: it is part of the call's identity"))
    if not 1 <= len(call.provider_call_id) <= _MOST_ID:
        problems.append(("call.provider_call_id", f"must have 1 to {_MOST_ID} characters"))
    if len(call.provider_account) > 128:
        problems.append(("call.provider_account", "must have at most 128 characters"))
    for field in _NAMES:
        name = getattr(call, field)
        if name and resources.tenant_of(name, field=f"call.{field}") != tenant:
            problems.append((f"call.{field}", f"must belong to {request.parent}"))
    for name in (call.provider_call_id, call.provider_account, *request.aliases):
        if "\0" in name:
            problems.append(("call.provider_call_id", "ids must not contain NUL"))
    if not 0 <= call.lead_score <= 100:
        problems.append(("call.lead_score", "must be 0 to 100"))
    if problems:
        raise InvalidArgument.many(problems)
    event = resources.parse("tenants/{tenant}/events/{event}", request.event, field="event")
    if event["tenant"] != tenant:
        raise InvalidArgument("event", f"must belong to {request.parent}")
    received = request.receive_time.ToMicroseconds() if request.HasField("receive_time") else 0
    stamp = facts.Stamp(request.event_time.ToMicroseconds(), request.rank, received, event["event"])
    call, mask = _with_plain_numbers(call, request.field_mask.paths, request.region)
    try:
        statement = facts.stated_by(call, mask, stamp)
    except facts.UnknownField as unknown:
        allowed = ", ".join(facts.STATABLE)
        raise InvalidArgument(
            "field_mask", f"{str(unknown)[:100]!r} cannot be stated; allowed: {allowed}"
        ) from None
    provider_ids = list(dict.fromkeys([call.provider_call_id, *request.aliases]))
    return record.Said(tenant, call.provider, call.provider_account, provider_ids, stamp, statement)


def _with_plain_numbers(
    call: call_pb2.Call, mask: Sequence[str], region: str
) -> tuple[call_pb2.Call, Sequence[str]]:
    """Return the call with its numbers in the form they are known by; who states the caller's states its extension."""
    plain = call_pb2.Call()
    plain.CopyFrom(call)
    for field in _NUMBERS:
        setattr(plain, field, phone_numbers.read(getattr(call, field), region).text)
    stated = not mask or "caller_number" in mask
    if not (stated and call.caller_number):
        return plain, mask
    plain.caller_extension = call.caller_extension or phone_numbers.read(call.caller_number, region).extension
    return plain, [*mask, "caller_extension"] if mask else mask


def _get(conn: Connection, tenant: str, call_id: str) -> call_pb2.Call:
    select = sa.select(*_COLUMNS).where(calls.c.tenant_id == tenant)
    row = conn.execute(select.where(calls.c.call_id == call_id)).mappings().first()
    if row is None:
        merged = sa.select(call_aliases.c.call_id).where(
            call_aliases.c.tenant_id == tenant, call_aliases.c.alias_id == call_id
        )
        now_called = conn.execute(merged).scalar()
        row = conn.execute(select.where(calls.c.call_id == now_called)).mappings().first()
    if row is None:
        raise NotFound(f"tenants/{tenant}/calls/{call_id}")
    return call_rows.shown(row, call_events.latest(conn, tenant, row["call_id"]))
