"""JobService: hands jobs to workers under leases and takes their reports; every write compares the lease token."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import grpc
import sqlalchemy as sa
from trunkline.common.v1 import priority_pb2
from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline.gateway.v1 import job_service_pb2_grpc
from trunkline_jobs import Ended, Job, Lease, LeaseLost, Load, Queue, QueueClass, Ran, Tries, apply_outcome
from trunkline_runtime.api.resources import tenant_of
from trunkline_runtime.process.pace import MACHINE, Pace, wait_until
from trunkline_store import Database
from trunkline_store.hot import Hot, Row
from trunkline_work import Advanced, Dead, Done, Outcome, Passed, Retry, Wait

from trunkline_gateway import traces
from trunkline_gateway.events.call_deletion import ERASED
from trunkline_gateway.jobs.burials import call_of
from trunkline_gateway.jobs.shares import Shares
from trunkline_gateway.pipeline.policy import MOST_ATTEMPTS, POLICIES
from trunkline_gateway.schema import events, jobs, receipts

# A job that becomes due by time alone (a retry) is found by looking again this often.
_LOOK_SECONDS = 0.5
# So long slots that become free are gathered, for one claim to fill: a few per cent of what a call takes.
_GATHER_SECONDS = 0.025
# The bodies that one answer carries: with the largest that a source may send it is well below what a message may have.
CLAIM_BYTES = 12 << 20
# With so few bytes in an answer nothing was left out for its size: no body is as large as the rest.
_LIGHT_BYTES = 1 << 20
_WORKERS_KEPT = 1_000
_GONE = {"message": "its receipt was deleted"}

_PRIORITIES = {
    QueueClass.REALTIME: priority_pb2.PRIORITY_REALTIME,
    QueueClass.BATCH: priority_pb2.PRIORITY_BATCH,
    QueueClass.BACKGROUND: priority_pb2.PRIORITY_BACKGROUND,
}

_ABOUT = Hot(
    sa.select(events, receipts.c.body, receipts.c.content_type, receipts.c.receipt_id)
    .join(receipts, receipts.c.seq == events.c.first_seq)
    .where(
        events.c.tenant_id.in_(sa.bindparam("tenants", expanding=True)),
        events.c.event_id.in_(sa.bindparam("events", expanding=True)),
    )
)
_WEIGHTS = Hot(
    sa.select(jobs.c.tenant_id, jobs.c.job_id, sa.func.length(receipts.c.body).label("weight"))
    .join(events, (events.c.tenant_id == jobs.c.tenant_id) & (events.c.event_id == jobs.c.subject))
    .join(receipts, receipts.c.seq == events.c.first_seq)
    .where(
        jobs.c.tenant_id.in_(sa.bindparam("tenants", expanding=True)),
        jobs.c.job_id.in_(sa.bindparam("jobs", expanding=True)),
    )
)
_TELL = Hot(
    sa.update(events)
    .where(events.c.tenant_id == sa.bindparam("tenant"), events.c.event_id == sa.bindparam("event"))
    .values(
        finished_at=sa.bindparam("new_finished", type_=events.c.finished_at.type),
        call=sa.bindparam("new_call"),
        updated_at=sa.bindparam("new_updated", type_=events.c.updated_at.type),
    )
)


class JobService(job_service_pb2_grpc.JobServiceServicer):
    """The servicer. `jobs_ready` wakes waiting claims; nothing but the store is needed for correctness."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        shares: Shares,
        pace: Pace = MACHINE,
    ):
        """Take the store, its queue, and who is given how much of it.

        Intervals: `jobs.look`, at which a waiting claim looks for jobs that became due by time alone.
        """
        self._look_seconds = pace.interval("jobs.look", _LOOK_SECONDS)
        self._db = db
        self._queue = queue
        self._shares = shares
        # Tenants that a claim found to have all they may have in work, and nothing was given back since.
        self._capped: AbstractSet[str] = frozenset()
        # How often something changed that a claim may find, beside the time; and what claims saw since. What other
        # processes change is not known here: of a store that is shared nothing is remembered.
        self._changes = 0
        self._none_left = False
        self._served: dict[str, int] = {}
        self._gathering: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self._stopping = False

    def jobs_ready(self, tenants: AbstractSet[str] | None = None) -> None:
        """Say that jobs were made or became free; `tenants` whose they are, where that is known.

        More jobs for tenants that have as many in work as they may wake nobody: under a flood that would be a
        claim for nothing after every batch that is admitted.
        """
        if tenants is None:
            self._capped = frozenset()
        if tenants is None or not tenants <= self._capped:
            self._changes += 1
            self._none_left = False
            self._ready.set()

    def _leases_ended(self) -> None:
        """Wake claims in a moment: one then fills all the slots that are free by that time.

        A claim for each would cost as much as a stage. Nobody quiet waits for it: new jobs wake claims at once.
        """
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self.jobs_ready()

    def stop(self) -> None:
        """Answer every waiting claim, and give out nothing more."""
        self._stopping = True
        self._ready.set()

    async def ClaimJobs(
        self, request: pb.ClaimJobsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ClaimJobsResponse:
        """Lease jobs, waiting up to `wait` for the first; a worker without a free slot waits for one too."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait.ToTimedelta().total_seconds()
        in_vain = self._none_left or self._served.get(request.worker) == self._changes
        while not self._stopping:
            self._ready.clear()
            self._shares.claims(request.worker, request.slots or request.limit, loop.time())
            found = NOTHING if in_vain and deadline > loop.time() else await self._look(request)
            in_vain = False
            if found.jobs:
                self._shares.gave((job.event.split("/")[1] for job in found.jobs), loop.time())
                if len(found.jobs) == request.limit:
                    self._ready.set()  # there may be more for the next worker
                return pb.ClaimJobsResponse(jobs=found.jobs)
            left = deadline - loop.time()
            if left <= 0:
                break
            if found.again:  # in a transaction of its own: others write in between
                continue
            await wait_until(self._ready, min(left, self._look_seconds))
        return pb.ClaimJobsResponse()

    async def _look(self, request: pb.ClaimJobsRequest) -> _Found:
        """Claim once, and remember what that says of the claims to come."""
        changes, caps = self._changes, self._shares.caps()
        found = await self._db.write(lambda conn: self._claim(conn, request, caps))
        if not found.jobs:
            self._capped = found.capped
        if not self._db.features.shared and changes == self._changes:
            self._none_left = not found.any_left
            if found.jobs and found.all_that_fit and len(found.jobs) < request.limit:
                if len(self._served) >= _WORKERS_KEPT:
                    self._served.clear()
                self._served[request.worker] = changes
        return found

    def _claim(self, conn: sa.Connection, request: pb.ClaimJobsRequest, caps: Mapping[int, int]) -> _Found:
        """Claim in one transaction.

        A claim that dead jobs filled is made again, in this transaction for as long as Tries allows, then in another.
        """
        tries = Tries(_most_attempts)
        while True:
            capped: set[str] = set()
            buried = len(tries.given_up)
            jobs = self._lease(conn, request, caps, capped, tries)
            again = not jobs and len(tries.given_up) > buried
            if again and not tries.spent:
                continue
            light = sum(len(job.body) for job in jobs) <= _LIGHT_BYTES
            any_left = self._db.features.shared or self._queue.any_due(conn)
            return _Found(jobs, capped, again, light and not tries.given_up, any_left)

    def _lease(
        self,
        conn: sa.Connection,
        request: pb.ClaimJobsRequest,
        caps: Mapping[int, int],
        capped: set[str],
        tries: Tries,
    ) -> list[pb.Job]:
        """Return the jobs that were leased; `tries` is told what was buried in place of that."""
        lease = request.lease.ToTimedelta().total_seconds()
        buried = len(tries.given_up)
        jobs = self._queue.claim(
            conn,
            request.worker,
            request.limit,
            lease,
            in_flight_caps=caps,
            room=self._shares.room(request.slots),
            capped=capped,
            load=_LOAD,
            tries=tries,
        )
        for ended in tries.given_up[buried:]:
            _tell_event(conn, ended, finished=False)
        if not jobs:
            return []
        about = {"tenants": list({job.tenant_id for job in jobs}), "events": [job.subject for job in jobs]}
        rows = {(row["tenant_id"], row["event_id"]): row for row in _ABOUT.all(conn, about)}
        given = []
        for job in jobs:
            row = rows.get((job.tenant_id, job.subject))
            if row is None:  # such a job must not fail the claim of all the others, for ever
                ended = self._queue.bury(conn, job.lease, _GONE, untold=True)
                _tell_event(conn, ended, finished=False)
                tries.given_up.append(ended)
            else:
                given.append(_job(job, row))
        return given

    async def RenewLeases(
        self, request: pb.RenewLeasesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RenewLeasesResponse:
        """Lengthen leases; name those that are lost."""
        seconds = request.lease.ToTimedelta().total_seconds()
        kept = await asyncio.gather(*(self._renew(held, seconds) for held in request.leases))
        lost = [held for held, is_kept in zip(request.leases, kept, strict=True) if not is_kept]
        return pb.RenewLeasesResponse(lost_job_ids=[held.job_id for held in lost], lost_leases=lost)

    async def _renew(self, held: pb.Lease, seconds: float) -> bool:
        """Lengthen one lease; False when it is lost."""
        try:
            await self._db.write(lambda conn: self._queue.renew(conn, self._lease_of(conn, held), seconds))
        except LeaseLost:
            return False
        return True

    def _lease_of(self, conn: sa.Connection, held: pb.Lease) -> Lease:
        """Return a lease as the queue knows it. Raises LeaseLost, InvalidArgument."""
        if not held.tenant:  # its worker is of a version before the field
            return self._queue.lease_by_id(conn, held.job_id, held.lease_token)
        return Lease(tenant_of(held.tenant, field="tenant"), held.job_id, held.lease_token)

    async def ReportJobs(
        self, request: pb.ReportJobsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReportJobsResponse:
        """Apply each report in a transaction of its own; the writer commits them together."""
        taken = await asyncio.gather(*(self._report(report) for report in request.reports))
        if not self._none_left or any(map(_may_be_due, request.reports)):
            self._leases_ended()
        lost = [report.lease for report, is_taken in zip(request.reports, taken, strict=True) if not is_taken]
        return pb.ReportJobsResponse(lost_job_ids=[held.job_id for held in lost], lost_leases=lost)

    async def _report(self, report: pb.JobReport) -> bool:
        """Apply one report; False when its lease is lost."""
        try:
            await self._db.write(lambda conn: self._apply(conn, report))
        except LeaseLost:
            return False
        return True

    def _apply(self, conn: sa.Connection, report: pb.JobReport) -> None:
        lease, outcome = self._lease_of(conn, report.lease), _outcome(report)
        job = apply_outcome(self._queue, conn, lease, outcome, dict(report.checkpoint), _ran(report))
        _tell_event(conn, job, finished=isinstance(outcome, Done))
        if report.warnings:
            _warn(conn, job, report.warnings)
        if isinstance(outcome, Dead) and outcome.reason.startswith(f"{ERASED}:"):
            _have_swept(conn, job)

    async def ReleaseLeases(
        self, request: pb.ReleaseLeasesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReleaseLeasesResponse:
        """Give back every lease of a worker that stops."""
        released = await self._db.write(lambda conn: self._queue.release(conn, request.worker))
        self._shares.leaves(request.worker)
        self._served.pop(request.worker, None)
        self.jobs_ready()
        return pb.ReleaseLeasesResponse(released=released)


@dataclass(frozen=True, slots=True)
class _Found:
    """What one look of a claim found."""

    jobs: Sequence[pb.Job] = ()
    capped: AbstractSet[str] = frozenset()
    """The tenants that were passed over for their cap."""
    again: bool = False
    """Whether to claim again at once."""
    all_that_fit: bool = False
    """Whether another claim of the same worker would find nothing, for as long as nothing changes."""
    any_left: bool = True
    """Whether a job is due that was given to nobody."""


NOTHING = _Found()


def _may_be_due(report: pb.JobReport) -> bool:
    """Say whether a report may make its own job due at once."""
    return report.WhichOneof("outcome") in ("retry", "wait")


def _most_attempts(stage: str) -> int:
    policy = POLICIES.get(stage)
    return policy.attempts if policy else MOST_ATTEMPTS


def _weigh(conn: sa.Connection, chosen: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
    """Return the bytes of the bodies that jobs carry."""
    about = {"tenants": list({tenant for tenant, _ in chosen}), "jobs": [job for _, job in chosen]}
    return {(row["tenant_id"], row["job_id"]): row["weight"] for row in _WEIGHTS.all(conn, about)}


_LOAD = Load(CLAIM_BYTES, _weigh)


def _warn(conn: sa.Connection, job: Ended, warnings: Sequence[str]) -> None:
    """Say in the event what of its body was left out."""
    mine = (events.c.tenant_id == job.tenant_id) & (events.c.event_id == job.subject)
    conn.execute(events.update().where(mine).values(warnings=list(warnings)))


def _have_swept(conn: sa.Connection, job: Ended) -> None:
    """Have the next sweep delete an event whose call was deleted on request."""
    mine = (events.c.tenant_id == job.tenant_id) & (events.c.event_id == job.subject)
    conn.execute(events.update().where(mine).values(expire_at=job.at))


def _outcome(report: pb.JobReport) -> Outcome:
    match report.WhichOneof("outcome"):
        case "advance":
            return Advanced(report.advance.next_stage)
        case "done":
            return Done(report.done.call)
        case "retry":
            return Retry(report.retry.delay.ToTimedelta().total_seconds(), report.retry.error)
        case "wait":
            wait = report.wait
            return Wait(wait.delay.ToTimedelta().total_seconds(), wait.reason, wait.background)
        case _:
            return Dead(report.dead.error)


def _ran(report: pb.JobReport) -> Ran:
    began = report.start_time.ToDatetime(UTC) if report.HasField("start_time") else None
    ended = report.end_time.ToDatetime(UTC) if report.HasField("end_time") else None
    passed = [
        Passed(one.stage, one.start_time.ToDatetime(UTC), one.end_time.ToDatetime(UTC))
        for one in report.passed
    ]
    return Ran(began, ended, passed)


def _tell_event(conn: sa.Connection, job: Ended, *, finished: bool) -> None:
    """Say in the event that it changed, and which call it is about: the last stage that named one knows."""
    call = call_of(job.checkpoint)
    finish = job.at if finished else None
    about = {"tenant": job.tenant_id, "event": job.subject}
    _TELL.run(conn, {**about, "new_call": call, "new_finished": finish, "new_updated": job.at})


def _job(job: Job, row: Row) -> pb.Job:
    received, replayed = traces.place_of(row["receipt_id"]), row["trace_id"]
    place = traces.place_of(replayed) if replayed else received
    message = pb.Job(
        job_id=job.job_id,
        lease_token=job.lease_token,
        event=f"tenants/{job.tenant_id}/events/{job.subject}",
        source=f"tenants/{job.tenant_id}/sources/{row['source_id']}",
        provider=row["provider"],
        event_type=row["event_type"],
        receive_time=row["received_at"],
        stage=job.stage,
        attempts=job.attempts,
        generation=job.generation,
        fetch_generation=row["fetch_generation"] or 0,
        checkpoint=job.checkpoint,
        body=row["body"],
        content_type=row["content_type"],
        group_key=job.group_key or "",
        priority=_PRIORITIES[QueueClass(job.queue_class)],
        traceparent=place.traceparent,
        replayed_traceparent=received.traceparent if replayed else "",
    )
    for field, when in (
        (message.lease_expire_time, job.lease_until),
        (message.stage_start_time, job.stage_began_at),
    ):
        if when is not None:
            field.FromDatetime(when)
    return message
