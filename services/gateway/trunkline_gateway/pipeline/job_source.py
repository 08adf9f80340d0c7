"""JobService as a source of jobs (trunkline_work): leases, renewals and reports over gRPC, many jobs' in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC
from typing import Protocol

from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline_work import (
    RELEASE_SECONDS,
    Advanced,
    Dead,
    Done,
    JobKey,
    LeasedJob,
    Report,
    Retry,
    Slots,
    Wait,
)

from trunkline_gateway.pipeline.clients import Method, unary

KIND = "event"
"""Of every job that JobService hands out: it takes an event through its stages."""
_CLAIM_MOST = 100
_ANSWER_SECONDS = 10.0
_REPORT_SECONDS = 5.0


class Jobs(Protocol):
    """The stub of JobService."""

    @property
    def ClaimJobs(self) -> Method[pb.ClaimJobsResponse]:
        """Lease jobs."""
        ...

    @property
    def RenewLeases(self) -> Method[pb.RenewLeasesResponse]:
        """Lengthen leases."""
        ...

    @property
    def ReportJobs(self) -> Method[pb.ReportJobsResponse]:
        """Say what became of jobs."""
        ...

    @property
    def ReleaseLeases(self) -> Method[pb.ReleaseLeasesResponse]:
        """Give leases back."""
        ...


class ServedJobs:
    """The jobs that a gateway hands to one worker. See trunkline_work.JobSource; a job's payload is its message."""

    def __init__(self, jobs: Jobs, worker: str, lease_seconds: float):
        """`worker` is unique among the workers that run."""
        self._jobs = jobs
        self._worker = worker
        self._lease_seconds = lease_seconds
        self.doubt = asyncio.Event()  # nobody sets it: the gateway tells of a lost lease when it is asked

    async def claim(self, slots: Slots, wait_seconds: float) -> list[LeasedJob]:
        """Lease jobs.

        The claim waits at the gateway, for jobs and for a free slot: it always knows how many slots are free, which a
        number in a claim that waits would tell it too late.
        """
        most = slots.most_of(KIND)
        request = pb.ClaimJobsRequest(worker=self._worker, limit=min(most, _CLAIM_MOST), slots=most)
        request.lease.FromMilliseconds(int(self._lease_seconds * 1000))
        request.wait.FromMilliseconds(int(wait_seconds * 1000))
        answer = await unary(self._jobs.ClaimJobs, request, wait_seconds + _ANSWER_SECONDS)
        return [_leased(job) for job in answer.jobs]

    def slot_freed(self) -> None:
        """Do nothing: the gateway knows from the report."""

    async def renew(self, jobs: Sequence[LeasedJob]) -> set[JobKey]:
        """Lengthen leases."""
        request = pb.RenewLeasesRequest(leases=[_lease(job) for job in jobs])
        request.lease.FromMilliseconds(int(self._lease_seconds * 1000))
        answer = await unary(self._jobs.RenewLeases, request, self._lease_seconds / 3)
        return _lost(jobs, answer)

    async def report(self, reports: Sequence[Report]) -> set[JobKey]:
        """Send reports."""
        request = pb.ReportJobsRequest(worker=self._worker, reports=[_report(report) for report in reports])
        answer = await unary(self._jobs.ReportJobs, request, _REPORT_SECONDS)
        return _lost([report.job for report in reports], answer)

    async def release(self) -> int:
        """Give every lease back."""
        request = pb.ReleaseLeasesRequest(worker=self._worker)
        answer = await unary(self._jobs.ReleaseLeases, request, RELEASE_SECONDS)
        return answer.released


def _leased(job: pb.Job) -> LeasedJob:
    began = job.stage_start_time.ToDatetime(UTC) if job.HasField("stage_start_time") else None
    tenant = job.event.split("/")[1]
    return LeasedJob(job.job_id, job.lease_token, KIND, tenant, job.stage, job.attempts, began, job)


def _lease(job: LeasedJob) -> pb.Lease:
    return pb.Lease(job_id=job.job_id, lease_token=job.lease_token, tenant=f"tenants/{job.tenant}")


def _lost(jobs: Sequence[LeasedJob], answer: pb.RenewLeasesResponse | pb.ReportJobsResponse) -> set[JobKey]:
    """Return the jobs whose lease is lost; a gateway of the version before names their ids only."""
    if answer.lost_leases:
        return {JobKey(lease.tenant.removeprefix("tenants/"), lease.job_id) for lease in answer.lost_leases}
    return {job.key for job in jobs if job.job_id in answer.lost_job_ids}


def _report(report: Report) -> pb.JobReport:
    message = pb.JobReport(
        lease=_lease(report.job), stage=report.stage, checkpoint=report.made, warnings=report.warnings
    )
    if report.began is not None:
        message.start_time.FromDatetime(report.began)
    if report.ended is not None:
        message.end_time.FromDatetime(report.ended)
    for passed in report.passed:
        run = message.passed.add(stage=passed.stage)
        run.start_time.FromDatetime(passed.began)
        run.end_time.FromDatetime(passed.ended)
    match report.outcome:
        case Advanced(stage):
            message.advance.next_stage = stage
        case Done(call):
            message.done.call = call or ""
        case Wait(delay, reason, background):
            message.wait.reason = reason
            message.wait.background = background
            message.wait.delay.FromMilliseconds(int(delay * 1000))
        case Retry(delay, reason):
            message.retry.error = reason
            message.retry.delay.FromMilliseconds(int(delay * 1000))
        case Dead(reason):
            message.dead.error = reason
    return message
