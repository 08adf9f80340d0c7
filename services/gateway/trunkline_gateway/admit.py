"""Admit: a loop behind the writer that decides what each receipt is: an event, a redelivery, or a dead letter.

Receipts are taken in the order of their commits, in batches. For each batch ONE transaction inserts the events that
are new, their first jobs and the links of receipts to events, and moves the cursor; so a crash anywhere repeats the
batch or has done it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from prometheus_client import Counter, Gauge
from trunkline_jobs import Queue
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.logs import get_logger
from trunkline_store import BulkInsert, Database
from trunkline_store.errors import StoreError
from trunkline_store.tombstones import buried

from trunkline_gateway.decide import Decision, decide
from trunkline_gateway.providers.base import Source
from trunkline_gateway.rejections import insert_rejections
from trunkline_gateway.schema import (
    cursors,
    deleted_tenants,
    event_receipts,
    eventless_receipts,
    events,
    receipts,
    undecided_receipts,
)
from trunkline_gateway.sources import SourceMap

log = get_logger(__name__)

LAG = Gauge(
    "trunkline_admission_lag_seconds", "Age of the last receipt when it was admitted; 0 when none waits."
)
ADMITTED = Counter("trunkline_admitted_total", "Receipts by what admission found them to be.", ["outcome"])

_CURSOR = "admission"
_SLICE = 32
# While webhooks wait for the writer, admission rests this many times as long as it worked.
_PAUSE = 12.0
_LONGEST_PAUSE = 0.5


class Admitted(NamedTuple):
    """What became of a batch."""

    new: int
    redelivered: int
    dropped: int


class Admission:
    """The loop. One runs per store on SQLite; the cursor's check makes a second one harmless."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        sources: SourceMap,
        *,
        keep_rejections: int,
        jobs_ready: Callable[[], None],
        undecided: Callable[[int], None],
        busy: Callable[[], bool] = lambda: False,
        batch: int = 256,
        retry_undecided_seconds: float = 2.0,
        events_days: int = 0,
    ):
        """Take every dependency.

        `jobs_ready` is called after jobs were made; `undecided` is told how many receipts nobody can judge yet;
        `events_days` is how long events are kept whose tenant says nothing, 0 for good; `busy` says that webhooks
        wait for the writer: then a backlog takes no more than its share of it.
        """
        self._db = db
        self._queue = queue
        self._sources = sources
        self._keep_rejections = keep_rejections
        self._jobs_ready = jobs_ready
        self._tell_undecided = undecided
        self._busy = busy
        self._batch = batch
        self._insert_events = BulkInsert(events, if_absent=["tenant_id", "event_id"])
        self._insert_links = BulkInsert(event_receipts)
        self._retry_seconds = retry_undecided_seconds
        self._events_days = events_days
        self._wake = asyncio.Event()
        self._any_undecided = True  # until the first look says otherwise

    def soon(self) -> None:
        """Say that a receipt was committed. Called once a webhook: it must cost nothing."""
        self._wake.set()

    async def run(self) -> None:
        """Admit for ever; a store that fails is tried again."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._retry_seconds)
            self._wake.clear()
            try:
                began = time.monotonic()
                while await self.step():
                    if self._busy():
                        await asyncio.sleep(min(_LONGEST_PAUSE, (time.monotonic() - began) * _PAUSE))
                    began = time.monotonic()
                if self._any_undecided:
                    await self.retry_undecided()
            except StoreError as error:
                log.warning("admission_store_failed", error=str(error))
                await asyncio.sleep(0.5)

    async def step(self) -> bool:
        """Admit one batch; True when there may be more."""
        cursor, rows = await self._db.read(self._read_batch)
        if not rows:
            LAG.set(0)
            return False
        decisions = await self._decide(rows)
        last = rows[-1].seq
        self._count(await self._db.write(lambda conn: self._apply(conn, decisions, (cursor, last))))
        self._any_undecided |= any(d.undecided for d in decisions)
        LAG.set((datetime.now(UTC) - rows[-1].received_at).total_seconds())
        return len(rows) == self._batch

    async def retry_undecided(self) -> None:
        """Look again at receipts whose source could not be asked for when they came."""
        rows = await self._db.read(self._read_undecided)
        decided = [d for d in await self._decide(rows) if not d.undecided]
        if decided:
            self._count(await self._db.write(lambda conn: self._apply(conn, decided, None)))
        left = len(rows) - len(decided)
        self._any_undecided = bool(rows)
        self._tell_undecided(left)

    def _count(self, admitted: Admitted) -> None:
        """Count outside the transaction, which may run more than once."""
        new, redelivered, dropped = admitted
        ADMITTED.labels("tenant_deleted").inc(dropped)
        ADMITTED.labels("new").inc(new)
        ADMITTED.labels("redelivery").inc(redelivered)
        if new:
            self._jobs_ready()

    def _read_batch(self, conn: sa.Connection) -> tuple[int, Sequence[sa.Row[Any]]]:
        cursor = conn.execute(sa.select(cursors.c.seq).where(cursors.c.name == _CURSOR)).scalar() or 0
        query = sa.select(receipts).where(receipts.c.seq > cursor).order_by(receipts.c.seq).limit(self._batch)
        return cursor, conn.execute(query).all()

    def _read_undecided(self, conn: sa.Connection) -> Sequence[sa.Row[Any]]:
        query = (
            sa.select(receipts)
            .join(undecided_receipts, undecided_receipts.c.seq == receipts.c.seq)
            .order_by(receipts.c.seq)
            .limit(self._batch)
        )
        return conn.execute(query).all()

    async def _decide(self, rows: Sequence[sa.Row[Any]]) -> list[Decision]:
        known: dict[str, Source | None] = {}
        unsure: set[str] = set()
        for source_id in {row.source_id for row in rows}:
            try:
                known[source_id] = await self._sources.resolve(source_id)
            except TrunklineError:
                unsure.add(source_id)
        decisions: list[Decision] = []
        for start in range(0, len(rows), _SLICE):
            for row in rows[start : start + _SLICE]:
                decisions.append(
                    decide(row, known.get(row.source_id), row.source_id in unsure, self._events_days)
                )
            # Half a millisecond of parsing, then the loop answers webhooks. A thread would not give the interpreter
            # back for five.
            await asyncio.sleep(0)
        return decisions

    def _apply(
        self, conn: sa.Connection, decisions: list[Decision], move: tuple[int, int] | None
    ) -> Admitted:
        """Write the decisions in the open transaction."""
        if move is not None and not _move_cursor(conn, *move):
            return Admitted(0, 0, 0)  # another admission was faster: the next read starts behind it
        if move is None:
            gone = undecided_receipts.delete().where(undecided_receipts.c.seq.in_([d.seq for d in decisions]))
            if conn.execute(gone).rowcount != len(decisions):
                raise sa.exc.InvalidRequestError("an undecided receipt was decided twice at once")
        waiting = [{"seq": d.seq, "source_id": d.source_id} for d in decisions if d.undecided]
        if waiting:
            conn.execute(undecided_receipts.insert(), waiting)
        decisions, dropped = _without_deleted_tenants(conn, decisions)
        eventless = [
            {"seq": d.seq, "tenant_id": d.rejection["tenant_id"], "expire_at": d.rejection["expire_at"]}
            for d in decisions
            if d.rejection
        ]
        if eventless:
            conn.execute(eventless_receipts.insert(), eventless)
        insert_rejections(conn, [d.rejection for d in decisions if d.rejection], self._keep_rejections)
        new, redelivered = self._admit_events(conn, [d for d in decisions if d.event])
        return Admitted(new, redelivered, dropped)

    def _admit_events(self, conn: sa.Connection, decisions: list[Decision]) -> tuple[int, int]:
        if not decisions:
            return 0, 0
        rows = [d.event for d in decisions if d.event]
        columns = self._insert_events.columns
        new = self._insert_events.run(conn, [tuple(row[name] for name in columns) for row in rows])
        jobs = {d.job.job_id: d.job for d in decisions if d.job and (d.job.tenant_id, d.job.subject) in new}
        self._queue.enqueue_many(conn, jobs.values())
        links = [(d.event["tenant_id"], d.event["event_id"], d.seq) for d in decisions if d.event]
        self._insert_links.run(conn, links)
        return len(new), len(links) - len(new)


def _without_deleted_tenants(conn: sa.Connection, decisions: list[Decision]) -> tuple[list[Decision], int]:
    """Drop what came late for tenants that were deleted, receipts included; return the rest, and how many went."""
    gone = buried(conn, deleted_tenants, {d.tenant_id for d in decisions if d.tenant_id})
    if not gone:
        return decisions, 0
    late = [d.seq for d in decisions if d.tenant_id in gone]
    conn.execute(receipts.delete().where(receipts.c.seq.in_(late)))
    return [d for d in decisions if d.tenant_id not in gone], len(late)


def _move_cursor(conn: sa.Connection, before: int, after: int) -> bool:
    if (
        before == 0
        and conn.execute(sa.select(cursors.c.seq).where(cursors.c.name == _CURSOR)).scalar() is None
    ):
        conn.execute(cursors.insert(), {"name": _CURSOR, "seq": after})
        return True
    mine = (cursors.c.name == _CURSOR) & (cursors.c.seq == before)
    return conn.execute(cursors.update().where(mine).values(seq=after)).rowcount == 1
