"""The kinds of job that a worker knows: a handler, which works, and a policy, which says what a failure means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe.logs import get_logger

from trunkline_work.model import Dead, Done, LeasedJob, Report, Retry, Wait

log = get_logger(__name__)

FollowUp: TypeAlias = Wait | Retry | Dead


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt at a job, under one lease; belongs to one task. A kind with stages keeps them in one of its own."""

    leased: LeasedJob
    expires: float = 0.0
    """Loop time when the lease runs out."""
    task: asyncio.Task[None] | None = None
    lost: bool = False
    """Whether the lease is another's by now, or nobody's."""

    def reports(self, outcome: Done | FollowUp) -> list[Report]:
        """Return what to report when the attempt has ended so."""
        return [Report(self.leased, outcome, self.leased.stage)]

    @property
    def described(self) -> Mapping[str, str]:
        """Who it is about, for the log."""
        return {"tenant": self.leased.tenant, "kind": self.leased.kind}


AttemptT = TypeVar("AttemptT", bound=Attempt)
Tell: TypeAlias = Callable[[Attempt, Sequence[Report]], None]
"""Sends reports of an attempt that goes on; nothing when its lease is lost."""


@dataclass(frozen=True)
class Kind(Generic[AttemptT]):
    """One kind of job.

    `handler` works on a job and returns its result, or a Wait where the job goes on later; it may be run again after
    any part of it. `policy` says what follows from what the handler raised; None: the lease was lost, and nothing is
    reported. Both run in the job's own task. `begin` makes the attempt. `slots` is how many of the worker's slots the
    kind may take; None: all of them.
    """

    name: str
    handler: Callable[[AttemptT], Awaitable[Any]]
    policy: Callable[[AttemptT, Exception], Awaitable[FollowUp | None]]
    begin: Callable[[LeasedJob, Tell], AttemptT]
    slots: int | None = None


class Observer:
    """Hears what a worker does: for metrics, and for log events that say more than the worker knows."""

    def claimed(self) -> None:
        """Hear that a claim was answered."""

    def claim_failed(self, error: TrunklineError, retry_seconds: float) -> None:
        """Hear that a claim failed, and is made again after so many seconds."""
        log.warning("claim_failed", reason=error.reason, retry_seconds=retry_seconds)

    def running(self, jobs: int) -> None:
        """Hear how many jobs are worked on now."""

    def ended(self, attempt: Attempt, outcome: str) -> None:
        """Hear how an attempt ended: done, wait, retry, dead, lost, or released."""

    def lost(self, attempt: Attempt) -> None:
        """Hear that the lease of a job that is worked on is lost."""
        log.warning("lease_lost", job=attempt.leased.job_id, **attempt.described)
