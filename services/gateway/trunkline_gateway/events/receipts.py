"""Receipts as they are shown: what became of one delivery, found by the id that its 202 said.

A receipt of another tenant is not found, nor one of a source that nobody could be asked for yet.
"""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from trunkline.gateway.v1 import event_pb2
from trunkline_store.declare import derived_key
from trunkline_store.records.keyset import Page, Place
from trunkline_store.types import on_spanner

from trunkline_gateway.intake.backlog import ADMISSION
from trunkline_gateway.schema import (
    cursors,
    event_receipts,
    eventless_receipts,
    events,
    links_of,
    receipts,
    undecided_receipts,
)

# On SQLite no index knows what admission has not looked at: so many of those are looked through.
_LOOKED_THROUGH = 10_000
# Neither headers nor the path with its query, which may hold a credential.
_SHOWN = (
    receipts.c.receipt_id, receipts.c.source_id, receipts.c.event_type, receipts.c.received_at, receipts.c.verdict,
    receipts.c.content_type,
)  # fmt: skip
_SIZE = sa.func.length(receipts.c.body).label("size")
SET_ASIDE = (eventless_receipts.c.size_bytes > 0) & (
    sa.func.length(receipts.c.body) == eventless_receipts.c.size_bytes
)
"""Of a receipt that is no event and has its body still: it could not be written. That of another is its rejection's."""


def receipt_message(conn: sa.Connection, tenant: str, receipt_id: str) -> event_pb2.Receipt | None:
    """Return one receipt of a tenant, None when it is not there."""
    links, eventless = event_receipts, eventless_receipts
    told = told_receipts(tenant).where(links.c.receipt_id == receipt_id).limit(1)
    refused = (
        sa.select(
            *_SHOWN,
            # The rejection has the body.
            sa.func.coalesce(eventless.c.size_bytes, sa.func.length(receipts.c.body)).label("size"),
            sa.literal("").label("event_id"),
        )
        .select_from(eventless.join(receipts, receipts.c.seq == eventless.c.seq))
        .where(eventless.c.tenant_id == tenant, eventless.c.receipt_id == receipt_id)
        .limit(1)
    )
    for query, state in (
        (told, event_pb2.RECEIPT_STATE_EVENT),
        (refused.where(SET_ASIDE), event_pb2.RECEIPT_STATE_SET_ASIDE),
        (refused, event_pb2.RECEIPT_STATE_REJECTED),
        *((waiting, event_pb2.RECEIPT_STATE_WAITING) for waiting in _waiting(conn, tenant, receipt_id)),
    ):
        row = conn.execute(query).first()
        if row is not None:
            return _message(row, tenant, state)
    return None


def receipts_page(tenant: str, parent_id: str, place: Place, *, of_source: bool) -> Page:
    """Return the page of an event's receipts, the latest first, or of those of a source's events.

    A source's go by their events, the latest event first: the receipts themselves bear no index.
    """
    if not of_source:
        key = (receipts.c.received_at, receipts.c.receipt_id)
        return Page(told_receipts(tenant).where(links_of(tenant, [parent_id])), key, place, descending=True)
    first = cast("sa.Column[Any]", events.c.received_at.label("first_received_at"))
    of_event = (events.c.tenant_id == event_receipts.c.tenant_id) & (
        events.c.event_id == event_receipts.c.event_id
    )
    query = told_receipts(tenant).add_columns(first).join(events, of_event)
    # By the event's tenant, as the index of events by time is.
    query = query.where(events.c.tenant_id == tenant, events.c.source_id == parent_id)
    return Page(query, (first, receipts.c.receipt_id), place, descending=True)


def told_message(row: sa.Row[Any], tenant: str) -> event_pb2.Receipt:
    """Return a row of `told_receipts` as a message."""
    return _message(row, tenant, event_pb2.RECEIPT_STATE_EVENT)


def told_receipts(tenant: str) -> sa.Select[Any]:
    """Return the query of a tenant's receipts that told of an event."""
    links = event_receipts
    # Of one that repeats another's body only its size is kept.
    size = sa.func.coalesce(links.c.repeated_bytes, sa.func.length(receipts.c.body)).label("size")
    query = sa.select(*_SHOWN, size, links.c.event_id)
    query = query.select_from(links.join(receipts, receipts.c.seq == links.c.seq))
    return query.where(links.c.tenant_id == tenant)


def _waiting(conn: sa.Connection, tenant: str, receipt_id: str) -> list[sa.Select[Any]]:
    """Return the questions for a receipt that was not looked at, or could not be judged."""
    shown = sa.select(*_SHOWN, _SIZE, sa.literal("").label("event_id"))
    mine = (receipts.c.receipt_id == receipt_id, receipts.c.tenant_id == tenant)
    if on_spanner(conn.dialect):
        return [shown.where(receipts.c.seq == derived_key(receipt_id), *mine)]
    stands = sa.select(sa.func.coalesce(sa.func.max(cursors.c.seq), 0)).where(cursors.c.name == ADMISSION)
    first = stands.scalar_subquery()
    behind = shown.where(receipts.c.seq > first, receipts.c.seq <= first + _LOOKED_THROUGH, *mine)
    undecided = receipts.join(undecided_receipts, undecided_receipts.c.seq == receipts.c.seq)
    return [behind, shown.select_from(undecided).where(*mine)]


def _message(row: sa.Row[Any], tenant: str, state: event_pb2.ReceiptState.ValueType) -> event_pb2.Receipt:
    return event_pb2.Receipt(
        name=f"tenants/{tenant}/receipts/{row.receipt_id}",
        receipt_id=row.receipt_id,
        source=f"tenants/{tenant}/sources/{row.source_id}",
        event_type=row.event_type,
        receive_time=row.received_at,
        size_bytes=row.size,
        verdict=row.verdict,
        content_type=row.content_type,
        state=state,
        event=f"tenants/{tenant}/events/{row.event_id}" if row.event_id else "",
    )
