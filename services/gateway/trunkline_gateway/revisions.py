"""Changes of a call: the same change that comes again after another one is a new event, and not a redelivery.

A note that is edited from "a" to "b" and back is told of three times, the first and the last time in the same words.
What was told last decides: the same words right after each other are one event, with another change between them two.
Told last is what happened last, and of equal times what was received last: so words of an earlier time that come again
after a later change are a redelivery, however late it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from trunkline_gateway import ids
from trunkline_gateway.decide import Decision
from trunkline_gateway.schema import events

_NO_TIME = datetime.min.replace(tzinfo=UTC)


class _Change(NamedTuple):
    event_id: str
    content: str
    event_time: datetime | None

    def is_before(self, other: _Change) -> bool:
        """Say whether this happened before the other one; what has no time happened before all that has one."""
        return (self.event_time or _NO_TIME) < (other.event_time or _NO_TIME)


_Key = tuple[str, str]  # the tenant, and what is changed


def told_apart(conn: sa.Connection, decisions: list[Decision]) -> list[Decision]:
    """Give those decisions an id of their own that repeat a change after another one; the others stay."""
    changes = [d.event for d in decisions if d.event and d.event["revises"]]
    if not changes:
        return decisions
    seen = _known(conn, changes)
    if not seen and len({change["event_id"] for change in changes}) == len(changes):
        return decisions  # every one is new: the usual case
    latest: dict[_Key, _Change | None] = {}
    return [_placed(conn, d, seen, latest) if d.event and d.event["revises"] else d for d in decisions]


def _placed(
    conn: sa.Connection, decision: Decision, seen: set[str], latest: dict[_Key, _Change | None]
) -> Decision:
    event = decision.event
    assert event is not None
    key = (event["tenant_id"], event["revises"])
    if key not in latest:
        latest[key] = _latest(conn, key)
    last, told = latest[key], _Change(event["event_id"], event["content"], event["event_time"])
    if last is None:
        latest[key] = told
    elif last.content == told.content:
        told = last
    elif not told.is_before(last):
        if told.event_id in seen:
            again = ids.event_id(decision.source_id, event["event_type"], (told.event_id, str(decision.seq)))
            told = told._replace(event_id=again)
        latest[key] = told
    seen.add(told.event_id)
    if told.event_id == event["event_id"] or decision.job is None:
        return decision
    job = replace(decision.job, job_id=told.event_id, subject=told.event_id)
    return replace(decision, event={**event, "event_id": told.event_id}, job=job)


def _known(conn: sa.Connection, changes: Sequence[dict[str, Any]]) -> set[str]:
    """Return the ids of those events that are there."""
    query = sa.select(events.c.event_id).where(
        events.c.tenant_id.in_({change["tenant_id"] for change in changes}),
        events.c.event_id.in_({change["event_id"] for change in changes}),
    )
    return set(conn.execute(query).scalars())


def _latest(conn: sa.Connection, key: _Key) -> _Change | None:
    """Return the change that was told last."""
    query = (
        sa.select(events.c.event_id, events.c.content, events.c.event_time)
        .where(events.c.tenant_id == key[0], events.c.revises == key[1])
        .order_by(events.c.event_time.desc(), events.c.received_at.desc(), events.c.first_seq.desc())
        .limit(1)
    )
    row = conn.execute(query).one_or_none()
    return _Change(*row) if row else None
