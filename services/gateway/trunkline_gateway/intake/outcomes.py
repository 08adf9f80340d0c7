"""What the decisions about a batch of receipts become: rows, written in the one transaction of admission."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from trunkline_jobs import NewJob, Queue, Tasks
from trunkline_store import BulkInsert, Clock
from trunkline_store.records.tombstones import buried

from trunkline_gateway.hooks.unverified import weight_of
from trunkline_gateway.intake.decision import Decision
from trunkline_gateway.intake.kept import add_kept
from trunkline_gateway.intake.redeliveries import EventKey, drop_repeated, empty_bodies
from trunkline_gateway.intake.rejections import Bounds, insert_rejections
from trunkline_gateway.intake.revisions import told_apart
from trunkline_gateway.receipts import Receipt
from trunkline_gateway.schema import (
    deleted_tenants,
    event_receipts,
    eventless_receipts,
    events,
    receipts,
    undecided_receipts,
)

UNDECIDED = "decide_receipts"
"""The kind of task that looks again at what could not be judged."""


class Admitted(NamedTuple):
    """What became of a batch, and whose the new events are."""

    new: int
    redelivered: int
    dropped: int
    tenants: AbstractSet[str]


class Outcomes:
    """Events that are new with their first jobs, links of receipts to events, rejections, and what is undecided."""

    def __init__(
        self, queue: Queue, tasks: Tasks, keep: Bounds, clock: Clock, *, numbers_in_order: bool = False
    ) -> None:
        """`keep` says how many rejections of a source stay.

        Where receipts' `numbers_in_order` are (Features), an event's job has its id from its first receipt's number, so
        the jobs' key grows too. Elsewhere it has the event's: nothing is gained by another one.
        """
        self._numbers_in_order = numbers_in_order
        self._queue = queue
        self._tasks = tasks
        self._keep = keep
        self._clock = clock
        # Not a decision's to say; and finished is none.
        later = ("updated_at", "finished_at", "fetch_generation", "trace_id")
        told = [column.name for column in events.columns if column.name not in later]
        key, columns = ("tenant_id", "event_id"), [*told, "updated_at"]
        # One that tells of no change has a first receipt that is no other event's.
        alike = ("call", "expire_at", "warnings", "revises", "content", "told_at", "updated_at")
        self._insert_events = BulkInsert(events, columns, if_absent=key, mark="first_seq", alike=alike)
        self._insert_changes = BulkInsert(events, columns, if_absent=key)
        self._event_row = itemgetter(*told)
        self._insert_links = BulkInsert(event_receipts, alike=("repeated_bytes", "first"))

    def write(self, conn: sa.Connection, decisions: Sequence[Decision], rows: Sequence[Receipt]) -> Admitted:
        """Write what the decisions about these receipts are, in the open transaction."""
        undecided = [d for d in decisions if d.undecided]
        if undecided:
            weights = {row.seq: weight(row) for row in rows}
            waiting = [{"seq": d.seq, "source_id": d.source_id, "weight": weights[d.seq]} for d in undecided]
            conn.execute(undecided_receipts.insert(), waiting)
            self._tasks.put(conn, UNDECIDED)
        decisions, dropped = _without_deleted_tenants(conn, decisions)
        eventless = [d for d in decisions if d.event is None and not d.undecided]
        if eventless:
            _enter_eventless(conn, eventless, {row.seq: row for row in rows})
        insert_rejections(conn, [d.rejection for d in decisions if d.rejection], self._keep)
        decisions = [d for d in decisions if d.event]
        for opened in (d for d in decisions if d.body is not None):
            itself = receipts.c.seq == opened.seq
            conn.execute(receipts.update().where(itself).values(body=opened.body))
        decisions = told_apart(conn, decisions, self._clock.now())
        new = self._admit_events(conn, decisions, rows) if decisions else set()
        return Admitted(len(new), len(decisions) - len(new), dropped, {tenant for tenant, _ in new})

    def _admit_events(
        self, conn: sa.Connection, decisions: list[Decision], rows: Sequence[Receipt]
    ) -> set[tuple[str, str]]:
        """Insert the events with their jobs and links; tenants and ids of those that are new.

        Whoever follows changes by time has to meet them, however long their receipts waited: they are new as of now.
        """
        now = self._clock.now()
        opened = {d.seq: d.body for d in decisions if d.body is not None}
        found = {row.seq: row for row in rows}
        if opened:
            found |= {seq: found[seq]._replace(body=body) for seq, body in opened.items() if seq in found}
        told_of = [d.event for d in decisions if d.event]
        plain: list[tuple[Any, ...]] = []
        changes: list[tuple[Any, ...]] = []
        links: list[tuple[EventKey, int]] = []
        begun: dict[EventKey, tuple[int, NewJob | None]] = {}
        for d, event in zip(decisions, told_of, strict=True):
            key = (event["tenant_id"], event["event_id"])
            links.append((key, d.seq))
            # The first of the batch that tells of an event is the one that makes it.
            if key not in begun:
                made, job = (event, d.job) if self._numbers_in_order else _as_event(event, d.job)
                begun[key] = event["first_seq"], job
                (plain if event["revises"] is None else changes).append((*self._event_row(made), now))
        new = self._insert_events.run(conn, plain) | self._insert_changes.run(conn, changes)
        jobs = [job for key, (_, job) in begun.items() if job and key in new]
        self._queue.enqueue_many(conn, jobs, tell=False)
        sizes = drop_repeated(conn, links, new, found)
        moved = [
            (d.event["tenant_id"], d.event["event_id"], seq, repeated, receipt_id, None)
            for d in decisions
            if d.event
            for seq, receipt_id, repeated in d.moved
        ]
        others = {d.seq: d.receipt_id for d in decisions if d.receipt_id}
        told: list[tuple[str, str, int, int | None, str, bool | None]] = []
        kept: dict[str, int] = defaultdict(int)
        for key, seq in links:
            (tenant, event_id), row, size = key, found.get(seq), sizes.get(seq)
            first = True if begun[key][0] == seq and key in new else None
            told.append((tenant, event_id, seq, size, others.get(seq) or found[seq].receipt_id, first))
            kept[tenant] += (weight(row) if row else 0) - (size or 0)
        self._insert_links.run(conn, [*told, *moved])
        add_kept(conn, kept)
        return new


def _as_event(event: dict[str, Any], job: NewJob | None) -> tuple[dict[str, Any], NewJob | None]:
    """Return an event and its job with one id for both."""
    return {**event, "job_id": None}, replace(job, job_id=event["event_id"]) if job else None


def weight(row: Receipt) -> int:
    """Return what a receipt counts for in bytes, headers included."""
    return weight_of(row.url, row.headers, row.body)


def _enter_eventless(conn: sa.Connection, decisions: Sequence[Decision], rows: Mapping[int, Receipt]) -> None:
    """Write by which rows receipts are found that are no event; a rejection holds the body of its own."""
    found = [(left, rows[d.seq]) for d in decisions if (left := d.rejection or d.bare)]
    told = [
        {
            "seq": row.seq,
            "tenant_id": left["tenant_id"],
            "expire_at": left["expire_at"],
            "receipt_id": row.receipt_id,
            "size_bytes": len(row.body),
        }
        for left, row in found
    ]
    conn.execute(eventless_receipts.insert(), told)
    empty_bodies(conn, [d.seq for d in decisions if d.rejection])
    kept: dict[str, int] = defaultdict(int)
    for d in decisions:
        if d.bare and d.tenant_id and rows[d.seq].body:  # as delete_eventless counts it out
            kept[d.tenant_id] += weight(rows[d.seq])
    add_kept(conn, kept)


def _without_deleted_tenants(
    conn: sa.Connection, decisions: Sequence[Decision]
) -> tuple[Sequence[Decision], int]:
    """Drop what came late for tenants that were deleted, receipts included; return the rest, and how many went."""
    gone = buried(conn, deleted_tenants, {d.tenant_id for d in decisions if d.tenant_id})
    if not gone:
        return decisions, 0
    late = [d.seq for d in decisions if d.tenant_id in gone]
    conn.execute(receipts.delete().where(receipts.c.seq.in_(late)))
    return [d for d in decisions if d.tenant_id not in gone], len(late)
