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
    """Return the condition that a link is of one of these events.

    The numbers are looked up before the links, not beside them: SQLite takes an OR for a reason to read all links of
    the tenant.
    """
    links = event_receipts.c
    others = sa.select(links.seq).where(links.tenant_id == tenant, links.event_id.in_(event_ids), NOT_FIRST)
    firsts = sa.select(events.c.first_seq)
    firsts = firsts.where(events.c.tenant_id == tenant, events.c.event_id.in_(event_ids))
    numbers = sa.union_all(others.correlate(None), firsts.correlate(None))
    return sa.and_(links.tenant_id == tenant, links.event_id.in_(event_ids), links.seq.in_(numbers))
