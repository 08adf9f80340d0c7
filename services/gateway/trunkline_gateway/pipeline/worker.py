"""The worker: claims jobs, runs them side by side, and reports what became of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.logs import bind, get_logger
from trunkline_runtime.observe.metrics import counter, gauge
from trunkline_runtime.resilience import Pauses

from trunkline_gateway.pipeline.breakers import CircuitOpen
from trunkline_gateway.pipeline.clients import Method, unary
from trunkline_gateway.pipeline.config import WorkerConfig
from trunkline_gateway.pipeline.lease_keeper import LeaseKeeper
from trunkline_gateway.pipeline.policy import Dead, Wait, describe, follow_up, is_expected
from trunkline_gateway.pipeline.reports import Reporter
from trunkline_gateway.pipeline.run import Run

log = get_logger(__name__)

JOBS = counter("trunkline_worker_jobs_total", "Runs of jobs by how they ended.", ["outcome"])
RUNNING = gauge("trunkline_worker_running", "Jobs that are worked on now.")
LAST_CLAIM = gauge("trunkline_worker_last_claim_seconds", "Unix time of the last claim that was answered.")
_CLAIM_MOST = 100
_RELEASE_SECONDS = 1.5
_TELL_AGAIN_SECONDS = 15.0


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


class Process(Protocol):
    """What works on one job: `Stages.process`."""

    async def __call__(self, run: Run) -> str:
        """Return the recorded call's name."""
        ...


class Worker:
    """One process's worker. `run` ends when asked to, with every lease given back."""

    def __init__(
        self,
        jobs: Jobs,
        process: Process,
        config: WorkerConfig,
        name: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        tell_dead: Callable[[Run, str], Awaitable[None]] | None = None,
    ):
        """`name` is unique among the workers that run; `tell_dead` is Stages.told_dead."""
        self._tell_dead = tell_dead
        self._jobs = jobs
        self._process = process
        self._config = config
        self.name = name
        self._now = now
        self._leases = LeaseKeeper(jobs.RenewLeases, config.lease_seconds)
        self._reporter = Reporter(jobs.ReportJobs, name, self._leases.lose, config.lease_seconds)
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what can be finished in time and give back the rest."""
        background = [asyncio.create_task(self._reporter.run()), asyncio.create_task(self._leases.run())]
        claiming = asyncio.create_task(self._claim_for_ever())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([claiming, stopping, *background], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(claiming, stopping)
            await self._drain()
            await _cancel(*background)

    async def _claim_for_ever(self) -> None:
        """Keep one claim on its way.

        It waits at the gateway, for jobs and for a free slot: nothing polls here, and the gateway always knows
        how many slots are free, which a number in a claim that waits would tell it too late.
        """
        pauses = Pauses(0.1, 3.0)
        while True:
            try:
                if await self._claim():
                    pauses.reset()
                    continue
            except TrunklineError as error:
                log.warning(
                    "claim_failed",
                    reason=error.reason,
                    retry_seconds=pauses.seconds,
                    address=self._config.gateway_address,
                    setting="TRUNKLINE_WORKER_GATEWAY_ADDRESS",
                )
            await pauses.rest()

    async def _claim(self) -> bool:
        """Claim once. False: the gateway answered "none" without waiting, as it does while it stops."""
        config = self._config
        asked = asyncio.get_running_loop().time()
        slots = config.worker_concurrency
        request = pb.ClaimJobsRequest(worker=self.name, limit=min(slots, _CLAIM_MOST), slots=slots)
        request.lease.FromMilliseconds(int(config.lease_seconds * 1000))
        request.wait.FromMilliseconds(int(config.claim_wait_seconds * 1000))
        answer = await unary(self._jobs.ClaimJobs, request, config.claim_wait_seconds + 10)
        LAST_CLAIM.set_to_current_time()
        # From the answer's arrival: the lease began a moment before, which the margin of a third covers.
        expires = asyncio.get_running_loop().time() + config.lease_seconds
        for job in answer.jobs:
            run = Run(job, self._now, self._lingers, config.checkpoint_after_seconds, expires)
            self._leases.hold(run)
            self._working += 1
            run.task = asyncio.create_task(self._work(run))
            self._tasks.add(run.task)
            run.task.add_done_callback(self._tasks.discard)
        self._count()
        waited = asyncio.get_running_loop().time() - asked
        return bool(answer.jobs) or waited >= config.claim_wait_seconds / 2

    async def _work(self, run: Run) -> None:
        """Work on one job and report it."""
        reports: list[pb.JobReport] = []
        try:
            reports = await self._outcome(run)
        except asyncio.CancelledError:
            JOBS.labels("lost" if run.lost else "released").inc()
            return
        finally:
            self._working -= 1
            self._count()
        try:
            await self._reporter.put(reports)
        finally:
            self._leases.let_go(run)

    async def _outcome(self, run: Run) -> list[pb.JobReport]:
        """Run the stages and return the reports of how that ended."""
        tracing.enter(tracing.new_trace())
        bind(tenant=run.tenant, event_id=run.event_id)
        try:
            call = await self._process(run)
        except Exception as error:
            what = follow_up(
                run.stage,
                error,
                attempt=run.attempt,
                waited_seconds=run.waited_seconds,
                give_up_after=self._config.recording_wait_seconds,
            )
            if isinstance(what, Dead):
                what = await self._told_dead(run, what)
            outcome = type(what).__name__.lower()
            JOBS.labels(outcome).inc()
            if not is_expected(error):
                log.error("stage_broke", stage=run.stage, outcome=outcome, exc_info=error)
            else:
                level = log.warning if isinstance(what, Dead) else log.info
                level(
                    "stage_failed", stage=run.stage, outcome=outcome, reason=what.reason, attempt=run.attempt
                )
            return run.failed(what)
        JOBS.labels("done").inc()
        log.info("event_done", call=call, generation=run.job.generation)
        return run.done(call)

    async def _told_dead(self, run: Run, dead: Dead) -> Dead | Wait:
        """Have the call say that it failed, before the event does; where nobody can be told now, that is waited for."""
        try:
            if self._tell_dead is not None:
                await self._tell_dead(run, dead.reason)
        except (TrunklineError, CircuitOpen) as error:
            transient = isinstance(error, CircuitOpen) or error.transient
            if transient and run.waited_seconds < self._config.recording_wait_seconds:
                return Wait(
                    _TELL_AGAIN_SECONDS, f"{describe(error)} (its call is to say: {dead.reason})"[:500]
                )
            log.warning("call_not_told", stage=run.stage, reason=describe(error))
        return dead

    def _lingers(self, run: Run) -> None:
        reports = run.advanced()
        if reports and not run.lost:
            self._reporter.put(reports)

    def _count(self) -> None:
        RUNNING.set(self._working)

    async def _drain(self) -> None:
        """Let running jobs end, as long as there is time for giving back the leases of those that do not."""
        budget = max(0.0, self._config.drain_seconds - 2 * _RELEASE_SECONDS)
        if self._tasks:
            log.info("draining", jobs=len(self._tasks), seconds=budget)
            await asyncio.wait(self._tasks, timeout=budget)
        left = [run.task for run in self._leases if run.task is not None]
        await _cancel(*left)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._reporter.idle()
        request = pb.ReleaseLeasesRequest(worker=self.name)
        try:
            answer = await unary(self._jobs.ReleaseLeases, request, _RELEASE_SECONDS)
            log.info("leases_released", leases=answer.released)
        except TrunklineError as error:  # they run out by themselves
            log.warning("release_failed", reason=error.reason)


async def _cancel(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
