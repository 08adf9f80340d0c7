"""Changes of a call: the same change that comes again after another one is a new event, and not a redelivery.

A note that is edited from "a" to "b" and back is told of three times, the first and the last time in the same words.
What was told last decides: the same words right after each other are one event, with another change between them two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from trunkline_gateway import ids
from trunkline_gateway.decide import Decision
from trunkline_gateway.schema import events


class _Change(NamedTuple):
    event_id: str
    content: str
    at: datetime


_Key = tuple[str, str]  # the tenant, and what is changed


def told_apart(conn: sa.Connection, decisions: list[Decision]) -> list[Decision]:
    """Give those decisions an id of their own that repeat a change after another one; the others stay."""
    changes = [d.event for d in decisions if d.event and d.event["revises"]]
    if not changes:
        return decisions
    seen = _known(conn, changes)
    if not seen and len({change["event_id"] for change in changes}) == len(changes):
        return decisions  # every one is new: the usual case
    latest: dict[_Key, _Change] = {}
    return [_placed(conn, d, seen, latest) if d.event and d.event["revises"] else d for d in decisions]


def _placed(conn: sa.Connection, decision: Decision, seen: set[str], latest: dict[_Key, _Change]) -> Decision:
    event = decision.event
    assert event is not None
    key = (event["tenant_id"], event["revises"])
    # Of what was received before it: a change that waited, undecided, is told apart as if it had not.
    last = _latest(conn, key, event["received_at"])
    in_batch = latest.get(key)
    if in_batch is not None and (last is None or in_batch.at >= last.at):
        last = in_batch
    event_id: str = event["event_id"]
    if last is not None and last.content == event["content"]:
        event_id = last.event_id
    elif (after := _next(conn, key, event["received_at"])) and after.content == event["content"]:
        event_id = after.event_id  # its redelivery was decided before it
    elif last is not None and event_id in seen:
        event_id = ids.event_id(decision.source_id, event["event_type"], (event_id, str(decision.seq)))
    latest[key] = _Change(event_id, event["content"], event["received_at"])
    seen.add(event_id)
    if event_id == event["event_id"] or decision.job is None:
        return decision
    job = replace(decision.job, job_id=event_id, subject=event_id)
    return replace(decision, event={**event, "event_id": event_id}, job=job)


def _known(conn: sa.Connection, changes: Sequence[dict[str, Any]]) -> set[str]:
    """Return the ids of those events that are there."""
    query = sa.select(events.c.event_id).where(
        events.c.tenant_id.in_({change["tenant_id"] for change in changes}),
        events.c.event_id.in_({change["event_id"] for change in changes}),
    )
    return set(conn.execute(query).scalars())


def _latest(conn: sa.Connection, key: _Key, at: datetime) -> _Change | None:
    """Return the change that was received last until then."""
    query = (
        sa.select(events.c.event_id, events.c.content, events.c.received_at)
        .where(events.c.tenant_id == key[0], events.c.revises == key[1], events.c.received_at <= at)
        .order_by(events.c.received_at.desc(), events.c.event_id.desc())
        .limit(1)
    )
    row = conn.execute(query).one_or_none()
    return _Change(row.event_id, row.content, row.received_at) if row else None


def _next(conn: sa.Connection, key: _Key, at: datetime) -> _Change | None:
    """Return the change that was received first after that."""
    query = (
        sa.select(events.c.event_id, events.c.content, events.c.received_at)
        .where(events.c.tenant_id == key[0], events.c.revises == key[1], events.c.received_at > at)
        .order_by(events.c.received_at, events.c.event_id)
        .limit(1)
    )
    row = conn.execute(query).one_or_none()
    return _Change(row.event_id, row.content, row.received_at) if row else None
