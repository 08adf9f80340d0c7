"""The leases a worker holds: renewed while work goes on, and the work stopped when one is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from trunkline.gateway.v1 import job_service_pb2 as pb
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe.logs import get_logger

from trunkline_gateway.pipeline.clients import Method, unary
from trunkline_gateway.pipeline.run import Run

log = get_logger(__name__)

_CALL_MOST = 1000


class LeaseKeeper:
    """The runs under lease, by job id."""

    def __init__(self, renew: Method[pb.RenewLeasesResponse], seconds: float):
        """A lease lasts `seconds` and is renewed at a third of that."""
        self._renew = renew
        self._seconds = seconds
        self._runs: dict[str, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def hold(self, run: Run) -> None:
        """Begin to hold. A lease on a job that is still held here says that the one before was lost."""
        self.lose(run.job.job_id)
        self._runs[run.job.job_id] = run

    def let_go(self, run: Run) -> None:
        """Hold no longer."""
        if self._runs.get(run.job.job_id) is run:
            del self._runs[run.job.job_id]

    def lose(self, job_id: str) -> None:
        """Stop the work on a job whose lease is lost."""
        run = self._runs.pop(job_id, None)
        if run is not None:
            run.lost = True
            log.warning("lease_lost", job=job_id, event_id=run.event_id, tenant=run.tenant, stage=run.stage)
            if run.task is not None:
                run.task.cancel()

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            await asyncio.sleep(self._seconds / 3)
            await self.renew()

    async def renew(self) -> None:
        """Renew every lease once. Those that could not be renewed until they ran out are lost."""
        loop = asyncio.get_running_loop()
        runs = list(self)
        for start in range(0, len(runs), _CALL_MOST):
            some = runs[start : start + _CALL_MOST]
            asked = loop.time()
            request = pb.RenewLeasesRequest(
                leases=[pb.Lease(job_id=r.job.job_id, lease_token=r.job.lease_token) for r in some]
            )
            request.lease.FromMilliseconds(int(self._seconds * 1000))
            try:
                answer = await unary(self._renew, request, self._seconds / 3)
            except TrunklineError as error:
                log.warning("renewal_failed", reason=error.reason, leases=len(some))
                continue
            for job_id in answer.lost_job_ids:
                self.lose(job_id)
            for run in some:
                run.expires = asked + self._seconds
        for run in self:
            # Another third would pass before the next look: a lease that ends before it is not to be worked
            # under.
            if run.expires <= loop.time():
                self.lose(run.job.job_id)
