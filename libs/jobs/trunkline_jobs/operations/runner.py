"""What works on a service's operations, in the service itself: a worker (trunkline_work) over the queue beside them.

A process that dies leaves leases behind, which run out: the operation is then claimed again, by the same service after
its restart or by another replica. An end is written with the lease's fencing token, so it is written once.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

import trunkline_work as work
from google.protobuf.message import DecodeError, Message
from sqlalchemy.engine import Connection
from trunkline_runtime.errors import (
    Aborted,
    DataLoss,
    Internal,
    TrunklineError,
    Unavailable,
    Unknown,
    to_status,
)
from trunkline_runtime.errors.coded import domain_error
from trunkline_runtime.observe import logs, tracing
from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_runtime.process.pace import MACHINE, Pace

from trunkline_jobs.leases import Ended
from trunkline_jobs.local import LOOK_SECONDS, LocalJobs, Subjects, lease_of
from trunkline_jobs.model import Job, LeaseLost, QueueClass
from trunkline_jobs.operations.model import Operation, OperationState
from trunkline_jobs.operations.rows import TRACE, Operations

log = logs.get_logger(__name__)

ENDED = counter(
    "trunkline_operations_ended_total", "Operations by kind and how they ended.", ["kind", "state"]
)
RUNNING = gauge("trunkline_operations_running", "Operations that are worked on now.")

LEASE_SECONDS = 10.0
"""How long the operation of a killed process waits."""
TENANTS_SHARE = 0.75
"""Of the slots: the rest is left to other tenants."""
# Bugs, broken machines and lost races: worth another attempt, and spending one.
_PASSING = (Aborted, Internal, Unknown)


class TellProgress(Protocol):
    """Replaces an operation's metadata by what is known so far."""

    async def __call__(self, metadata: Message, beside: Callable[[Connection], None] | None = None) -> None:
        """Write the metadata, and in the same transaction `beside`: what the next attempt need not do again.

        Attempts are then counted anew, since this one got on. Raises LeaseLost when the operation is another's by now.
        """


@dataclass(frozen=True)
class Work:
    """One attempt at an operation, as its kind's function is given it."""

    tenant: str
    """The bare tenant id."""
    operation: str
    """The operation's name."""
    request: Any
    """The message that started it."""
    attempt: int
    """Counted from 1; an attempt that ended with its process counts, unless it got on."""
    state: TellProgress


@dataclass(frozen=True)
class OperationKind:
    """One kind of operation: what starts it, and what works on it.

    `work` returns the response, and may be run again after any part of it: ids of what it makes derive from the
    request. An error of its that is transient makes the operation wait, for `patience` at most, and spends no attempt;
    what may be a passing fault (ABORTED, INTERNAL, a bug) spends one of `attempts`; any other ends the operation.
    `slots` is how many of the runner's slots the kind may take; None: all of them.
    """

    name: str
    request: type[Message]
    work: Callable[[Work], Awaitable[Message]]
    attempts: int = 3
    patience: timedelta = timedelta(days=1)
    slots: int | None = None


class OperationRunner:
    """Works on the operations of these kinds, `slots` at a time: by class, and the tenants of a class in turns."""

    def __init__(
        self,
        operations: Operations,
        kinds: Sequence[OperationKind],
        *,
        slots: int,
        stopping: asyncio.Event | None = None,
        pace: Pace = MACHINE,
        lease_seconds: float = LEASE_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is claimed once `stopping` is set.

        Intervals: `operations.look`, at which it looks for what became due by time alone.
        """
        known = {kind.name: kind for kind in kinds}
        self._stopping = stopping or asyncio.Event()
        source = LocalJobs(
            operations.db,
            operations.queue,
            f"operations-{random.SystemRandom().getrandbits(64):016x}",
            lease_seconds=lease_seconds,
            # An operation's one stage is its kind.
            most_attempts=lambda stage: known[stage].attempts if stage in known else 1,
            subjects=_OperationRows(operations),
            in_flight_caps=dict.fromkeys(QueueClass, math.ceil(slots * TENANTS_SHARE)),
            ready=operations.started,
            doubt=operations.cancelled,
            look_seconds=pace.interval("operations.look", LOOK_SECONDS),
        )
        terms = work.Terms(
            slots=slots,
            lease_seconds=lease_seconds,
            report_seconds=math.inf,
            gather_seconds=0.0,
            fence_only=True,
        )
        handlers = _Handlers(operations, known, lease_seconds, jitter)
        self._worker = work.Worker(source, handlers.kinds(), terms, _Operator())

    async def run(self) -> None:
        """Claim and work until the process stops, or this is cancelled."""
        await self._worker.claim_until(self._stopping)

    async def close(self) -> None:
        """Stop the work that is under way and give it back, no attempt spent; it goes on after the next start."""
        await self._worker.close()


class _Begun(NamedTuple):
    operation: Operation
    traceparent: str | None


class _OperationRows(Subjects):
    """Operations as what jobs are about: written with every change of their jobs, which end with them."""

    keeps_jobs = False

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def begun(self, conn: Connection, job: Job) -> _Begun | None:
        operation = self._operations.read(conn, job.tenant_id, job.job_id)
        if operation is None or operation.done:
            return None
        self._operations.began(conn, job.tenant_id, job.job_id, job.attempts)
        return _Begun(operation, job.checkpoint.get(TRACE))

    def given_up(self, conn: Connection, ended: Ended) -> None:
        gone = Unavailable("the service stopped during the last attempt", reason="GIVEN_UP")
        self._operations.end(
            conn, ended.tenant_id, ended.subject, OperationState.FAILED, error=to_status(gone)
        )
        self._operations.queue.drop(conn, ended.subject, tenant_id=ended.tenant_id)

    def reported(self, conn: Connection, report: work.Report) -> None:
        job, operations = report.job, self._operations
        match report.outcome:
            case work.Done(response):
                operations.end(conn, job.tenant, job.job_id, OperationState.SUCCEEDED, response=response)
            case work.Dead(reason, cause):
                error = to_status(cause or Internal(reason))
                operations.end(conn, job.tenant, job.job_id, OperationState.FAILED, error=error)
            case work.Wait(cause=TrunklineError() as cause):
                operations.halted(conn, job.tenant, job.job_id, job.attempts - 1, to_status(cause))
            case work.Retry(cause=TrunklineError() as cause):
                operations.halted(conn, job.tenant, job.job_id, job.attempts, to_status(cause))

    def committed(self, report: work.Report) -> None:
        match report.outcome:
            case work.Done():
                state = OperationState.SUCCEEDED
            case work.Dead():
                state = OperationState.FAILED
            case _:
                return
        ENDED.labels(report.job.kind, state.value).inc()
        self._operations.told(report.job.tenant, report.job.job_id)


class _Operator(work.Observer):
    """Counts, and logs what is particular to operations."""

    def claim_failed(self, error: TrunklineError, retry_seconds: float) -> None:
        bug = error.__cause__ if isinstance(error, Internal) else None  # nothing would be worked on any more
        level = log.warning if bug is None else log.error
        level("operations_not_claimed", reason=error.reason, retry_seconds=retry_seconds, exc_info=bug)

    def running(self, jobs: int) -> None:
        RUNNING.set(jobs)

    def lost(self, attempt: work.Attempt) -> None:
        log.info("operation_lost", kind=attempt.leased.kind)


class _Handlers:
    """The kinds of operation as kinds of job."""

    def __init__(
        self,
        operations: Operations,
        kinds: Mapping[str, OperationKind],
        lease_seconds: float,
        jitter: Callable[[], float],
    ) -> None:
        self._operations = operations
        self._kinds = kinds
        self._lease_seconds = lease_seconds
        self._jitter = jitter

    def kinds(self) -> list[work.Kind[work.Attempt]]:
        return [
            work.Kind(kind.name, self.handle, self.follow_up, lambda job, _: work.Attempt(job), kind.slots)
            for kind in self._kinds.values()
        ]

    async def handle(self, attempt: work.Attempt) -> Message:
        """Make one attempt; whoever loses the lease meanwhile writes nothing."""
        job, (operation, traceparent) = attempt.leased, attempt.leased.payload
        place = tracing.incoming(traceparent) or tracing.new_trace()
        tracing.enter(place)  # for what follows of a failure, too
        logs.bind(tenant=job.tenant, operation=operation.name)
        kind = self._kinds[job.kind]
        request = kind.request()
        try:
            request.ParseFromString(operation.request)
        except DecodeError:
            raise DataLoss("the request of the operation cannot be read") from None

        def state(conn: Connection, metadata: Message, beside: Callable[[Connection], None] | None) -> None:
            self._operations.queue.renew(conn, lease_of(job), self._lease_seconds)
            if beside is not None:
                if attempt.leased.attempts > 1:
                    self._operations.queue.advance(conn, lease_of(job), job.stage)
                beside(conn)
            self._operations.state(conn, job.tenant, job.job_id, metadata)

        async def stated(metadata: Message, beside: Callable[[Connection], None] | None = None) -> None:
            await self._operations.db.write(lambda conn: state(conn, metadata, beside))
            if beside is not None and attempt.leased.attempts > 1:
                attempt.leased = replace(attempt.leased, attempts=1)
            self._operations.stirred(job.tenant, job.job_id)

        name = f"operation.{job.kind}"
        with tracing.resumed_span(name, place, tenant=job.tenant, attempt=job.attempts):
            return await kind.work(Work(job.tenant, operation.name, request, job.attempts, stated))

    async def follow_up(self, attempt: work.Attempt, cause: Exception) -> work.FollowUp | None:
        """Say what follows from a failure."""
        if isinstance(cause, LeaseLost):
            return None
        job, error = attempt.leased, _domain_error(cause)
        then = self._follow_up(self._kinds[job.kind], job, error)
        ends = isinstance(then, work.Dead)
        level = log.error if ends and isinstance(error, Internal) else log.warning
        level(
            "operation_stopped",
            kind=job.kind,
            reason=error.reason,
            attempt=job.attempts,
            again_seconds=None if isinstance(then, work.Dead) else round(then.delay, 1),
            exc_info=cause if isinstance(error, Internal) else None,
        )
        return then

    def _follow_up(self, kind: OperationKind, job: work.LeasedJob, error: TrunklineError) -> work.FollowUp:
        if error.transient:
            waited = self._now() - (job.stage_began_at or self._now())
            if waited >= kind.patience:
                return work.Dead(error.reason, error)
            # Often at first, then seldom: all of a service's operations may wait for the same thing.
            delay = max(error.retry_after or 1.0, min(30.0, waited.total_seconds() / 4))
            return work.Wait(delay * (1 + 0.25 * self._jitter()), error.reason, cause=error)
        if isinstance(error, _PASSING) and job.attempts < kind.attempts:
            delay = min(60.0, 2.0**job.attempts) * (0.5 + 0.5 * self._jitter())
            return work.Retry(delay, error.reason, error)
        return work.Dead(error.reason, error)

    def _now(self) -> datetime:
        return self._operations.db.clock.now()


def _domain_error(cause: Exception) -> TrunklineError:
    """Return the domain error that an attempt's failure is; a bug shows nothing of itself."""
    if isinstance(cause, TrunklineError):
        return cause
    return domain_error(cause) or Internal(type(cause).__name__)
