"""Changes of a call: the same change that comes again after another one is a new event, and not a redelivery.

A note that is edited from "a" to "b" and back is told of three times, the first and the last time in the same words.
What was received before and after decides, in whatever order receipts are admitted: out of the spool, from another
shard or after a rejection they come late. The same words right after each other are one event, a run; with another
change between them they are two. So a change that is admitted late may cut a run in two, or be the new beginning of
the run that comes next. Changes of one time of their own only: words of an earlier time that come again after a later
change are a redelivery, however late they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from trunkline_store.declare import by_index

from trunkline_gateway import ids
from trunkline_gateway.intake.decision import Decision
from trunkline_gateway.intake.kept import WEIGHT, add_kept
from trunkline_gateway.schema import event_receipts, events, links_of, receipts

_Run = dict[str, Any]  # the row of its event


class _Link(NamedTuple):
    """That a receipt tells of an event."""

    received_at: datetime
    seq: int
    receipt_id: str
    repeated_bytes: int | None


def told_apart(conn: sa.Connection, decisions: list[Decision], now: datetime) -> list[Decision]:
    """Give those decisions an id of their own that repeat a change after another one; the others stay.

    The events of runs that were cut in two come at the end. Events that begin earlier than they did changed `now`.
    """
    changes = [d for d in decisions if d.event and d.event["revises"]]
    if not changes:
        return decisions
    runs = _Runs(conn, [d.event for d in changes if d.event], now)
    placed = {d.seq: runs.place(d) for d in sorted(changes, key=lambda d: (_event(d)["received_at"], d.seq))}
    # Only now: what comes later in a batch may lengthen a run, or cut it.
    told = [_as(d, placed[d.seq]) if d.seq in placed else d for d in decisions]
    return told + runs.cut()


class _Runs:
    """The runs of the calls that a batch tells of: those in the store, and those that the batch begins."""

    def __init__(self, conn: sa.Connection, changes: Sequence[_Run], now: datetime):
        self._conn = conn
        self._now = now
        self._seen = _known(conn, changes)
        self._begun: dict[tuple[str, str], list[_Run]] = {}
        self._told: dict[tuple[str, str], datetime] = {}  # of an event: when the batch told of it last so far
        # Of an event that was made by a cut: its decision without links, and its receipts, the first included.
        self._cut_off: dict[tuple[str, str], tuple[Decision, list[_Link]]] = {}
        self._led: dict[tuple[str, str], int] = {}  # of an event that begins earlier now: with which receipt

    def place(self, decision: Decision) -> _Run:
        """Return the run that a decision belongs to: one of its own, or the one that it tells of again."""
        change = _event(decision)
        key, at = (change["tenant_id"], change["revises"]), change["received_at"]
        before, after = self._before(key, at), self._after(key, at)
        if before is not None and before["content"] == change["content"]:
            self._tell(before, at)
            return before
        if before is not None and _told(before) > at:
            self._cut(before, at, decision)
        elif after is not None and after["content"] == change["content"]:
            self._lead(after, at, decision.seq)
            return after
        return self._begin({**change, "told_at": at}, decision.seq)

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
        query = _of(key).where(events.c.received_at <= at)
        query = query.order_by(events.c.received_at.desc(), events.c.first_seq.desc()).limit(1)
        found = [run for run in self._begun.get(key, ()) if run["received_at"] <= at]
        return max([*self._stored(query), *found], key=_order, default=None)

    def _after(self, key: tuple[str, str], at: datetime) -> _Run | None:
        """Return the run that begins first after then."""
        query = _of(key).where(events.c.received_at > at)
        query = query.order_by(events.c.received_at, events.c.first_seq).limit(1)
        found = [run for run in self._begun.get(key, ()) if run["received_at"] > at]
        return min([*self._stored(query), *found], key=_order, default=None)

    def _stored(self, query: sa.Select[Any]) -> list[_Run]:
        return [dict(row) for row in self._conn.execute(query).mappings()]

    def _tell(self, run: _Run, at: datetime) -> None:
        """Note that a run's words were told again then, if they were not told later."""
        self._told[_key(run)] = at  # changes are placed by their times
        if _told(run) < at:
            self._set_told(run, at)

    def _set_told(self, run: _Run, at: datetime) -> None:
        run["told_at"] = at
        self._conn.execute(events.update().where(_is(run)).values(told_at=at))

    def _lead(self, run: _Run, at: datetime, seq: int) -> None:
        """Have a run begin earlier. Its first receipt stays the one whose body the others repeat."""
        self._led.setdefault(_key(run), seq)
        run.update(told_at=_told(run), received_at=at)
        told = {"received_at": at, "told_at": run["told_at"], "updated_at": self._now}
        self._conn.execute(events.update().where(_is(run)).values(told))

    def cut(self) -> list[Decision]:
        """Return the events that were made of what was cut off, each with the receipts that tell of it."""
        return [
            replace(decision, event=dict(_event(decision)), moved=tuple(link[1:] for link in links[1:]))
            for decision, links in self._cut_off.values()
        ]

    def _cut(self, run: _Run, at: datetime, cutting: Decision) -> None:
        """Make an event of what was told of a run after something else came between."""
        links = self._links(run, at)
        if cutting.job is None or not links:
            return
        first = links[0]
        self._seen.add(_key(run))
        links = self._with_bodies(run, links)
        times = {"received_at": first.received_at, "told_at": _told(run)}
        made = self._begin({**run, **_FRESH, **times}, first.seq)
        self._set_told(run, self._last_told(run, at))
        if run["first_seq"] in {link.seq for link in links}:
            self._find_first(run)
        job = replace(cutting.job, job_id=made["event_id"], subject=made["event_id"])
        decision = Decision(first.seq, made["source_id"], event=made, job=job, receipt_id=first.receipt_id)
        self._cut_off[_key(made)] = (decision, links)

    def _links(self, run: _Run, at: datetime) -> list[_Link]:
        """Take away what told of a run after then, in its order."""
        if _key(run) in self._cut_off:
            links = self._cut_off[_key(run)][1]
            later = [link for link in links if link.received_at > at]
            links[:] = [link for link in links if link.received_at <= at]
            return later
        rows = self._conn.execute(
            sa.select(*_LINK, event_receipts.c.receipt_id.label("counted"), WEIGHT.label("weight"))
            .select_from(_LINKED)
            .where(_of_run(run), receipts.c.received_at > at)
            .order_by(receipts.c.received_at, receipts.c.seq)
            .limit(_MOVED_MOST)
        ).all()
        seqs = [row.seq for row in rows]
        self._conn.execute(event_receipts.delete().where(_of_run(run), event_receipts.c.seq.in_(seqs)))
        # Those of an earlier release were not counted; that they are is what their new links say.
        add_kept(self._conn, {run["tenant_id"]: sum(row.weight for row in rows if row.counted is None)})
        return [_Link(*row[:4]) for row in rows]

    def _last_told(self, run: _Run, at: datetime) -> datetime:
        """Return when a run's words were told last until then."""
        left: datetime | None
        if _key(run) in self._cut_off:
            links = self._cut_off[_key(run)][1]
            left = links[-1].received_at if links else None
        else:
            latest = sa.select(sa.func.max(receipts.c.received_at)).select_from(_LINKED)
            left = self._conn.execute(latest.where(_of_run(run), receipts.c.received_at <= at)).scalar()
        known = (run["received_at"], left, self._told.get(_key(run)))
        return max(time for time in known if time is not None)

    def _with_bodies(self, run: _Run, links: list[_Link]) -> list[_Link]:
        """Give receipts back the bodies that were dropped when they repeated the run's first; return their links.

        Where the first of those that move is one of them, the others repeat that one from now on.
        """
        bare = [link for link in links if link.repeated_bytes and links[0].seq != run["first_seq"]]
        if links[0].repeated_bytes:
            bare = bare[:1]
        seqs = {link.seq for link in bare}
        if not self._give_body(run, seqs):
            return links
        return [link._replace(repeated_bytes=None) if link.seq in seqs else link for link in links]

    def _find_first(self, run: _Run) -> None:
        """Name another first receipt of a run whose own moved: one that repeated its body, so that the others still do.

        Where none is left in the store, the batch has led the run and the receipt that did is the first.
        """
        seq = self._led.get(_key(run))
        # Of a run that was made by a cut nothing is in the store.
        if self._cut_off.pop(_key(run), None) is None:
            links = sa.select(event_receipts.c.seq, event_receipts.c.repeated_bytes).where(_of_run(run))
            left = self._conn.execute(
                links.order_by(event_receipts.c.repeated_bytes.is_(None), event_receipts.c.seq).limit(1)
            ).first()
            if left is not None:
                seq = left.seq
                if left.repeated_bytes and self._give_body(run, {seq}):
                    mine = _of_run(run) & (event_receipts.c.seq == seq)
                    self._conn.execute(event_receipts.update().where(mine).values(repeated_bytes=None))
        if seq is not None:
            run["first_seq"] = seq
            self._conn.execute(events.update().where(_is(run)).values(first_seq=seq))

    def _give_body(self, run: _Run, seqs: Collection[int]) -> bool:
        """Give receipts the body of a run's first one; False when there is none to give."""
        first = sa.select(receipts.c.body).where(receipts.c.seq == run["first_seq"])
        body = self._conn.execute(first).scalar_one_or_none() if seqs else None
        if body is None:
            return False
        self._conn.execute(receipts.update().where(receipts.c.seq.in_(seqs)).values(body=body))
        add_kept(self._conn, {run["tenant_id"]: len(body) * len(seqs)})
        return True


# Its job has the event's own id: its first receipt may have given the other event's job its id.
_FRESH = {"call": "", "finished_at": None, "job_id": None}
_LINK = (receipts.c.received_at, receipts.c.seq, receipts.c.receipt_id, event_receipts.c.repeated_bytes)
_LINKED = event_receipts.join(receipts, receipts.c.seq == event_receipts.c.seq)
# Of a run that is cut so many links move at most; more of them stay where they are, which costs no event.
_MOVED_MOST = 400


def _as(decision: Decision, run: _Run) -> Decision:
    """Return a decision as one that tells of a run: whichever of a batch is written first begins it rightly."""
    event_id = run["event_id"]
    job = replace(decision.job, subject=event_id) if decision.job else None
    begun = {name: run[name] for name in ("event_id", "received_at", "first_seq")}
    return replace(decision, event={**_event(decision), **begun, "told_at": _told(run)}, job=job)


def _key(run: _Run) -> tuple[str, str]:
    return run["tenant_id"], run["event_id"]


def _is(run: _Run) -> sa.ColumnElement[bool]:
    return sa.and_(events.c.tenant_id == run["tenant_id"], events.c.event_id == run["event_id"])


def _of_run(run: _Run) -> sa.ColumnElement[bool]:
    return links_of(run["tenant_id"], [run["event_id"]])


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
