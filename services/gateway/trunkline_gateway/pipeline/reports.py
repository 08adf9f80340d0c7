"""Reports to the gateway, many jobs' in one RPC: each waits a moment for others, and while one is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.resilience import Pauses

from trunkline_gateway.pipeline.clients import Method, unary

log = get_logger(__name__)

_BATCH_MOST = 100
_CALL_SECONDS = 5.0
# A report ends a lease and frees a slot; what it is about was done before. So it may wait for company.
_GATHER_SECONDS = 0.01


class Reporter:
    """Keeps the order of a job's reports.

    What cannot be delivered in time is dropped: the lease runs out and the job is worked on again, which
    changes nothing that was done.
    """

    def __init__(
        self,
        report: Method[pb.ReportJobsResponse],
        worker: str,
        lost: Callable[[str], None],
        patience_seconds: float,
    ):
        """`lost` is told the id of every job whose lease is lost; `patience_seconds` is a lease's length."""
        self._report = report
        self._worker = worker
        self._lost = lost
        self._patience = patience_seconds
        self._waiting: list[tuple[pb.JobReport, asyncio.Future[bool]]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, reports: Sequence[pb.JobReport]) -> asyncio.Future[bool]:
        """Queue the reports of one job; the future of the last tells whether it was taken."""
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[bool] = loop.create_future()
        for report in reports:
            taken = loop.create_future()
            self._waiting.append((report, taken))
        self._idle.clear()
        self._wake.set()
        return taken

    async def idle(self) -> None:
        """Return when everything was delivered or dropped."""
        await self._idle.wait()

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            await self._wake.wait()
            while self._waiting:
                if len(self._waiting) < _BATCH_MOST:
                    await asyncio.sleep(_GATHER_SECONDS)
                batch, self._waiting = self._waiting[:_BATCH_MOST], self._waiting[_BATCH_MOST:]
                await self._deliver(batch)
            self._wake.clear()
            self._idle.set()

    async def _deliver(self, batch: list[tuple[pb.JobReport, asyncio.Future[bool]]]) -> None:
        request = pb.ReportJobsRequest(worker=self._worker, reports=[report for report, _ in batch])
        lost: set[str] = set()
        try:
            answer = await self._send(request)
            lost.update(answer.lost_job_ids)
        except TrunklineError as error:
            if (
                not error.transient and len(batch) > 1
            ):  # one report that is refused must not take the others along
                for one in batch:
                    await self._deliver([one])
                return
            lost.update(report.lease.job_id for report, _ in batch)
            log.error("reports_dropped", reason=error.reason, error=error.message, jobs=len(lost))
        for report, taken in batch:
            job_id = report.lease.job_id
            if job_id in lost:
                self._lost(job_id)
            if not taken.done():
                taken.set_result(job_id not in lost)

    async def _send(self, request: pb.ReportJobsRequest) -> pb.ReportJobsResponse:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        pauses = Pauses(0.1, 2.0)
        while True:
            try:
                return await unary(self._report, request, _CALL_SECONDS)
            except TrunklineError as error:
                if not error.transient or loop.time() + pauses.seconds > until:
                    raise
                log.warning("report_delayed", reason=error.reason, retry_seconds=pauses.seconds)
            await pauses.rest()
