"""Admit: a loop behind the writer that decides what each receipt is: an event, a redelivery, or a dead letter.

Receipts are taken in batches, the oldest first. For each batch ONE transaction inserts the events that are new, their
first jobs and the links of receipts to events, and takes the receipts out of the backlog; so a crash anywhere repeats
the batch or has done it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa
from prometheus_client import Counter, Gauge
from trunkline_jobs import Queue
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.logs import get_logger
from trunkline_store import BulkInsert, Database
from trunkline_store.errors import StoreError
from trunkline_store.tombstones import buried

from trunkline_gateway.backlog import Backlog, Batch, Undecided, backlog_of
from trunkline_gateway.decide import Decision, Receipt, decide
from trunkline_gateway.json_bounds import is_heavy
from trunkline_gateway.providers.base import Source
from trunkline_gateway.rejections import insert_rejections
from trunkline_gateway.revisions import told_apart
from trunkline_gateway.schema import (
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

_SLICE = 32
# As long as so few come at a time they are read without a trip to a thread.
_FEW = 32
# While webhooks crowd before the writer, admission takes so few at a time that commits wait for it for some 5 ms, and
# rests this many times as long as it worked.
_CROWDED_BATCH = 64
_PAUSE = 24.0
_LONGEST_PAUSE = 0.5
_LOOK_SECONDS = 30.0


class Admitted(NamedTuple):
    """What became of a batch, and whose the new events are."""

    new: int
    redelivered: int
    dropped: int
    tenants: AbstractSet[str]


class Admission:
    """The loop. One runs per process; each takes what no other took, so several on one store are harmless."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        sources: SourceMap,
        *,
        keep_rejections: int,
        jobs_ready: Callable[[AbstractSet[str]], None],
        undecided: Callable[[int], None],
        busy: Callable[[], bool] = lambda: False,
        batch: int = 256,
        retry_undecided_seconds: float = 2.0,
        events_days: int = 0,
        base_url: str = "",
    ):
        """Take every dependency.

        `jobs_ready` is told the tenants for whom jobs were made; `undecided` is told how many receipts nobody can
        judge yet; `events_days` is how long events are kept whose tenant says nothing, 0 for good; `base_url` is
        what providers post to; `busy` says that webhooks wait for the writer: then a backlog takes no more than its
        share of it.
        """
        self._db = db
        self._queue = queue
        self._sources = sources
        self._keep_rejections = keep_rejections
        self._jobs_ready = jobs_ready
        self._tell_undecided = undecided
        self._busy = busy
        self._batch = batch
        self._backlog = backlog_of(db)
        self._undecided = Undecided()
        self._insert_events = BulkInsert(events, if_absent=["tenant_id", "event_id"])
        self._insert_links = BulkInsert(event_receipts)
        self._retry_seconds = retry_undecided_seconds
        self._events_days = events_days
        self._base_url = base_url
        self._wake = asyncio.Event()
        self._last = 0  # how many the last look found
        self._crowded = False  # when it looked
        self._any_undecided = True  # until the first look says otherwise
        # Where several admissions share the store, what one leaves undecided and dies is another's to find.
        self._shared = db.engine != "sqlite"
        self._look_due = 0.0

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
                    if self._crowded:
                        await asyncio.sleep(min(_LONGEST_PAUSE, (time.monotonic() - began) * _PAUSE))
                    began = time.monotonic()
                if self._any_undecided or (self._shared and time.monotonic() > self._look_due):
                    self._look_due = time.monotonic() + _LOOK_SECONDS
                    await self.retry_undecided()
            except StoreError as error:
                log.warning("admission_store_failed", error=str(error))
                await asyncio.sleep(0.5)

    async def step(self) -> bool:
        """Admit one batch; True when there may be more."""
        self._crowded = self._busy()
        if self._last < _FEW and not self._crowded:
            most = min(_FEW, self._batch)
            batch = await self._db.peek(lambda conn: self._backlog.read(conn, most))
        else:
            most = _CROWDED_BATCH if self._crowded else self._batch
            batch = await self._db.read(lambda conn: self._backlog.read(conn, most))
        self._last = len(batch.rows)
        if not batch.rows:
            LAG.set(0)
            return False
        decisions = await self._decide(batch.rows)
        self._count(await self._db.write(lambda conn: self._apply(conn, decisions, self._backlog, batch)))
        self._any_undecided |= any(d.undecided for d in decisions)
        LAG.set((datetime.now(UTC) - batch.rows[-1].received_at).total_seconds())
        return len(batch.rows) == most

    async def retry_undecided(self) -> None:
        """Look again at receipts whose source could not be asked for when they came."""
        rows = (await self._db.read(lambda conn: self._undecided.read(conn, self._batch))).rows
        decided = {d.seq: d for d in await self._decide(rows) if not d.undecided}
        if decided:
            batch = Batch([row for row in rows if row.seq in decided])
            decisions = list(decided.values())
            self._count(
                await self._db.write(lambda conn: self._apply(conn, decisions, self._undecided, batch))
            )
        self._any_undecided = bool(rows)
        self._tell_undecided(len(rows) - len(decided))

    def _count(self, admitted: Admitted) -> None:
        """Count outside the transaction, which may run more than once."""
        new, redelivered, dropped, tenants = admitted
        ADMITTED.labels("tenant_deleted").inc(dropped)
        ADMITTED.labels("new").inc(new)
        ADMITTED.labels("redelivery").inc(redelivered)
        if new:
            self._jobs_ready(tenants)

    async def _decide(self, rows: Sequence[Receipt]) -> list[Decision]:
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
                source, unsure_of_it = known.get(row.source_id), row.source_id in unsure
                given = (row, source, unsure_of_it, self._events_days, self._base_url)
                heavy = is_heavy(row.body)
                decisions.append(await asyncio.to_thread(decide, *given) if heavy else decide(*given))
            # Half a millisecond of parsing, then the loop answers webhooks: a thread for it would cost as much again.
            await asyncio.sleep(0)
        return decisions

    def _apply(
        self, conn: sa.Connection, decisions: list[Decision], backlog: Backlog, batch: Batch
    ) -> Admitted:
        """Write the decisions about a batch in the open transaction."""
        taken = backlog.take(conn, batch)
        if len(taken) < len(decisions):  # another admission was faster: the next read starts behind it
            decisions = [d for d in decisions if d.seq in taken]
        waiting = [{"seq": d.seq, "source_id": d.source_id} for d in decisions if d.undecided]
        if waiting:
            conn.execute(undecided_receipts.insert(), waiting)
        decisions, dropped = _without_deleted_tenants(conn, decisions)
        ids = {row.seq: row.receipt_id for row in batch.rows}
        eventless = [
            {
                "seq": d.seq,
                "tenant_id": d.rejection["tenant_id"],
                "expire_at": d.rejection["expire_at"],
                "receipt_id": ids[d.seq],
            }
            for d in decisions
            if d.rejection
        ]
        if eventless:
            conn.execute(eventless_receipts.insert(), eventless)
        insert_rejections(conn, [d.rejection for d in decisions if d.rejection], self._keep_rejections)
        decisions = [d for d in decisions if d.event]
        decisions = told_apart(conn, decisions)
        new = self._admit_events(conn, decisions, ids) if decisions else set()
        return Admitted(len(new), len(decisions) - len(new), dropped, {tenant for tenant, _ in new})

    def _admit_events(
        self, conn: sa.Connection, decisions: list[Decision], ids: Mapping[int, str]
    ) -> set[tuple[str, str]]:
        """Insert the events with their jobs and links; tenants and ids of those that are new.

        Whoever follows changes by time has to meet them, however long their receipts waited: they are new as of now.
        """
        now = self._db.clock.now()
        rows = [d.event | {"updated_at": now} for d in decisions if d.event]
        columns = self._insert_events.columns
        new = self._insert_events.run(conn, [tuple(row[name] for name in columns) for row in rows])
        jobs = {d.job.job_id: d.job for d in decisions if d.job and (d.job.tenant_id, d.job.subject) in new}
        self._queue.enqueue_many(conn, jobs.values())
        links = [(d.event["tenant_id"], d.event["event_id"], d.seq, ids[d.seq]) for d in decisions if d.event]
        self._insert_links.run(conn, links)
        return new


def _without_deleted_tenants(conn: sa.Connection, decisions: list[Decision]) -> tuple[list[Decision], int]:
    """Drop what came late for tenants that were deleted, receipts included; return the rest, and how many went."""
    gone = buried(conn, deleted_tenants, {d.tenant_id for d in decisions if d.tenant_id})
    if not gone:
        return decisions, 0
    late = [d.seq for d in decisions if d.tenant_id in gone]
    conn.execute(receipts.delete().where(receipts.c.seq.in_(late)))
    return [d for d in decisions if d.tenant_id not in gone], len(late)
