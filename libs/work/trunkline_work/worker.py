"""The worker: claims jobs of a source, runs them side by side, and reports what became of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline_runtime.errors import TrunklineError, Unimplemented
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.resilience import Pauses

from trunkline_work.kinds import Attempt, FollowUp, Kind, Observer
from trunkline_work.leases import LeaseKeeper
from trunkline_work.model import Dead, Done, LeasedJob, Report, Wait
from trunkline_work.reports import GATHER_SECONDS, Reporter
from trunkline_work.source import RELEASE_SECONDS, JobSource, Slots

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How a worker works; the lease is what its source gives."""

    slots: int
    """How many jobs it runs at once."""
    lease_seconds: float
    report_seconds: float
    """For how long a report is tried that cannot be delivered."""
    claim_wait_seconds: float = 20.0
    drain_seconds: float = 0.0
    """How long a stop may take: jobs may end meanwhile, but for the last 3 s, in which the rest is given back."""
    gather_seconds: float = GATHER_SECONDS
    """How long a report waits for others."""
    fence_only: bool = False
    """See LeaseKeeper."""


class Worker:
    """One worker over one source. `run` ends when asked to, with every lease given back."""

    def __init__(
        self, source: JobSource, kinds: Iterable[Kind[Any]], terms: Terms, observer: Observer | None = None
    ):
        """A job of a kind that is not among `kinds` becomes a dead letter."""
        self._source = source
        self._kinds = {kind.name: kind for kind in kinds}
        self._terms = terms
        self._observer = observer or Observer()
        bounds = {kind.name: kind.slots for kind in self._kinds.values() if kind.slots is not None}
        self._slots = Slots(terms.slots, bounds)
        self._leases = LeaseKeeper(source, terms.lease_seconds, self._observer, fence_only=terms.fence_only)
        self._reporter = Reporter(source, self._leases.lose, terms.report_seconds, terms.gather_seconds)
        self._background: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what can be finished in time and give back the rest."""
        try:
            await self.claim_until(stop)
        finally:
            await self.close()

    async def claim_until(self, stop: asyncio.Event) -> None:
        """Claim until `stop` is set; what was claimed is worked on until `close`.

        Raises what a source raised that no source may raise: without its claims, reports or renewals a worker is none.
        """
        if not self._background:
            self._background = [
                asyncio.create_task(self._reporter.run()),
                asyncio.create_task(self._leases.run()),
            ]
        claiming = asyncio.create_task(self._claim_for_ever())
        stopping = asyncio.create_task(stop.wait())
        try:
            parts = [claiming, *self._background]
            ended, _ = await asyncio.wait([stopping, *parts], return_when=asyncio.FIRST_COMPLETED)
            for part in ended.intersection(parts):
                if (broke := part.exception()) is not None:
                    log.error("worker_broke", exc_info=broke)
                    raise broke
        finally:
            await _cancel(claiming, stopping)

    async def close(self) -> None:
        """Let running jobs end, as long as there is time for giving back the leases of those that do not."""
        budget = max(0.0, self._terms.drain_seconds - 2 * RELEASE_SECONDS)
        if self._tasks:
            log.info("draining", jobs=len(self._tasks), seconds=budget)
            await asyncio.wait(self._tasks, timeout=budget)
        await _cancel(*(attempt.task for attempt in self._leases if attempt.task is not None))
        await asyncio.gather(*self._tasks, return_exceptions=True)  # those that lost their lease stop as well
        if self._background:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._reporter.idle()
        try:
            released = await self._source.release()
            log.info("leases_released", leases=released)
        except TrunklineError as error:  # they run out by themselves
            log.warning("release_failed", reason=error.reason)
        await _cancel(*self._background)
        self._background = []

    async def _claim_for_ever(self) -> None:
        """Keep one claim on its way.

        It waits at the source, for jobs and for a free slot: nothing polls here.
        """
        pauses = Pauses(0.1, 3.0)
        while True:
            try:
                if await self._claim():
                    pauses.reset()
                    continue
            except TrunklineError as error:
                self._observer.claim_failed(error, pauses.seconds)
            await pauses.rest()

    async def _claim(self) -> bool:
        """Claim once. False: the source answered "none" without waiting, as it does while it stops."""
        loop = asyncio.get_running_loop()
        asked, wait = loop.time(), self._terms.claim_wait_seconds
        jobs = await self._source.claim(self._slots, wait)
        self._observer.claimed()
        # From the answer's arrival: the lease began a moment before, which the margin of a third covers.
        expires = loop.time() + self._terms.lease_seconds
        for job in jobs:
            self._begin(job, expires)
        self._observer.running(self._working)
        return bool(jobs) or loop.time() - asked >= wait / 2

    def _begin(self, job: LeasedJob, expires: float) -> None:
        kind = self._kinds.get(job.kind, _UNKNOWN)
        attempt = kind.begin(job, self._tell)
        attempt.expires = expires
        self._leases.hold(attempt)
        self._working += 1
        self._slots.take(job.kind)
        attempt.task = asyncio.create_task(self._work(kind, attempt))
        self._tasks.add(attempt.task)
        attempt.task.add_done_callback(lambda task: self._left(task, job))

    def _left(self, task: asyncio.Task[None], job: LeasedJob) -> None:
        self._tasks.discard(task)
        self._slots.give(job.kind)
        self._source.slot_freed()
        if not task.cancelled() and (broke := task.exception()) is not None:
            # A bug: nothing is reported, and the lease, which nobody renews, runs out.
            log.error("job_broke", job=job.job_id, kind=job.kind, exc_info=broke)

    async def _work(self, kind: Kind[Any], attempt: Attempt) -> None:
        """Work on one job and report it. The lease is renewed until the report was taken, or the work stopped."""
        try:
            reports = await self._outcome(kind, attempt)
        except asyncio.CancelledError:
            self._leases.let_go(attempt)
            if attempt.task is not None and not attempt.task.cancelling():
                # A bug as in _left: what the work waited for was cancelled, not the work.
                log.error("job_broke", job=attempt.leased.job_id, kind=attempt.leased.kind, exc_info=True)
            self._observer.ended(attempt, "lost" if attempt.lost else "released")
            return
        except BaseException:
            self._leases.let_go(attempt)
            raise
        finally:
            self._working -= 1
            self._observer.running(self._working)
        try:
            if reports:
                await self._reporter.put(reports)
        finally:
            self._leases.let_go(attempt)

    async def _outcome(self, kind: Kind[Any], attempt: Attempt) -> list[Report]:
        """Run the handler and return the reports of how that ended; none when the lease is lost."""
        try:
            result = await kind.handler(attempt)
        except Exception as error:
            follow_up = await kind.policy(attempt, error)
            if follow_up is None:
                self._observer.ended(attempt, "lost")
                return []
            self._observer.ended(attempt, type(follow_up).__name__.lower())
            return attempt.reports(follow_up)
        outcome = result if isinstance(result, Wait) else Done(result)
        self._observer.ended(attempt, type(outcome).__name__.lower())
        return attempt.reports(outcome)

    def _tell(self, attempt: Attempt, reports: Sequence[Report]) -> None:
        if reports and not attempt.lost:
            self._reporter.put(reports)


async def _unknown(attempt: Attempt) -> None:
    raise Unimplemented(f"{attempt.leased.kind} is not known any more", reason="KIND_UNKNOWN")


async def _given_up(attempt: Attempt, error: Exception) -> FollowUp:
    log.error("kind_unknown", job=attempt.leased.job_id, **attempt.described)
    return Dead(str(error), error if isinstance(error, TrunklineError) else None)


_UNKNOWN: Kind[Attempt] = Kind("", _unknown, _given_up, lambda job, _: Attempt(job))


async def _cancel(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
