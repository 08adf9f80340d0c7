"""Tasks: a service's own work as jobs of a small queue, done once over all of its processes, and after a crash too.

A task says what is to be done by its kind, and for what by its tenant and subject; everything else lies in the
service's own tables. Asking for one that is there changes nothing. A task ends when nothing of it is left; until then
it is run again, however often it failed.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa
import trunkline_work as work
from sqlalchemy.engine import Connection
from trunkline_runtime.errors import Internal, TrunklineError
from trunkline_runtime.errors.coded import domain_error
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.process.periodic import SET_ASIDE, place_of
from trunkline_runtime.resilience import Pauses
from trunkline_store import Database, StoreError

from trunkline_jobs.leases import Ended
from trunkline_jobs.local import LocalJobs, Subjects
from trunkline_jobs.model import JobState, LeaseLost, NewJob, QueueClass
from trunkline_jobs.queue import Queue

log = get_logger(__name__)

HOUSE = "-"
"""Stands for the tenant of tasks that are no tenant's."""
LEASE_SECONDS = 10.0
"""How long the task of a killed process waits."""
MOST_FAILURES = 5
"""So often in a row may a task fail that can fail for good."""
_LOOK_SECONDS = 5.0
_PAUSES = Pauses(2.0, 300.0)
_MOST_DOUBLED = 16
_UNKNOWN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """One kind of task, of which `slots` run at once in a process."""

    name: str
    work: Callable[[str, str], Awaitable[float | None]]
    """Does what is due, given tenant and subject; returns the seconds until more is, None when nothing is left.

    May be run again after any part of it.
    """
    slots: int = 1
    is_over: Callable[[Connection], bool] = lambda conn: True
    """Says, in the transaction that ends a task, whether really nothing is left: more may have come meanwhile."""
    failed: Callable[[Connection, str, str, str], None] | None = None
    """Writes that a task failed for good, given tenant, subject, and reason; None: its kind never does."""


class Tasks:
    """The tasks of one queue, as those see them who want something done."""

    def __init__(self, db: Database, table: sa.Table) -> None:
        """Take the store, and the table that jobs_table() declared in it."""
        self.db = db
        self.table = table
        self.queue = Queue(db, table)
        self.ready = asyncio.Event()

    def put(
        self,
        conn: Connection,
        kind: str,
        *subjects: str,
        tenant: str = HOUSE,
        queue_class: QueueClass = QueueClass.REALTIME,
        hurry: bool = False,
    ) -> None:
        """Have it done for each subject (for one that is empty: at all), in the open transaction; then say `soon`.

        With `hurry` tasks that are there and wait become due.
        """
        wanted = subjects or ("",)
        self.queue.enqueue_many(
            conn,
            [
                NewJob(_id(kind, subject), tenant, kind, subject, kind, queue_class=queue_class)
                for subject in wanted
            ],
        )
        if hurry:
            c, now = self.table.c, self.queue.now(conn)
            mine = (c.tenant_id == tenant, c.subject.in_(wanted), c.kind == kind)
            later = (c.state == JobState.WAITING.value, c.visible_at > now)
            conn.execute(sa.update(self.table).where(*mine, *later).values(visible_at=now))

    def soon(self) -> None:
        """Say that tasks were put and committed."""
        self.ready.set()

    def unsettled(self, conn: Connection, kind: str) -> int:
        """Return how many tasks of a kind were not run yet, are running, or failed when they were run last."""
        c = self.table.c
        query = sa.select(sa.func.count()).select_from(self.table).where(c.kind == kind)
        return int(conn.execute(query.where(sa.or_(c.stage_began_at.is_(None), c.attempts > 0))).scalar_one())


class TaskRunner:
    """Works on tasks of these kinds. One runs per process; each takes what no other took."""

    def __init__(
        self,
        tasks: Tasks,
        kinds: Iterable[TaskKind],
        begin: Callable[[Connection], None] = lambda conn: None,
        *,
        pace: Pace = MACHINE,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """`begin` puts, before the first look, what there has to be.

        Intervals: `tasks.look`, at which it looks for tasks that other processes put, or left.
        """
        self._tasks = tasks
        self._begin = begin
        self._pace = pace
        self._kinds = {kind.name: kind for kind in kinds}
        source = LocalJobs(
            tasks.db,
            tasks.queue,
            f"tasks-{secrets.token_hex(8)}",
            lease_seconds=lease_seconds,
            most_attempts=self._most_attempts,
            subjects=_TaskRows(tasks, self._kinds),
            ready=tasks.ready,
            look_seconds=pace.interval("tasks.look", _LOOK_SECONDS),
        )
        slots = sum(kind.slots for kind in self._kinds.values())  # no kind waits for another
        terms = work.Terms(
            slots=slots,
            lease_seconds=lease_seconds,
            report_seconds=math.inf,
            gather_seconds=0.0,
            fence_only=True,
        )
        known = [
            work.Kind(kind.name, self._work, self._follow_up, lambda job, _: work.Attempt(job), kind.slots)
            for kind in self._kinds.values()
        ]
        self._worker = work.Worker(source, known, terms)

    async def run(self) -> None:
        """Work until this is cancelled; what is under way then is given back."""
        pauses = Pauses(0.5, 5.0)
        while True:
            try:
                await self._tasks.db.write(self._begin)
                break
            except StoreError as error:
                log.warning("tasks_not_begun", error=type(error).__name__)
                await pauses.rest(self._pace.sleep)
        await self.work_until(asyncio.Event())

    async def work_until(self, stop: asyncio.Event) -> None:
        """Work on what is there until `stop` is set."""
        self._tasks.soon()
        await self._worker.run(stop)

    def _most_attempts(self, stage: str) -> int:
        kind = self._kinds.get(stage)  # a task's one stage is its kind
        return MOST_FAILURES if kind is not None and kind.failed is not None else sys.maxsize

    async def _work(self, attempt: work.Attempt) -> work.Wait | None:
        job = attempt.leased
        seconds = await self._kinds[job.kind].work(job.tenant, job.payload.subject)
        return None if seconds is None else work.Wait(seconds, "there is more to do")

    async def _follow_up(self, attempt: work.Attempt, cause: Exception) -> work.FollowUp | None:
        """Say what follows from a failure: another try, later and later."""
        if isinstance(cause, LeaseLost):
            return None
        job = attempt.leased
        error = cause if isinstance(cause, TrunklineError) else domain_error(cause)
        about = {"work": job.kind, "tenant": job.tenant, "subject": job.payload.subject}
        if error is not None and error.transient:
            log.warning("task_failed", reason=error.reason, **about)
        else:
            SET_ASIDE.labels(job.kind).inc()
            log.error("set_aside", error=type(cause).__name__, at=place_of(cause), **about)
            if job.attempts >= self._most_attempts(job.kind):
                error = error or Internal(type(cause).__name__)
                return work.Dead(f"{error.reason}: {error.message}", error)
        delay = _PAUSES.after(min(job.attempts - 1, _MOST_DOUBLED))
        return work.Retry(delay, type(cause).__name__)


class _TaskRows(Subjects):
    """What becomes of tasks as they are reported on."""

    keeps_jobs = False

    def __init__(self, tasks: Tasks, kinds: dict[str, TaskKind]) -> None:
        self._tasks = tasks
        self._kinds = kinds

    def outcome_of(self, conn: Connection, report: work.Report) -> work.Outcome:
        kind = self._kinds.get(report.job.kind)
        if kind is None:  # of a later release, beside which this one runs
            return work.Retry(_UNKNOWN_SECONDS, "its kind is not known")
        if isinstance(report.outcome, work.Done) and not kind.is_over(conn):
            return work.Wait(0.0, "more came meanwhile")
        return report.outcome

    def given_up(self, conn: Connection, ended: Ended) -> None:
        self._tasks.queue.drop(conn, _id(ended.kind, ended.subject), tenant_id=ended.tenant_id)
        self._fail(conn, ended.kind, ended.tenant_id, ended.subject, "its processes died with it")

    def reported(self, conn: Connection, report: work.Report) -> None:
        job = report.job
        match report.outcome:
            case work.Wait():
                # It went well: neither earlier failures nor its story are of interest any more.
                c = self._tasks.table.c
                itself = (c.tenant_id == job.tenant, c.job_id == job.job_id)
                conn.execute(sa.update(self._tasks.table).where(*itself).values(attempts=0, history=[]))
            case work.Dead(reason):
                self._fail(conn, job.kind, job.tenant, job.payload.subject, reason)

    def _fail(self, conn: Connection, kind: str, tenant: str, subject: str, reason: str) -> None:
        failed = self._kinds[kind].failed
        if failed is not None:
            failed(conn, tenant, subject, reason)


def _id(kind: str, subject: str) -> str:
    return f"{kind}/{subject}" if subject else kind
