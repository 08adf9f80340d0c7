"""Reports to the source, many jobs' at once: each waits a moment for others, and while one is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.resilience import Pauses

from trunkline_work.model import JobKey, LeasedJob, Report
from trunkline_work.source import JobSource

log = get_logger(__name__)

_BATCH_MOST = 100
GATHER_SECONDS = 0.01
"""A report ends a lease and frees a slot; what it is about was done before. So it may wait for company."""


class Reporter:
    """Keeps the order of a job's reports.

    What cannot be delivered in time is dropped: the lease runs out and the job is worked on again, which
    changes nothing that was done.
    """

    def __init__(
        self,
        source: JobSource,
        lost: Callable[[LeasedJob], None],
        patience_seconds: float,
        gather_seconds: float = GATHER_SECONDS,
    ):
        """`lost` is told of every job whose lease is lost; a report is tried for `patience_seconds`."""
        self._source = source
        self._lost = lost
        self._patience = patience_seconds
        self._gather_seconds = gather_seconds
        self._waiting: list[tuple[Report, asyncio.Future[bool]]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, reports: Sequence[Report]) -> asyncio.Future[bool]:
        """Queue the reports of one job, of which there is one at least; whether the last of them was taken."""
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
                if self._gather_seconds and len(self._waiting) < _BATCH_MOST:
                    await asyncio.sleep(self._gather_seconds)
                batch, self._waiting = self._waiting[:_BATCH_MOST], self._waiting[_BATCH_MOST:]
                await self._deliver(batch)
            self._wake.clear()
            self._idle.set()

    async def _deliver(self, batch: list[tuple[Report, asyncio.Future[bool]]]) -> None:
        lost: set[JobKey] = set()
        try:
            lost |= await self._send([report for report, _ in batch])
        except TrunklineError as error:
            if not error.transient and len(batch) > 1:
                # One report that is refused must not take the others along.
                for one in batch:
                    await self._deliver([one])
                return
            lost.update(report.job.key for report, _ in batch)
            log.error("reports_dropped", reason=error.reason, error=error.message, jobs=len(lost))
        for report, taken in batch:
            key = report.job.key
            if key in lost:
                self._lost(report.job)
            if not taken.done():
                taken.set_result(key not in lost)

    async def _send(self, reports: Sequence[Report]) -> set[JobKey]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        pauses = Pauses(0.1, 2.0)
        while True:
            try:
                return await self._source.report(reports)
            except TrunklineError as error:
                if not error.transient or loop.time() + pauses.seconds > until:
                    raise
                log.warning("report_delayed", reason=error.reason, retry_seconds=pauses.seconds)
            await pauses.rest()
