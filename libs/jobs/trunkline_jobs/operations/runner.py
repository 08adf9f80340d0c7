"""What works on a service's operations, in the service itself: claims their jobs, keeps the leases, writes the ends.

A process that dies leaves leases behind, which run out: the operation is then claimed again, by the same service after
its restart or by another replica. An end is written with the lease's fencing token, so it is written once.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from sqlalchemy.engine import Connection
from trunkline_runtime.coded import domain_error
from trunkline_runtime.errors import (
    Aborted,
    DataLoss,
    Internal,
    TrunklineError,
    Unavailable,
    Unimplemented,
    Unknown,
    to_status,
)
from trunkline_runtime.observe import logs
from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_runtime.process.pace import MACHINE, Pace
from trunkline_runtime.resilience import Pauses
from trunkline_store import StoreError

from trunkline_jobs.claim import Tries
from trunkline_jobs.model import Job, LeaseLost, QueueClass
from trunkline_jobs.operations.model import Operation, OperationState
from trunkline_jobs.operations.rows import Operations

log = logs.get_logger(__name__)

ENDED = counter(
    "trunkline_operations_ended_total", "Operations by kind and how they ended.", ["kind", "state"]
)
RUNNING = gauge("trunkline_operations_running", "Operations that are worked on now.")

LEASE_SECONDS = 10.0
"""How long the operation of a killed process waits."""
_LOOK_SECONDS = 1.0
TENANTS_SHARE = 0.75
"""Of the slots: the rest is left to other tenants."""
# Bugs, broken machines and lost races: worth another attempt, and spending one.
_PASSING = (Aborted, Internal, Unknown)


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
    """Counted from 1; an attempt that ended with its process counts."""
    state: Callable[[Message], Awaitable[None]]
    """Replaces the metadata by what is known so far. Raises LeaseLost when the operation is another's by now."""


@dataclass(frozen=True)
class Kind:
    """One kind of operation: what starts it, and what works on it.

    `work` returns the response, and may be run again after any part of it: ids of what it makes derive from the
    request. An error of its that is transient makes the operation wait, for `patience` at most, and spends no attempt;
    what may be a passing fault (ABORTED, INTERNAL, a bug) spends one of `attempts`; any other ends the operation.
    """

    name: str
    request: type[Message]
    work: Callable[[Work], Awaitable[Message]]
    attempts: int = 3
    patience: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class _Again:
    delay: float
    spend: bool


class OperationRunner:
    """Works on the operations of these kinds, `slots` at a time, the tenants in turns."""

    def __init__(
        self,
        operations: Operations,
        kinds: Sequence[Kind],
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
        self._operations = operations
        self._queue = operations.queue
        self._kinds: Mapping[str, Kind] = {kind.name: kind for kind in kinds}
        self._slots = slots
        self._caps: Mapping[int, int] = {QueueClass.REALTIME: math.ceil(slots * TENANTS_SHARE)}
        self._stopping = stopping or asyncio.Event()
        self._look_seconds = pace.interval("operations.look", _LOOK_SECONDS)
        self._lease_seconds = lease_seconds
        self._jitter = jitter
        self._owner = f"operations-{random.SystemRandom().getrandbits(64):016x}"
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Claim and work until the process stops, or this is cancelled."""
        wake = self._operations.started
        while not self._stopping.is_set():
            wake.clear()
            free = self._slots - len(self._tasks)
            claimed: list[tuple[Job, Operation]] = []
            if free > 0:
                try:
                    claimed = await self._operations.db.write(lambda conn: self._claim(conn, free))  # noqa: B023
                except StoreError as error:
                    log.warning("operations_not_claimed", reason=error.reason)
                except Exception as error:  # a bug, over which nothing would be worked on any more
                    log.error("operations_not_claimed", exc_info=error)
            for job, operation in claimed:
                task = asyncio.create_task(self._work(job, operation))
                self._tasks.add(task)
                task.add_done_callback(self._left)
            RUNNING.set(len(self._tasks))
            if len(claimed) < free or free <= 0:
                await _within(wake, self._look_seconds)

    async def close(self) -> None:
        """Stop the work that is under way and give it back, no attempt spent; it goes on after the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._queue.run(self._queue.release, self._owner)
        except StoreError as error:  # the leases run out by themselves
            log.warning("operations_not_released", reason=error.reason)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        RUNNING.set(len(self._tasks))
        self._operations.started.set()  # its slot is free
        if not task.cancelled() and task.exception() is not None:
            log.error("operation_broke", exc_info=task.exception())

    def _claim(self, conn: Connection, free: int) -> list[tuple[Job, Operation]]:
        """Lease jobs; end those whose last attempt ended with its process."""
        tries = Tries(self._attempts)
        jobs = self._queue.claim(
            conn,
            self._owner,
            free,
            self._lease_seconds,
            classes=(QueueClass.REALTIME,),
            in_flight_caps=self._caps,
            tries=tries,
        )
        for ended in tries.given_up:
            gone = Unavailable("the service stopped during the last attempt", reason="GIVEN_UP")
            self._operations.end(
                conn, ended.tenant_id, ended.subject, OperationState.FAILED, error=to_status(gone)
            )
            self._queue.drop(conn, ended.subject, tenant_id=ended.tenant_id)
        claimed = []
        for job in jobs:
            operation = self._operations.read(conn, job.tenant_id, job.job_id)
            if operation is None or operation.done:
                self._queue.remove(conn, job.job_id, job.lease_token)
            else:
                self._operations.began(conn, job.tenant_id, job.job_id, job.attempts)
                claimed.append((job, operation))
        return claimed

    def _attempts(self, kind: str) -> int:
        found = self._kinds.get(kind)
        return found.attempts if found is not None else 1

    async def _work(self, job: Job, operation: Operation) -> None:
        """Make one attempt; whoever loses the lease meanwhile writes nothing."""
        logs.bind(tenant=job.tenant_id, operation=operation.name)
        attempt = asyncio.create_task(self._attempt(job, operation))
        keeping = asyncio.create_task(self._keep(job))
        try:
            await asyncio.wait({attempt, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done():
                log.info("operation_lost", kind=job.kind)
                return
            await self._settle(job, attempt)
        finally:
            attempt.cancel()
            keeping.cancel()
            await asyncio.gather(attempt, keeping, return_exceptions=True)

    async def _attempt(self, job: Job, operation: Operation) -> Message:
        kind = self._kinds.get(job.kind)
        if kind is None:
            raise Unimplemented(f"{job.kind} is not known any more", reason="KIND_UNKNOWN")
        request = kind.request()
        try:
            request.ParseFromString(operation.request)
        except DecodeError:
            raise DataLoss("the request of the operation cannot be read") from None

        def state(conn: Connection, metadata: Message) -> None:
            self._queue.renew(conn, job.job_id, job.lease_token, self._lease_seconds)
            self._operations.state(conn, job.tenant_id, job.job_id, metadata)

        async def stated(metadata: Message) -> None:
            await self._operations.db.write(lambda conn: state(conn, metadata))

        return await kind.work(Work(job.tenant_id, operation.name, request, job.attempts, stated))

    async def _keep(self, job: Job) -> None:
        """Renew the lease until it is lost, as it is when somebody cancels the operation."""
        with self._operations.ending(job.tenant_id, job.job_id) as ended:
            while True:
                await _within(ended, self._lease_seconds / 3)
                ended.clear()
                try:
                    await self._queue.run(self._queue.renew, job.job_id, job.lease_token, self._lease_seconds)
                except LeaseLost:
                    return
                except StoreError as error:  # the fence holds, whatever becomes of the lease
                    log.warning("operation_not_renewed", reason=error.reason)

    async def _settle(self, job: Job, attempt: asyncio.Task[Message]) -> None:
        """Write what became of an attempt, as long as it takes."""
        error = attempt.exception()
        if error is None:
            write, state = self._succeeded(job, attempt.result()), OperationState.SUCCEEDED
        elif isinstance(error, LeaseLost):
            return
        else:
            write, state = self._stopped(job, error)
        pauses = Pauses(0.1, 5.0)
        while True:
            try:
                await self._operations.db.write(write)
                break
            except LeaseLost:
                return
            except StoreError as failed:
                if not failed.transient:
                    raise
                log.warning("operation_not_written", reason=failed.reason, retry_seconds=pauses.seconds)
            await pauses.rest()
        if state is not OperationState.RUNNING:
            ENDED.labels(job.kind, state.value).inc()
            self._operations.told(job.tenant_id, job.job_id)

    def _succeeded(self, job: Job, response: Message) -> Callable[[Connection], None]:
        def write(conn: Connection) -> None:
            self._queue.remove(conn, job.job_id, job.lease_token)
            self._operations.end(conn, job.tenant_id, job.job_id, OperationState.SUCCEEDED, response=response)

        return write

    def _stopped(self, job: Job, cause: BaseException) -> tuple[Callable[[Connection], None], OperationState]:
        error = _told(cause)
        status = to_status(error)
        kind = self._kinds.get(job.kind)
        again = None if kind is None else self._follow_up(kind, job, error)
        level = log.error if again is None and isinstance(error, Internal) else log.warning
        level(
            "operation_stopped",
            kind=job.kind,
            reason=error.reason,
            attempt=job.attempts,
            again_seconds=None if again is None else round(again.delay, 1),
            exc_info=cause if isinstance(error, Internal) else None,
        )
        if again is None:
            return self._failed(job, status), OperationState.FAILED

        def write(conn: Connection) -> None:
            self._queue.reschedule(
                conn, job.job_id, job.lease_token, again.delay, again.spend, {"message": error.reason}
            )
            spent = job.attempts if again.spend else job.attempts - 1
            self._operations.halted(conn, job.tenant_id, job.job_id, spent, status)

        return write, OperationState.RUNNING

    def _failed(self, job: Job, status: status_pb2.Status) -> Callable[[Connection], None]:
        def write(conn: Connection) -> None:
            self._queue.remove(conn, job.job_id, job.lease_token)
            self._operations.end(conn, job.tenant_id, job.job_id, OperationState.FAILED, error=status)

        return write

    def _follow_up(self, kind: Kind, job: Job, error: TrunklineError) -> _Again | None:
        """Say when to try again; None to end the operation with the error."""
        if error.transient:
            waited = self._now() - (job.stage_began_at or self._now())
            if waited >= kind.patience:
                return None
            # Often at first, then seldom: all of a service's operations may wait for the same thing.
            delay = max(error.retry_after or 1.0, min(30.0, waited.total_seconds() / 4))
            return _Again(delay * (1 + 0.25 * self._jitter()), spend=False)
        if isinstance(error, _PASSING) and job.attempts < kind.attempts:
            return _Again(min(60.0, 2.0**job.attempts) * (0.5 + 0.5 * self._jitter()), spend=True)
        return None

    def _now(self) -> datetime:
        return self._operations.db.clock.now()


def _told(cause: BaseException) -> TrunklineError:
    """Return the domain error that an attempt's failure is; a bug shows nothing of itself."""
    if isinstance(cause, TrunklineError):
        return cause
    translated = domain_error(cause) if isinstance(cause, Exception) else None
    return translated or Internal(type(cause).__name__)


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
