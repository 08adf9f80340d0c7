"""Reading events: one event's whole story, lists of events, dead letters and rejected requests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
import sqlalchemy as sa
from trunkline.gateway.v1 import event_pb2, event_service_pb2_grpc
from trunkline.gateway.v1 import event_service_pb2 as pb
from trunkline_runtime.api import paging
from trunkline_runtime.api.resources import parse as parse_name
from trunkline_runtime.errors import NotFound
from trunkline_store import Database
from trunkline_store.declare import by_index
from trunkline_store.records.keyset import Page

from trunkline_gateway.events.receipts import receipt_message, receipts_page, told_message
from trunkline_gateway.events.replays import replay_message
from trunkline_gateway.events.rows import (
    dead_letter_conditions,
    event_conditions,
    event_message,
    listed,
    one_rejection,
    receipt_counts,
    rejection_conditions,
    rejection_message,
    shown_rejections,
    story,
    warnings_of,
    weighed_rejections,
    weight_of,
)
from trunkline_gateway.schema import events, jobs, rejections, replays

# A page of rejections ends when it holds so many bytes, whatever was asked for: far below what a message may have.
_PAGE_BYTES = 4 << 20

_Context = grpc.aio.ServicerContext[Any, Any]


class EventReader(event_service_pb2_grpc.EventServiceServicer):
    """The part of EventService that only looks; service.py adds what changes something."""

    def __init__(self, db: Database, list_staleness: timedelta | None = None):
        """`list_staleness` is how old what lists of events show may be, where the engine can save by that."""
        self._db = db
        self._list_staleness = list_staleness

    async def GetEvent(self, request: pb.GetEventRequest, context: _Context) -> event_pb2.Event:
        """Show one event with its receipts and attempts."""
        ids = parse_name("tenants/{tenant}/events/{event}", request.name)
        full = request.view == pb.EVENT_VIEW_FULL
        event = await self._db.read(lambda conn: story(conn, ids["tenant"], ids["event"], full))
        if event is None:
            raise NotFound(request.name)
        return event

    async def ListEvents(self, request: pb.ListEventsRequest, context: _Context) -> pb.ListEventsResponse:
        """List a tenant's events, the latest received first unless asked for in another order."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        query = listed(tenant, event_conditions(request.filter, tenant))
        field, _, direction = request.order_by.partition(" ")
        descending = not field or direction == "desc"
        if field == "update_time":
            key = (events.c.updated_at, events.c.event_id)
            query = query.where(events.c.updated_at.is_not(None))
        else:
            key = (events.c.received_at, events.c.event_id)
        place = paging.place_of(request, request.parent, request.filter, field, direction)
        page = Page(query, key, place, descending)
        shown, token = await self._shown(tenant, page)
        return pb.ListEventsResponse(events=shown, next_page_token=token)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: _Context
    ) -> pb.ListDeadLettersResponse:
        """List a tenant's dead letters, the latest buried first."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        query = listed(tenant, dead_letter_conditions(request.filter, tenant), jobs.c.buried_at)
        # By the job's tenant, as the index of dead letters is.
        query = query.where(jobs.c.tenant_id == tenant, jobs.c.buried_at.is_not(None))
        query = by_index(query, jobs, "jobs_dead")
        place = paging.place_of(request, "dead", request.parent, request.filter)
        page = Page(query, (jobs.c.buried_at, events.c.event_id), place, descending=True)
        shown, token = await self._shown(tenant, page)
        return pb.ListDeadLettersResponse(events=shown, next_page_token=token)

    async def ListRejections(
        self, request: pb.ListRejectionsRequest, context: _Context
    ) -> pb.ListRejectionsResponse:
        """List a tenant's rejected requests, the latest first; a page ends early when it grows large."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        key = (rejections.c.received_at, rejections.c.rejection_id)
        query = weighed_rejections(tenant, self._db.clock.now()).where(*rejection_conditions(request.filter))
        page = Page(query, key, paging.place_of(request, request.parent, request.filter), descending=True)
        rows, token = await self._db.scan(page.fetch)
        fitting = _fitting([weight_of(row) for row in rows])
        if fitting < len(rows):
            rows = rows[:fitting]
            token = page.token_behind(rows[-1])
        shown = shown_rejections(tenant, [row.rejection_id for row in rows])

        def read(conn: sa.Connection) -> list[event_pb2.Rejection]:
            found = conn.execute(shown).all()
            found = sorted(found, key=lambda row: (row.received_at, row.rejection_id), reverse=True)
            return [rejection_message(row) for row in found]

        return pb.ListRejectionsResponse(rejections=await self._db.read(read), next_page_token=token)

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: _Context) -> event_pb2.Receipt:
        """Show one receipt and what became of it."""
        ids = parse_name("tenants/{tenant}/receipts/{receipt}", request.name)
        receipt = await self._db.read(lambda conn: receipt_message(conn, ids["tenant"], ids["receipt"]))
        if receipt is None:
            raise NotFound(request.name)
        return receipt

    async def ListReceipts(
        self, request: pb.ListReceiptsRequest, context: _Context
    ) -> pb.ListReceiptsResponse:
        """List the receipts of one event, or of a source's events, the latest first."""
        of_source = "/sources/" in request.parent
        ids = parse_name(
            "tenants/{tenant}/sources/{id}" if of_source else "tenants/{tenant}/events/{id}",
            request.parent,
            field="parent",
        )
        place = paging.place_of(request, "receipts", request.parent)
        page = receipts_page(ids["tenant"], ids["id"], place, of_source=of_source)
        read = page.made(lambda row: told_message(row, ids["tenant"]))
        shown, token = await self._db.scan(read, staleness=self._list_staleness if of_source else None)
        if not shown and not of_source:
            await self.GetEvent(pb.GetEventRequest(name=request.parent), context)  # raises NotFound
        return pb.ListReceiptsResponse(receipts=shown, next_page_token=token)

    async def GetRejection(self, request: pb.GetRejectionRequest, context: _Context) -> event_pb2.Rejection:
        """Show one rejected request."""
        ids = parse_name("tenants/{tenant}/rejections/{rejection}", request.name)
        query = one_rejection(ids["tenant"], ids["rejection"], self._db.clock.now())
        row = await self._db.read(lambda conn: conn.execute(query).first())
        if row is None:
            raise NotFound(request.name)
        return rejection_message(row)

    async def ListReplays(self, request: pb.ListReplaysRequest, context: _Context) -> pb.ListReplaysResponse:
        """List a tenant's replays, the latest asked for first."""
        tenant = parse_name("tenants/{tenant}", request.parent)["tenant"]
        query = sa.select(replays).where(replays.c.tenant_id == tenant)
        place = paging.place_of(request, "replays", request.parent)
        page = Page(query, (replays.c.created_at, replays.c.replay_id), place, descending=True)
        rows, token = await self._db.scan(page.fetch)
        return pb.ListReplaysResponse(replays=map(replay_message, rows), next_page_token=token)

    async def _shown(self, tenant: str, page: Page) -> tuple[list[event_pb2.Event], str]:
        """Return a page's events with how many receipts and which warnings each has, and the next page's token.

        The reader's thread makes the messages, as in `Page.made`.
        """

        def read(conn: sa.Connection) -> tuple[list[event_pb2.Event], str]:
            rows, token = page.fetch(conn)
            ids = [row.event_id for row in rows]
            counts, warnings = receipt_counts(conn, tenant, ids), warnings_of(conn, tenant, ids)
            shown = [(row, counts.get(row.event_id, 0), warnings.get(row.event_id, ())) for row in rows]
            return [event_message(*event) for event in shown], token

        return await self._db.scan(read, staleness=self._list_staleness)


def _fitting(weights: Sequence[int]) -> int:
    """Return how many of these fit on a page, the first always."""
    total = 0
    for place, weight in enumerate(weights):
        total += weight
        if total > _PAGE_BYTES and place:
            return place
    return len(weights)
