"""EventService whole: reading events, and what an operator does with them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import sqlalchemy as sa
from google.protobuf import empty_pb2
from trunkline.gateway.v1 import event_pb2, replay_pb2
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline.tenant.v1 import call_service_pb2, tenant_pb2
from trunkline_jobs import Queue
from trunkline_runtime.api.resources import parse as parse_name
from trunkline_runtime.errors import InvalidArgument, NotFound
from trunkline_store import Database

from trunkline_gateway.events.acceptance import Acceptance
from trunkline_gateway.events.deletion import count_purge, purge
from trunkline_gateway.events.progress import TellCall, cancelled_state
from trunkline_gateway.events.reader import EventReader
from trunkline_gateway.events.replays import (
    DEFAULT_RATE,
    REPLAYED,
    Replays,
    Wanted,
    cancel_event,
    replay_event,
)
from trunkline_gateway.events.rows import event_conditions, joined, story
from trunkline_gateway.schema import events, jobs, rejections

_Context = grpc.aio.ServicerContext[Any, Any]


async def _nobody(request: call_service_pb2.RecordCallStateRequest) -> None:
    """Tell nobody."""


class EventService(EventReader):
    """The servicer."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        replays: Replays,
        acceptance: Acceptance,
        jobs_ready: Callable[[], None],
        list_staleness: timedelta | None = None,
        quotas_of: Callable[[str], tenant_pb2.Quotas] = lambda tenant: tenant_pb2.Quotas(),
        tell_call: TellCall | None = None,
    ):
        """`jobs_ready` is called after an event was set going; `list_staleness` is EventReader's.

        `quotas_of` tells what a tenant may use; 0 is no bound. `tell_call` tells the tenant service how far a call
        has come; None: nobody is told.
        """
        super().__init__(db, list_staleness)
        self._queue = queue
        self._replays = replays
        self._acceptance = acceptance
        self._jobs_ready = jobs_ready
        self._quotas_of = quotas_of
        self._tell_call = tell_call or _nobody

    async def ReplayEvent(self, request: pb.ReplayEventRequest, context: _Context) -> event_pb2.Event:
        """Process one event again."""
        ids = parse_name("tenants/{tenant}/events/{event}", request.name)
        tenant, event_id = ids["tenant"], ids["event"]
        generation = request.generation if request.HasField("generation") else None
        _check_fetch(request)
        replayed = await self._db.write(
            lambda conn: replay_event(
                conn,
                self._queue,
                tenant,
                event_id,
                force=request.force,
                generation=generation,
                fetch_again=request.fetch_again,
            )
        )
        if replayed:
            REPLAYED.labels("yes" if request.force else "no").inc()
            self._jobs_ready()
        event = await self._db.read(lambda conn: story(conn, tenant, event_id, full=False))
        if event is None:
            raise NotFound(request.name)
        return event

    async def ReplayEvents(self, request: pb.ReplayEventsRequest, context: _Context) -> replay_pb2.Replay:
        """Process many events again, or say which they would be."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        event_conditions(request.filter, tenant)  # a filter that is none is refused before anything is kept
        _check_fetch(request)
        rate = request.rate_per_second or DEFAULT_RATE
        wanted = Wanted(tenant, request.filter, request.force, rate, request.request_id, request.fetch_again)
        if request.dry_run:
            return await self._replays.count(wanted)
        return await self._replays.start(wanted, self._quotas_of(tenant).replays)

    async def GetReplay(self, request: pb.GetReplayRequest, context: _Context) -> replay_pb2.Replay:
        """Show how far a replay has come."""
        ids = parse_name("tenants/{tenant}/replays/{replay}", request.name)
        return await self._replays.get(ids["tenant"], ids["replay"])

    async def CancelEvent(self, request: pb.CancelEventRequest, context: _Context) -> event_pb2.Event:
        """Stop an event that waits; then its call is told, by a repeated request where that failed."""
        ids = parse_name("tenants/{tenant}/events/{event}", request.name)
        tenant, event_id = ids["tenant"], ids["event"]
        await self._db.write(lambda conn: cancel_event(conn, self._queue, tenant, event_id))
        mine = (events.c.tenant_id == tenant) & (events.c.event_id == event_id)
        leases = sa.select(jobs.c.lease_token).select_from(joined()).where(mine)
        last = await self._db.read(lambda conn: conn.execute(leases).scalar())
        event = await self._db.read(lambda conn: story(conn, tenant, event_id, full=False))
        if last is None or event is None:
            raise NotFound(request.name)
        call = event.call or event.checkpoint.get("record") or event.checkpoint.get("normalise") or ""
        if call and event.state == event_pb2.EVENT_STATE_CANCELLED:
            await self._tell_call(cancelled_state(call, request.name, last))
        return event

    async def DeleteRejection(self, request: pb.DeleteRejectionRequest, context: _Context) -> empty_pb2.Empty:
        """Delete one rejected request."""
        ids = parse_name("tenants/{tenant}/rejections/{rejection}", request.name)
        mine = (
            rejections.c.tenant_id == ids["tenant"],
            rejections.c.rejection_id == ids["rejection"],
        )
        gone = await self._db.write(lambda conn: conn.execute(rejections.delete().where(*mine)).rowcount)
        if not gone:
            raise NotFound(request.name)
        return empty_pb2.Empty()

    async def AcceptRejection(
        self, request: pb.AcceptRejectionRequest, context: _Context
    ) -> pb.AcceptRejectionResponse:
        """Make a receipt of a rejected request that verifies now."""
        ids = parse_name("tenants/{tenant}/rejections/{rejection}", request.name)
        receipt_id = await self._acceptance.accept(ids["tenant"], ids["rejection"])
        return pb.AcceptRejectionResponse(receipt_id=receipt_id)

    async def AcceptRejections(
        self, request: pb.AcceptRejectionsRequest, context: _Context
    ) -> pb.AcceptRejectionsResponse:
        """Make receipts of all that verify now."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        accepted, rejected = await self._acceptance.accept_all(tenant, request.filter, request.dry_run)
        return pb.AcceptRejectionsResponse(accepted_count=accepted, rejected_count=rejected)

    async def PurgeEvents(self, request: pb.PurgeEventsRequest, context: _Context) -> pb.PurgeEventsResponse:
        """Delete ended events, or say which they would be."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        purged = await (purge if request.force else count_purge)(self._db, tenant, request.filter)
        return pb.PurgeEventsResponse(purge_count=purged.total, purge_sample=purged.sample, more=purged.more)


def _check_fetch(request: pb.ReplayEventRequest | pb.ReplayEventsRequest) -> None:
    """Raise InvalidArgument for a recording to be fetched again where nothing is done again."""
    if request.fetch_again and not request.force:
        raise InvalidArgument("fetch_again", "needs force: what is done is done again with the other bytes")
