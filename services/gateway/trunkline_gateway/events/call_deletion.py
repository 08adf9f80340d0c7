"""Deleting a call, or all calls of a caller, everywhere: a task that has each service remove what is theirs.

The tenant service keeps a tombstone: it refuses to record the call again, and an event that meets the refusal is
deleted with the next sweep. A worker may have been in the middle of the call, so a task goes through it once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import sqlalchemy as sa
from trunkline.ai.v1 import admin_service_pb2_grpc as ai_grpc
from trunkline.audio.v1 import admin_service_pb2_grpc as audio_grpc
from trunkline.common.v1 import purge_pb2
from trunkline.tenant.v1 import (
    call_pb2,
    call_service_pb2,
    call_service_pb2_grpc,
    lead_service_pb2,
    lead_service_pb2_grpc,
)
from trunkline_jobs import Tasks
from trunkline_runtime.api.resources import parse
from trunkline_runtime.errors import NotFound, from_rpc_error
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.rpc.channels import Channels, unconfined
from trunkline_store import Database

from trunkline_gateway.events.deletion import EVENTS_A_STEP, delete_events
from trunkline_gateway.events.receipts import SET_ASIDE
from trunkline_gateway.events.retention import delete_eventless
from trunkline_gateway.schema import HAS_CALL, eventless_receipts, events, receipts

log = get_logger(__name__)

DELETE_CALL = "delete_call"
"""The kind of task that deletes one call."""
DELETE_CALLER = "delete_caller"
"""The kind of task that deletes the calls of a lead's number."""
ERASED = "CALL_ERASED"
"""The reason with which the tenant service refuses to record a call again."""
CALL = "tenants/{tenant}/calls/{call}"
LEAD = "tenants/{tenant}/leads/{lead}"
_CALL_SECONDS = 30.0
_AGAIN_SECONDS = 900.0  # longer than a worker takes for what it has begun
_LOOK_SECONDS = 5.0
_CALLS_A_PAGE = 200
SET_ASIDE_MOST = 10_000
"""Receipts of a tenant that an erasure looks through."""
_SET_ASIDE_A_STEP = 20  # bodies are up to a megabyte each
_IDS_MOST = 100
_ID_LEAST = 8
"""Characters of an id: a shorter one may be anything in a body."""


class CallDeletions:
    """Takes orders to delete, and carries them out as tasks."""

    def __init__(
        self,
        db: Database,
        tasks: Tasks,
        channels: Channels,
        *,
        tenant_address: str,
        audio_address: str,
        ai_address: str,
    ) -> None:
        """Nothing is connected before something is asked."""
        self._db = db
        self._tasks = tasks
        tenant = channels.get(tenant_address)
        self._calls = call_service_pb2_grpc.CallServiceStub(tenant)
        self._leads = lead_service_pb2_grpc.LeadServiceStub(tenant)
        self._audio = audio_grpc.AdminServiceStub(channels.get(audio_address))
        self._ai = ai_grpc.AdminServiceStub(channels.get(ai_address))

    async def order_call(self, name: str) -> None:
        """Have a call deleted; kept when it returns. Raises NotFound, and TrunklineError where nobody can be asked."""
        with unconfined():
            call = await _asked(self._calls.GetCall, call_service_pb2.GetCallRequest(name=name))
        ids = parse(CALL, call.name)
        await self._put(DELETE_CALL, ids["tenant"], [ids["call"]], hurry=True)

    async def order_caller(self, name: str) -> None:
        """Have all calls of a lead's number deleted; kept when it returns. Raises as `order_call`."""
        with unconfined():
            await _asked(self._leads.GetLead, lead_service_pb2.GetLeadRequest(name=name))
        ids = parse(LEAD, name)
        await self._put(DELETE_CALLER, ids["tenant"], [ids["lead"]], hurry=True)

    async def delete_call(self, tenant: str, call_id: str) -> float | None:
        """Remove a call everywhere; the seconds until it is looked at again, None when nothing was left of it.

        Transcripts whose recordings are gone are named by the call alone, so they go before it. Raises TrunklineError
        when a service could not be asked.
        """
        name = CALL.format(tenant=tenant, call=call_id)
        with unconfined():
            call = await self._call(name)
            removed = await self._purged(tenant, [name], call)
            names = await self._erased(name)
            removed += await self._purged(tenant, names, None)
        removed += await self._delete_events(tenant, names)
        log.info("call_deleted", call=name, removed=removed, found=call is not None)
        return _AGAIN_SECONDS if removed or call is not None else None

    async def delete_caller(self, tenant: str, lead_id: str) -> float | None:
        """Have each call of a lead's number deleted; None when the lead is gone. Raises as `delete_call`."""
        try:
            with unconfined():
                request = lead_service_pb2.GetLeadRequest(name=LEAD.format(tenant=tenant, lead=lead_id))
                lead = await _asked(self._leads.GetLead, request)
                calls = await self._calls_of(tenant, lead.phone_number)
        except NotFound:
            return None
        await self._put(DELETE_CALL, tenant, calls)
        return _LOOK_SECONDS

    async def _put(self, kind: str, tenant: str, subjects: Sequence[str], *, hurry: bool = False) -> None:
        if subjects:
            await self._db.write(
                lambda conn: self._tasks.put(conn, kind, *subjects, tenant=tenant, hurry=hurry)
            )
            self._tasks.soon()

    async def _call(self, name: str) -> call_pb2.Call | None:
        try:
            found: call_pb2.Call = await _asked(
                self._calls.GetCall, call_service_pb2.GetCallRequest(name=name)
            )
        except NotFound:
            return None
        return found

    async def _calls_of(self, tenant: str, number: str) -> list[str]:
        """Return the ids of all calls of a number."""
        request = call_service_pb2.ListCallsRequest(
            parent=f"tenants/{tenant}", page_size=_CALLS_A_PAGE, filter=f'caller_number = "{number}"'
        )
        found: list[str] = []
        while True:
            page = await _asked(self._calls.ListCalls, request)
            found += [parse(CALL, call.name)["call"] for call in page.calls]
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    async def _erased(self, name: str) -> Sequence[str]:
        """Have the call's tombstone made; all names that it has."""
        try:
            answer = await _asked(self._calls.EraseCall, call_service_pb2.EraseCallRequest(name=name))
        except NotFound:  # the tenant service was restored from before the call
            return [name]
        names: Sequence[str] = answer.calls
        return names

    async def _purged(self, tenant: str, names: Sequence[str], call: call_pb2.Call | None) -> int:
        """Have audio and ai remove their parts; how many."""
        request = purge_pb2.PurgeCallsRequest(parent=f"tenants/{tenant}", calls=names)
        if call is not None and call.transcript:
            request.transcripts.append(call.transcript)
        removed = 0
        for method in (self._audio.PurgeCalls, self._ai.PurgeCalls):
            while True:
                answer = await _asked(method, request)
                removed += answer.removed_count
                if not answer.more:
                    break
        return removed

    async def _delete_events(self, tenant: str, names: Sequence[str]) -> int:
        """Delete the events of a call, their jobs and receipts, whether they have ended or not; how many rows."""
        mine = (events.c.tenant_id == tenant) & events.c.call.in_(list(names)) & HAS_CALL
        query = sa.select(events.c.event_id).where(mine).limit(EVENTS_A_STEP)
        named = (
            sa.select(events.c.provider_call_id)
            .where(mine, events.c.provider_call_id.is_not(None))
            .distinct()
        )
        ids = await self._db.scan(lambda conn: conn.execute(named.limit(_IDS_MOST)).scalars().all())
        removed = await delete_set_aside(self._db, tenant, ids)
        while found := await self._db.scan(lambda conn: conn.execute(query).scalars().all()):
            step = await self._db.write(
                lambda conn: delete_events(conn, tenant, found, ended_only=False),
                background=True,
            )
            removed += step.events + step.receipts
        return removed


async def delete_set_aside(
    db: Database, tenant: str, provider_ids: Sequence[str], most: int = SET_ASIDE_MOST
) -> int:
    """Delete a tenant's receipts that could not be written as events and name a call by its provider's id; how many.

    Nothing but their bodies says which call they are about, so `most` of them are looked through.
    """
    wanted = [one.encode() for one in provider_ids if len(one) >= _ID_LEAST]
    c, after, looked, removed = eventless_receipts.c, "", 0, 0
    while wanted and looked < most:
        query = (
            sa.select(c.seq, c.receipt_id, receipts.c.url, receipts.c.body)
            .select_from(eventless_receipts.join(receipts, receipts.c.seq == c.seq))
            .where(c.tenant_id == tenant, c.receipt_id > after, SET_ASIDE)
            .order_by(c.receipt_id)
            .limit(_SET_ASIDE_A_STEP)
        )
        page = await db.scan(lambda conn: conn.execute(query).all())  # noqa: B023 - awaited right here
        if not page:
            return removed
        after, looked = page[-1].receipt_id, looked + len(page)
        theirs = [
            row.seq for row in page if any(one in row.body or one in row.url.encode() for one in wanted)
        ]
        if theirs:
            removed += await delete_eventless(db, c.seq.in_(theirs), most=len(theirs))
    if wanted:
        log.warning("set_aside_not_all_looked_through", tenant=tenant, looked_through=looked)
    return removed


async def _asked(method: Any, request: Any) -> Any:
    try:
        return await method(request, timeout=_CALL_SECONDS)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
