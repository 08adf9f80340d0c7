"""What one claim asks for, and by which rules it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from trunkline_jobs.leases import Ended


@dataclass(frozen=True)
class Room:
    """The slots of the owner who claims, and those of them that a busy tenant is not given.

    The last `reserve` free slots go to realtime jobs of tenants with fewer than `quiet` such jobs under lease:
    however many jobs the others have, somebody who had nothing to do is served at once.
    """

    slots: int
    reserve: int
    quiet: int


NO_BOUNDS = Room(slots=0, reserve=0, quiet=0)


@dataclass(frozen=True)
class Load:
    """How much one claim may carry: `weigh` tells the bytes of jobs by key: (tenant, job id).

    The first job is given whatever it weighs. What is left out is not leased.
    """

    most_bytes: int
    weigh: Callable[[Connection, Sequence[tuple[str, str]]], Mapping[tuple[str, str], int]]


@dataclass
class Tries:
    """When a job is given up that nobody reports on: its holders die with it, or hang, until the lease runs out.

    `most` tells how many runs a stage has. A job whose last run ended so is buried by the claim that finds it, and
    marked as untold. One transaction buries `most_buried` jobs at most, and none after `seconds` have passed beyond
    the first: a writer serves others too. The other jobs stay as they are for the next claim.
    """

    most: Callable[[str], int]
    most_buried: int = 100
    seconds: float = 0.1
    clock: Callable[[], float] = time.monotonic
    given_up: list[Ended] = field(default_factory=list)
    """Is told what was buried."""

    def __post_init__(self) -> None:
        self._until = self.clock() + self.seconds

    @property
    def spent(self) -> bool:
        """Whether this transaction is to bury no more."""
        return bool(self.given_up) and (len(self.given_up) >= self.most_buried or self.clock() >= self._until)


@dataclass(frozen=True)
class Asked:
    """One claim: who asks for how much, by which rules, when."""

    owner: str
    limit: int
    lease: timedelta
    classes: tuple[int, ...]
    caps: Mapping[int, int]
    now: datetime
    room: Room
    capped: set[str]
    """Is told the tenants that have a job that is due and were passed over for their cap."""
    load: Load | None = None
    tries: Tries | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    """How many jobs of a kind may be leased, where that is bounded."""
