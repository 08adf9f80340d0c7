"""The leases a worker holds: renewed while work goes on, and the work stopped when one is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.process.pace import wait_until

from trunkline_work.kinds import Attempt, Observer
from trunkline_work.model import JobKey, LeasedJob
from trunkline_work.source import JobSource

log = get_logger(__name__)

_CALL_MOST = 1000


class LeaseKeeper:
    """The attempts under lease, by the jobs' keys."""

    def __init__(self, source: JobSource, seconds: float, observer: Observer, *, fence_only: bool = False):
        """A lease lasts `seconds` and is renewed at a third of that.

        With `fence_only` a lease that could not be renewed in time is not given up: the fence alone says whether it is
        lost, as where the source is this process's own.
        """
        self._source = source
        self._seconds = seconds
        self._observer = observer
        self._fence_only = fence_only
        self._attempts: dict[JobKey, Attempt] = {}

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._attempts.values()))

    def hold(self, attempt: Attempt) -> None:
        """Begin to hold. A lease on a job that is still held here says that the one before was lost."""
        before = self._attempts.get(attempt.leased.key)
        if before is not None:
            self.lose(before.leased)
        self._attempts[attempt.leased.key] = attempt

    def let_go(self, attempt: Attempt) -> None:
        """Hold no longer."""
        if self._attempts.get(attempt.leased.key) is attempt:
            del self._attempts[attempt.leased.key]

    def lose(self, job: LeasedJob) -> None:
        """Stop the work under a lease that is lost; a later lease on the same job, with a token of its own, stands."""
        attempt = self._attempts.get(job.key)
        if attempt is None or attempt.leased.lease_token != job.lease_token:
            return
        del self._attempts[job.key]
        attempt.lost = True
        self._observer.lost(attempt)
        if attempt.task is not None:
            attempt.task.cancel()

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            await wait_until(self._source.doubt, self._seconds / 3)
            self._source.doubt.clear()
            await self.renew()

    async def renew(self) -> None:
        """Renew every lease once. Those that could not be renewed until they ran out are lost."""
        loop = asyncio.get_running_loop()
        attempts = list(self)
        for start in range(0, len(attempts), _CALL_MOST):
            some = attempts[start : start + _CALL_MOST]
            asked = loop.time()
            try:
                lost = await self._source.renew([attempt.leased for attempt in some])
            except TrunklineError as error:
                log.warning("renewal_failed", reason=error.reason, leases=len(some))
                continue
            for attempt in some:
                if attempt.leased.key in lost:
                    self.lose(attempt.leased)
                else:
                    attempt.expires = asked + self._seconds
        if self._fence_only:
            return
        for attempt in self:
            if attempt.expires <= loop.time():
                self.lose(attempt.leased)
