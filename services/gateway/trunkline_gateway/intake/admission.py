"""Admit: a loop behind the writer that decides what each receipt is: an event, a redelivery, or a dead letter.

Receipts are taken in batches, each source's in order and the sources in turns (backlog.py). For each batch ONE
transaction inserts the events that are new, their first jobs and the links of receipts to events, and takes the
receipts out of the backlog; so a crash anywhere repeats the batch or has done it. A batch that cannot be written, or
whose compressed bodies open to too much, is cut into parts that are written so, one after the other.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa
from trunkline_jobs import Queue, QueueClass, Tasks
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_runtime.process.pace import MACHINE, Pace, wait_until
from trunkline_runtime.process.periodic import SET_ASIDE, every
from trunkline_store import Database, Pressure
from trunkline_store.errors import StoreError

from trunkline_gateway import traces
from trunkline_gateway.hooks.encodings import HEADER, OPENED_BYTES
from trunkline_gateway.hooks.limits import Limits
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.intake.backlog import Batch, Looked, Undecided, backlog_of
from trunkline_gateway.intake.batches import Batches
from trunkline_gateway.intake.decision import Decision, bare, decide, set_aside
from trunkline_gateway.intake.outcomes import Admitted, Outcomes, weight
from trunkline_gateway.intake.rejections import KEPT_BYTES, Bounds
from trunkline_gateway.json_bounds import is_heavy
from trunkline_gateway.providers.base import Source
from trunkline_gateway.receipts import Fresh, Receipt

log = get_logger(__name__)

LAG = gauge(
    "trunkline_admission_lag_seconds",
    "Age of the oldest receipt of the last lot when it was admitted; 0 when none waits.",
)
ADMITTED = counter("trunkline_admitted_total", "Receipts by what admission found them to be.", ["outcome"])

_ENCODED = HEADER.encode()
_SLICE = 32
PART = 1_024
"""How many receipts of a large batch are written at once; those after them are decided meanwhile."""
# As long as so few come at a time they are read without a trip to a thread.
_FEW = 32
# How long new receipts wait for the answer about a source that is not known here, and how long those that have waited.
_PATIENCE_SECONDS = 0.05
_RETRY_SECONDS = 1.0
# At most so often receipts are admitted as they come. A batch of three changes nearly as many pages as one of twenty: a
# steady stream's batches would write more than its webhooks.
_GATHER_SECONDS = 0.01


class Admission:
    """The loop. One runs per process; each takes what no other took, so several on one store are harmless."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        tasks: Tasks,
        sources: SourceMap,
        limits: Limits,
        *,
        keep_rejections: int,
        jobs_ready: Callable[[AbstractSet[str]], None],
        batches: Batches | None = None,
        fresh: Fresh | None = None,
        events_days: int = 0,
        base_url: str = "",
        keep_rejections_bytes: int = KEPT_BYTES,
        opened_bytes: int = OPENED_BYTES,
        pace: Pace = MACHINE,
    ):
        """Take every dependency.

        `limits` are the receiver's too: new jobs of a tenant over its quota go behind those of the others, and what
        was looked at is told to `limits.unverified`. `jobs_ready` is told the tenants for whom jobs were made;
        `fresh` is told of receipts as this process commits them;
        `events_days` is how long events are kept whose tenant says nothing, 0 for good; `base_url` is what providers
        post to. So many bytes of opened bodies are held at once.

        Intervals: `admission.gather`, between looks at what came, unless more waits than is admitted at once;
        `admission.patience`, for which a batch waits to know its sources, before their receipts are undecided;
        `admission.retry`, at which undecided receipts are looked at; and `admission.recount`, at which they are
        counted.
        """
        self._db = db
        self._tasks = tasks
        self._sources = sources
        keep = Bounds(keep_rejections, keep_rejections_bytes, sources.quotas_of)
        in_order = db.features.numbers_in_order
        self._outcomes = Outcomes(queue, tasks, keep, db.clock, numbers_in_order=in_order)
        self._jobs_ready = jobs_ready
        self._unverified = limits.unverified
        self._batches = batches or Batches()
        self._fresh = fresh or Fresh()
        self._backlog = backlog_of(db, self._fresh)
        self._undecided = Undecided()
        self._pace = pace
        self._gather_seconds = pace.interval("admission.gather", _GATHER_SECONDS)
        self._patience_seconds = pace.interval("admission.patience", _PATIENCE_SECONDS)
        self._gathered = -math.inf
        self._retry_seconds = pace.interval("admission.retry", 2.0)
        self._recount_seconds = pace.interval("admission.recount", 5.0)
        self._recounting = asyncio.Lock()
        self._opened_bytes = opened_bytes
        self._events_days = events_days
        self._base_url = base_url
        self._is_over = limits.is_over
        self._wake = asyncio.Event()
        self._last = 0  # how many the last look found

    def soon(self) -> None:
        """Say that a receipt was committed. Called once a webhook: it must cost nothing."""
        self._wake.set()

    async def run(self) -> None:
        """Admit for ever; a store that fails is tried again."""
        counting = every(self._recount_seconds, "unverified", self.recount, sleep=self._pace.sleep)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._admit_for_ever())
            group.create_task(counting)

    async def _admit_for_ever(self) -> None:
        while True:
            await wait_until(self._wake, self._retry_seconds)
            await self._gather()
            self._wake.clear()
            try:
                while await self.step():
                    pass
            except StoreError as error:
                log.warning("admission_store_failed", error=str(error))
                await self._pace.sleep(0.5)
            except Exception as error:  # whatever it is, it must not end every source's admission
                log.error("admission_failed", exc_info=error)
                await self._pace.sleep(0.5)

    async def _gather(self) -> None:
        """Wait for those of a stream that come next; one that comes alone waits for none."""
        left = self._gathered + self._gather_seconds - self._pace.clock()
        if left > 0:
            await self._pace.sleep(left)
        self._gathered = self._pace.clock()

    async def step(self) -> bool:
        """Admit one batch; True when there may be more."""
        pressure = self._db.pressure
        came_before = self._unverified.waiting()
        most = self._batches.under(pressure)
        if self._last < _FEW and pressure is not Pressure.CROWD:
            most = min(_FEW, most)
            batch = await self._db.peek(lambda conn: self._backlog.read(conn, most))
        else:
            batch = await self._db.read(lambda conn: self._backlog.read(conn, most))
        self._fresh.forget(batch.cursor)
        self._last = most if batch.more else len(batch.rows)
        if not batch.rows:
            if batch.after > batch.cursor:
                # The last that came were admitted ahead of others: the cursor passes them, and none stays noted.
                await self._write((), self._backlog, batch)
            LAG.set(0)
            self._unverified.looked_at(came_before, ())  # another process did
            return batch.more
        await self._admit(batch)
        LAG.set((datetime.now(UTC) - batch.rows[0].received_at).total_seconds())
        return batch.more

    async def _admit(self, batch: Batch) -> None:
        """Decide about a batch and write it, part by part; about a part is decided while the one before is written."""
        writing: asyncio.Task[None] | None = None
        rest = batch
        try:
            while rest.rows:
                decisions = await self._decide(rest.rows[:PART])
                part, rest = rest.cut(len(decisions))
                if writing is not None:
                    await writing
                if rest.rows:
                    writing = asyncio.ensure_future(self._write(decisions, self._backlog, part))
                else:
                    writing = None
                    await self._write(decisions, self._backlog, part)
        except Exception:
            await asyncio.gather(*filter(None, [writing]), return_exceptions=True)
            raise
        finally:
            if writing is not None:
                writing.cancel()

    async def look_again(self, house: str, subject: str) -> float | None:
        """Do what the task of undecided receipts is to do; in how many seconds again, None when there are none."""
        return self._retry_seconds if await self.retry_undecided() else None

    def none_undecided(self, conn: sa.Connection) -> bool:
        """Say whether no receipt is undecided."""
        return self._undecided.count(conn)[0] == 0

    async def retry_undecided(self) -> int:
        """Look again at receipts whose source could not be asked for when they came; how many are left."""
        most, after = self._batches.usual, ""
        while sources := await self._db.read(lambda conn: self._undecided.sources(conn, after, most)):  # noqa: B023
            after = sources[-1]
            known, _ = await self._known(sources, _RETRY_SECONDS)
            while known:
                batch = await self._db.read(lambda conn: self._undecided.read(conn, known, most))  # noqa: B023
                if not batch.rows:
                    break
                decided = {d.seq: d for d in await self._decide(batch.rows) if not d.undecided}
                if not decided:
                    break
                done = Batch([row for row in batch.rows if row.seq in decided])
                await self._write(list(decided.values()), self._undecided, done)
        return await self.recount()

    async def recount(self) -> int:
        """Count what is undecided, whichever process left or decided it; how many."""
        async with self._recounting:
            self._unverified.begin_recount()
            waiting, weight = await self._db.read(self._undecided.count)
            self._unverified.recount(waiting, weight)
        return waiting

    def _count(self, admitted: Admitted) -> None:
        """Count outside the transaction, which may run more than once."""
        new, redelivered, dropped, tenants = admitted
        ADMITTED.labels("tenant_deleted").inc(dropped)
        ADMITTED.labels("new").inc(new)
        ADMITTED.labels("redelivery").inc(redelivered)
        if new:
            self._jobs_ready(tenants)

    async def _decide(self, rows: Sequence[Receipt]) -> list[Decision]:
        """Decide about the rows, in order, or the first of them whose opened bodies are as much as is held at once."""
        known, unsure = await self._known({row.source_id for row in rows}, self._patience_seconds)
        decisions: list[Decision] = []
        room = self._opened_bytes
        for start in range(0, len(rows), _SLICE):
            for row in rows[start : start + _SLICE]:
                source, unsure_of_it = known.get(row.source_id), row.source_id in unsure
                given = (row, source, unsure_of_it, self._events_days, self._base_url)
                heavy = is_heavy(row.body) or _ENCODED in row.headers
                decision = await asyncio.to_thread(decide, *given) if heavy else decide(*given)
                if source is not None and decision.job is not None and self._is_over(source):
                    later = replace(decision.job, queue_class=QueueClass.BACKGROUND)
                    decision = replace(decision, job=later)
                decisions.append(decision)
                if decision.body is not None:
                    room -= len(decision.body)
                    if room <= 0:
                        return decisions
            # Half a millisecond of parsing, then the loop answers webhooks: a thread for it would cost as much again.
            await asyncio.sleep(0)
        return decisions

    async def _known(
        self, source_ids: Iterable[str], seconds: float
    ) -> tuple[dict[str, Source | None], set[str]]:
        """Return the sources, None for one that is not there, and the ids of those of which nobody can tell in time.

        Unknown ones are asked for side by side; an answer that comes later is there the next time.
        """
        known: dict[str, Source | None] = {}
        asked: dict[str, asyncio.Task[Source | None]] = {}
        for source_id in source_ids:
            source = self._sources.get(source_id)
            if source is None:
                asked[source_id] = asyncio.ensure_future(self._sources.resolve(source_id))
            else:
                known[source_id] = source
        if asked:
            await asyncio.wait(asked.values(), timeout=seconds)
        unsure: set[str] = set()
        for source_id, task in asked.items():
            try:
                if task.done():
                    known[source_id] = task.result()
                    continue
                task.cancel()
            except TrunklineError:
                pass
            unsure.add(source_id)
        return known, unsure

    async def _write(self, decisions: Sequence[Decision], backlog: Looked, batch: Batch) -> None:
        """Write the decisions about a batch, one each, and count them.

        A batch that cannot be written is written by halves, so that the others of it go on however it failed; what
        cannot be written alone is set aside.
        """
        try:
            admitted = await self._in_background(decisions, backlog, batch)
        except Exception as error:
            if getattr(error, "transient", False):
                raise
            why = type(error).__name__
        else:
            self._count(admitted)
            self._looked_at(decisions, batch.rows)
            _trace(decisions, batch.rows)
            return
        half = len(decisions) // 2
        if half:
            first, rest = batch.cut(half)
            await self._write(decisions[:half], backlog, first)
            await self._write(decisions[half:], backlog, rest)
        else:
            await self._set_aside(decisions[0], why, backlog, batch)

    def _looked_at(self, decisions: Sequence[Decision], rows: Sequence[Receipt]) -> None:
        """Tell what was looked at as soon as it is committed: writing the rest of its batch may fail."""
        undecided = {d.seq for d in decisions if d.undecided}
        if undecided and not self._unverified.undecided:
            self._tasks.soon()
        if undecided or self._unverified.waiting():
            weights = [weight(row) for row in rows if row.seq in undecided]
            self._unverified.looked_at([row.receipt_id for row in rows], weights)

    async def _set_aside(self, decision: Decision, why: str, backlog: Looked, batch: Batch) -> None:
        """Write the best of what a decision can become that cannot be written.

        The last that is tried holds nothing but what the store has taken already. Raises where not even that is taken:
        it is the store's trouble then, and the receipt waits.
        """
        (row,) = batch.rows
        dead_letter = set_aside(decision, f"it could not be kept ({why})")
        for lesser in filter(None, (dead_letter, bare(decision, row))):
            try:
                admitted = await self._in_background([lesser], backlog, batch)
                break
            except Exception as error:
                if getattr(error, "transient", False):
                    raise
        else:
            lesser = bare(Decision(row.seq, row.source_id), row)
            admitted = await self._in_background([lesser], backlog, batch)
        self._looked_at([lesser], batch.rows)
        SET_ASIDE.labels("admission").inc()
        log.error(
            "receipt_set_aside",
            seq=row.seq,
            receipt=row.receipt_id,
            error=why,
            dead_letter=lesser.event is not None,
        )
        self._count(admitted)

    async def _in_background(self, decisions: Sequence[Decision], backlog: Looked, batch: Batch) -> Admitted:
        admitted, seconds = await self._db.write(
            lambda conn: self._timed(conn, decisions, backlog, batch), background=True
        )
        if decisions and not self._db.features.shared:  # elsewhere nobody waits for it to end
            self._batches.took(len(decisions), seconds)
        return admitted

    def _timed(
        self, conn: sa.Connection, decisions: Sequence[Decision], backlog: Looked, batch: Batch
    ) -> tuple[Admitted, float]:
        began = self._pace.clock()
        return self._apply(conn, decisions, backlog, batch), self._pace.clock() - began

    def _apply(
        self, conn: sa.Connection, decisions: Sequence[Decision], backlog: Looked, batch: Batch
    ) -> Admitted:
        """Write the decisions about a batch in the open transaction."""
        taken = backlog.take(conn, batch)
        if len(taken) < len(decisions):  # another admission was faster: the next read starts behind it
            decisions = [d for d in decisions if d.seq in taken]
        return self._outcomes.write(conn, decisions, batch.rows)


def _trace(decisions: Sequence[Decision], rows: Sequence[Receipt]) -> None:
    for decision, row in zip(decisions, rows, strict=False):
        if decision.event is not None and traces.is_sampled(row.receipt_id):
            traces.admitted(row, decision.tenant_id, decision.event["event_id"])
