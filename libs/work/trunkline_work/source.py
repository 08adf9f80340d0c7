"""Where jobs come from, and the slots that a claim may fill."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from trunkline_work.model import JobKey, LeasedJob, Report

RELEASE_SECONDS = 1.5
"""How long giving leases back may take at a stop; what was not given back runs out by itself."""


class Slots:
    """How many jobs a worker runs at once, in all and of the kinds that are bounded, and how many it runs now."""

    def __init__(self, most: int, most_of_kinds: Mapping[str, int] | None = None) -> None:
        """A kind that `most_of_kinds` does not name may take them all."""
        self.most = most
        self._most_of_kinds = dict(most_of_kinds or {})
        self._taken: Counter[str] = Counter()

    @property
    def free(self) -> int:
        """How many more jobs may begin now."""
        return max(0, self.most - self._taken.total())

    def free_of_kinds(self) -> dict[str, int]:
        """Return how many more of each bounded kind may begin now."""
        return {kind: max(0, most - self._taken[kind]) for kind, most in self._most_of_kinds.items()}

    def most_of(self, kind: str) -> int:
        """Return how many of a kind may run at once."""
        return min(self.most, self._most_of_kinds.get(kind, self.most))

    def take(self, kind: str) -> None:
        """Note that a job of this kind began."""
        self._taken[kind] += 1

    def give(self, kind: str) -> None:
        """Note that one ended."""
        self._taken[kind] -= 1


class JobSource(Protocol):
    """Hands jobs to one worker under leases, and takes its reports; every write compares the lease's token.

    Every method raises TrunklineError, and nothing else.
    """

    @property
    def doubt(self) -> asyncio.Event:
        """Set by the source when leases may be lost, and are to be renewed before their time; cleared by the worker."""
        ...

    async def claim(self, slots: Slots, wait_seconds: float) -> Sequence[LeasedJob]:
        """Lease jobs for free slots; waits for the first, and for a free slot.

        Returns none when there was none for so long, or, before that, when the source gives out nothing more.
        """
        ...

    def slot_freed(self) -> None:
        """Hear that a slot became free, for which a claim may wait."""
        ...

    async def renew(self, jobs: Sequence[LeasedJob]) -> set[JobKey]:
        """Lengthen the leases; return the keys of jobs whose lease is lost."""
        ...

    async def report(self, reports: Sequence[Report]) -> set[JobKey]:
        """Apply reports, a job's in order; return the keys of jobs whose lease is lost.

        Their reports changed nothing. A report that was applied and is sent again counts as lost.
        """
        ...

    async def release(self) -> int:
        """Give back every lease of the worker, no attempt spent; how many."""
        ...
