"""The receipts that tell of an event: the one that its `first_seq` names, and the others by an index of their own.

On SQLite a receipt's link lies beside those that came before it, so that one that tells of a new event changes no page
in the order of a digest. Only links that are not the first of their event are listed by event there. On Spanner the
key of the links begins with the event, and finds all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from trunkline_gateway.schema import NOT_FIRST, event_receipts, events


def of_events(tenant: str, event_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a link is of one of these events."""
    mine = (event_receipts.c.tenant_id == tenant) & event_receipts.c.event_id.in_(event_ids)
    firsts = sa.select(events.c.first_seq)
    firsts = firsts.where(events.c.tenant_id == tenant, events.c.event_id.in_(event_ids))
    return _found(mine, event_receipts.c.seq.in_(firsts))


def of_event_beside() -> sa.ColumnElement[bool]:
    """Return the condition that a link is of the event whose row it is joined to."""
    mine = (event_receipts.c.tenant_id == events.c.tenant_id) & (
        event_receipts.c.event_id == events.c.event_id
    )
    return _found(mine, event_receipts.c.seq == events.c.first_seq)


def _found(mine: sa.ColumnElement[bool], first: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Say it in both ways: for Spanner as one range of the key, for SQLite as two looks into indexes."""
    return mine & ((mine & NOT_FIRST) | (mine & first))
