"""Changes of a call: the same change that comes again after another one is a new event, and not a redelivery.

A note that is edited from "a" to "b" and back is told of three times, the first and the last time in the same words.
What was received before and after decides, in whatever order receipts are admitted: out of the spool, from another
shard or after a rejection they come late. The same words right after each other are one event, a run; with another
change between them they are two, and a change that is admitted late may so cut a run in two. Changes of one time of
their own only: words of an earlier time that come again after a later change are a redelivery, however late they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from trunkline_store.declare import by_index

from trunkline_gateway import ids
from trunkline_gateway.intake.decision import Decision
from trunkline_gateway.intake.kept import add_kept
from trunkline_gateway.schema import event_receipts, events, receipts

_Run = dict[str, Any]  # the row of its event


def told_apart(conn: sa.Connection, decisions: list[Decision]) -> list[Decision]:
    """Give those decisions an id of their own that repeat a change after another one; the others stay.

    The events of runs that were cut in two come at the end.
    """
    changes = [d for d in decisions if d.event and d.event["revises"]]
    if not changes:
        return decisions
    runs = _Runs(conn, [d.event for d in changes if d.event])
    placed = {d.seq: runs.place(d) for d in sorted(changes, key=lambda d: (_event(d)["received_at"], d.seq))}
    return [placed.get(d.seq, d) for d in decisions] + runs.cut


class _Runs:
    """The runs of the calls that a batch tells of: those in the store, and those that the batch begins."""

    def __init__(self, conn: sa.Connection, changes: Sequence[_Run]):
        self._conn = conn
        self._seen = _known(conn, changes)
        self._begun: dict[tuple[str, str], list[_Run]] = {}
        self.cut: list[Decision] = []

    def place(self, decision: Decision) -> Decision:
        """Return the decision as an event of its own, or as a redelivery of the run that it belongs to."""
        change = _event(decision)
        key, at = (change["tenant_id"], change["revises"]), change["received_at"]
        before, after = self._before(key, at), self._after(key, at)
        if before is not None and before["content"] == change["content"]:
            self._tell(before, at)
            return _as(decision, before)
        if after is not None and after["content"] == change["content"]:
            return _as(decision, after)
        if before is not None and _told(before) > at:
            self._cut(before, at, decision)
        run = self._begin({**change, "told_at": at}, decision.seq)
        return _as(decision, run)

    def _begin(self, run: _Run, seq: int) -> _Run:
        event_id = run["event_id"]
        if (run["tenant_id"], event_id) in self._seen:
            event_id = ids.event_id(run["source_id"], run["event_type"], (event_id, str(seq)))
        self._seen.add((run["tenant_id"], event_id))
        run = {**run, "event_id": event_id, "first_seq": seq}
        self._begun.setdefault((run["tenant_id"], run["revises"]), []).append(run)
        return run

    def _before(self, key: tuple[str, str], at: datetime) -> _Run | None:
        """Return the run that began last until then."""
        query = _of(key).where(events.c.received_at <= at).order_by(events.c.received_at.desc()).limit(1)
        found = [run for run in self._begun.get(key, ()) if run["received_at"] <= at]
        return max([*self._stored(query), *found], key=_order, default=None)

    def _after(self, key: tuple[str, str], at: datetime) -> _Run | None:
        """Return the run that begins first after then."""
        query = _of(key).where(events.c.received_at > at).order_by(events.c.received_at).limit(1)
        found = [run for run in self._begun.get(key, ()) if run["received_at"] > at]
        return min([*self._stored(query), *found], key=_order, default=None)

    def _stored(self, query: sa.Select[Any]) -> list[_Run]:
        return [dict(row) for row in self._conn.execute(query).mappings()]

    def _tell(self, run: _Run, at: datetime) -> None:
        """Note that a run's words were told again then, if they were not told later."""
        if _told(run) >= at:
            return
        run["told_at"] = at
        mine = (events.c.tenant_id == run["tenant_id"]) & (events.c.event_id == run["event_id"])
        self._conn.execute(events.update().where(mine).values(told_at=at))

    def _cut(self, run: _Run, at: datetime, cutting: Decision) -> None:
        """Make an event of what was told of a run after something else came between."""
        links = (event_receipts.c.tenant_id == run["tenant_id"]) & (
            event_receipts.c.event_id == run["event_id"]
        )
        query = (
            sa.select(
                receipts.c.seq, receipts.c.received_at, receipts.c.receipt_id, event_receipts.c.repeated_bytes
            )
            .join_from(event_receipts, receipts, receipts.c.seq == event_receipts.c.seq)
            .where(links, receipts.c.received_at > at)
            .order_by(receipts.c.received_at, receipts.c.seq)
        )
        later = self._conn.execute(query.limit(1)).one_or_none()
        if later is None or cutting.job is None:
            return
        self._seen.add((run["tenant_id"], run["event_id"]))
        self._give_body(run, later.seq, later.repeated_bytes)
        made = self._begin({**run, **_FRESH, "received_at": later.received_at}, later.seq)
        self._conn.execute(event_receipts.delete().where(links, event_receipts.c.seq == later.seq))
        job = replace(cutting.job, job_id=made["event_id"], subject=made["event_id"])
        self.cut.append(
            Decision(later.seq, made["source_id"], event=made, job=job, receipt_id=later.receipt_id)
        )

    def _give_body(self, run: _Run, seq: int, dropped: int | None) -> None:
        """Give a receipt back the body that was dropped when it repeated the run's first."""
        if not dropped:
            return
        first = sa.select(receipts.c.body).where(receipts.c.seq == run["first_seq"])
        body = self._conn.execute(first).scalar_one_or_none()
        if body is not None:
            self._conn.execute(receipts.update().where(receipts.c.seq == seq).values(body=body))
            add_kept(self._conn, {run["tenant_id"]: dropped})


_FRESH = {"call": "", "finished_at": None}


def _as(decision: Decision, run: _Run) -> Decision:
    event, event_id = _event(decision), run["event_id"]
    job = replace(decision.job, job_id=event_id, subject=event_id) if decision.job else None
    return replace(decision, event={**event, "event_id": event_id, "told_at": _told(run)}, job=job)


def _event(decision: Decision) -> _Run:
    assert decision.event is not None
    return decision.event


def _told(run: _Run) -> datetime:
    """Return when a run's words were received last, as far as rows of an earlier version say."""
    told: datetime = run["told_at"] or run["received_at"]
    return told


def _order(run: _Run) -> tuple[datetime, int]:
    return run["received_at"], run["first_seq"]


def _of(key: tuple[str, str]) -> sa.Select[Any]:
    return by_index(sa.select(events), events, "events_by_revised").where(
        events.c.tenant_id == key[0], events.c.revises == key[1], events.c.revises.is_not(None)
    )


def _known(conn: sa.Connection, changes: Sequence[_Run]) -> set[tuple[str, str]]:
    """Return tenants and ids of those events that are there."""
    query = sa.select(events.c.tenant_id, events.c.event_id).where(
        events.c.tenant_id.in_({change["tenant_id"] for change in changes}),
        events.c.event_id.in_({change["event_id"] for change in changes}),
    )
    return {(row.tenant_id, row.event_id) for row in conn.execute(query)}
