"""A queue of this process's own store as a source of jobs (trunkline_work), and reports written to any queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from trunkline_runtime.errors import Internal, TrunklineError
from trunkline_runtime.errors.coded import domain_error
from trunkline_runtime.process.pace import wait_until
from trunkline_store import Database
from trunkline_work import Advanced, Dead, Done, JobKey, LeasedJob, Outcome, Report, Retry, Slots, Wait

from trunkline_jobs.claim import Tries
from trunkline_jobs.leases import Ended
from trunkline_jobs.model import NOT_TOLD, Job, Lease, LeaseLost, QueueClass, Ran
from trunkline_jobs.queue import Queue

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""At this interval a claim that waits looks for what became due by time alone."""
_NO_CAPS: Mapping[int, int] = {}


class Subjects:
    """What the jobs of a queue are about: read with a claim and written with a report, in the same transaction.

    Transactions may run again: the methods that take a Connection keep nothing outside it. This one has nothing
    beside the jobs, and their handlers work on the stored Job.
    """

    keeps_jobs: bool = True
    """Whether a job's row stays when it ends, as done or as a dead letter; otherwise it is removed."""

    def begun(self, conn: Connection, job: Job) -> Any:
        """Return what the job's handler works on; None: it is about nothing any more, and is removed."""
        return job

    def given_up(self, conn: Connection, ended: Ended) -> None:
        """Write that a job was buried whose last holder vanished."""

    def outcome_of(self, conn: Connection, report: Report) -> Outcome:
        """Return what becomes of the job: what the report says, unless the store knows better."""
        return report.outcome

    def reported(self, conn: Connection, report: Report) -> None:
        """Write what became of a job, after it was applied to it."""

    def committed(self, report: Report) -> None:
        """Hear that a report was written for good."""


class LocalJobs:
    """The jobs of one queue for one worker, which is the queue's owner by that name. See trunkline_work.JobSource."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        owner: str,
        *,
        lease_seconds: float,
        most_attempts: Callable[[str], int],
        subjects: Subjects | None = None,
        classes: Sequence[int] = tuple(QueueClass),
        in_flight_caps: Mapping[int, int] = _NO_CAPS,
        ready: asyncio.Event | None = None,
        doubt: asyncio.Event | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Take the store and the queue in it.

        `most_attempts` tells how many runs a stage has before a job is given up whose workers vanish. `ready` is set by
        whoever enqueues jobs, and `doubt` by whoever removes jobs that may be under a lease.
        """
        self._db = db
        self._queue = queue
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._most_attempts = most_attempts
        self._subjects = subjects or Subjects()
        self._classes = tuple(classes)
        self._caps = in_flight_caps
        self._ready = ready or asyncio.Event()
        self._look_seconds = look_seconds
        self._exhausted = False  # the last claim left slots free: there was no more
        self.doubt = doubt or asyncio.Event()

    async def claim(self, slots: Slots, wait_seconds: float) -> list[LeasedJob]:
        """Lease jobs for the slots that are free, now or within the time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_seconds
        while True:
            if self._exhausted:
                await self._rest(until - loop.time())
            self._ready.clear()
            free = slots.free
            jobs: list[LeasedJob] = []
            more = False
            if free > 0:
                kinds = slots.free_of_kinds()
                jobs, more = await _told(self._db.write(lambda conn: self._lease(conn, free, kinds)))  # noqa: B023
            self._exhausted = not more and len(jobs) < max(1, free)
            if jobs or loop.time() >= until:
                return jobs

    def slot_freed(self) -> None:
        """Let a claim that waits look again."""
        self._ready.set()

    async def renew(self, jobs: Sequence[LeasedJob]) -> set[JobKey]:
        """Lengthen leases, all in one transaction."""

        def work(conn: Connection) -> set[JobKey]:
            lost = set()
            for job in jobs:
                try:
                    self._queue.renew(conn, lease_of(job), self._lease_seconds)
                except LeaseLost:
                    lost.add(job.key)
            return lost

        return await _told(self._db.write(work))

    async def report(self, reports: Sequence[Report]) -> set[JobKey]:
        """Apply reports, all in one transaction: where one is refused, none is applied."""

        def work(conn: Connection) -> tuple[set[JobKey], list[Report]]:
            lost, written = set(), []
            for told in reports:
                report = replace(told, outcome=self._subjects.outcome_of(conn, told))
                try:
                    self._apply(conn, report)
                except LeaseLost:
                    lost.add(report.job.key)
                else:
                    self._subjects.reported(conn, report)
                    written.append(report)
            return lost, written

        lost, written = await _told(self._db.write(work))
        for report in written:
            self._subjects.committed(report)
            # Found in time, however seldom is looked; what is due at once is, when its slot is free.
            if isinstance(report.outcome, Wait | Retry) and report.outcome.delay > 0:
                asyncio.get_running_loop().call_later(report.outcome.delay, self._ready.set)
        return lost

    def _apply(self, conn: Connection, report: Report) -> None:
        lease = lease_of(report.job)
        if isinstance(report.outcome, Done | Dead) and not self._subjects.keeps_jobs:
            self._queue.remove(conn, lease)
            return
        ran = Ran(report.began, report.ended, report.passed)
        apply_outcome(self._queue, conn, lease, report.outcome, report.made, ran)

    async def release(self) -> int:
        """Give back what the owner holds."""
        return await _told(self._queue.run(self._queue.release, self._owner))

    async def _rest(self, seconds: float) -> None:
        await wait_until(self._ready, min(seconds, self._look_seconds))

    def _lease(
        self, conn: Connection, free: int, free_of_kinds: Mapping[str, int]
    ) -> tuple[list[LeasedJob], bool]:
        """Return the jobs that were leased, and whether there may be more although slots are left."""
        tries = Tries(self._most_attempts)
        jobs = self._queue.claim(
            conn,
            self._owner,
            free,
            self._lease_seconds,
            classes=self._classes,
            in_flight_caps=self._caps,
            kinds=free_of_kinds,
            tries=tries,
        )
        for ended in tries.given_up:
            self._subjects.given_up(conn, ended)
        leased = []
        for job in jobs:
            payload = self._subjects.begun(conn, job)
            if payload is None:
                self._queue.remove(conn, job.lease)
            else:
                leased.append(_leased(job, payload))
        return leased, len(leased) < len(jobs) or bool(tries.given_up)


def apply_outcome(
    queue: Queue,
    conn: Connection,
    lease: Lease,
    outcome: Outcome,
    made: Mapping[str, Any] | None = None,
    ran: Ran = NOT_TOLD,
) -> Ended:
    """Write to a leased job what became of its run; what it was about. Raises LeaseLost."""
    match outcome:
        case Advanced(stage):
            return queue.advance(conn, lease, stage, made, ran)
        case Done():
            return queue.complete(conn, lease, made, ran)
        case Retry(delay, reason):
            return queue.reschedule(conn, lease, delay, True, {"message": reason}, made, ran)
        case Wait(delay, reason, background):
            later = QueueClass.BACKGROUND if background else None
            return queue.reschedule(conn, lease, delay, False, {"message": reason}, made, ran, later)
        case Dead(reason):
            return queue.bury(conn, lease, {"message": reason}, made, ran)


def lease_of(job: LeasedJob) -> Lease:
    """Return what the worker that has a job shows."""
    return Lease(job.tenant, job.job_id, job.lease_token)


def _leased(job: Job, payload: Any) -> LeasedJob:
    return LeasedJob(
        job.job_id,
        job.lease_token,
        job.kind,
        job.tenant_id,
        job.stage,
        job.attempts,
        job.stage_began_at,
        payload,
    )


async def _told(work: Awaitable[T]) -> T:
    """Return what work on the store returns. Raises TrunklineError, which a bug becomes as well."""
    try:
        return await work
    except TrunklineError:
        raise
    except Exception as error:
        raise domain_error(error) or Internal(type(error).__name__) from error
