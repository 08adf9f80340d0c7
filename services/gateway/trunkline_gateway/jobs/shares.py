"""How many of the workers' slots one tenant is given: nearly all while alone, a share while others are served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trunkline_jobs import QueueClass, Room

# So long after it was given a job a tenant is one of those that share the workers.
_SERVED_SECONDS = 30.0
# So long after its last claim a worker's slots count: longer than a claim may wait.
_WORKER_SECONDS = 90.0


class Shares:
    """Remembers who was served and which workers ask. Times are seconds of any steady clock."""

    def __init__(
        self,
        *,
        tenant_in_flight: int = 1000,
        contended_share: float = 0.2,
        reserved_share: float = 0.25,
        quiet_in_flight: int = 2,
    ):
        """Bound what a tenant gets.

        `tenant_in_flight`: jobs of one tenant and class leased at once, over all workers, at most;
        `contended_share`: the part of all workers' slots that is the most while other tenants are served, since
        they share processors and disks as well; `reserved_share`: the part of each worker's slots that only
        tenants with fewer than `quiet_in_flight` jobs in work are given.
        """
        self._most = tenant_in_flight
        self._contended_share = contended_share
        self._reserved_share = reserved_share
        self._quiet = quiet_in_flight
        self._served: dict[str, float] = {}  # when, by tenant, the last at the end
        self._workers: dict[
            str, tuple[float, int]
        ] = {}  # when it claimed, and its slots; the last at the end

    def claims(self, worker: str, slots: int, now: float) -> None:
        """Remember that a worker with that many slots asks for jobs."""
        self._workers.pop(worker, None)
        self._workers[worker] = (now, slots)
        while now - next(iter(self._workers.values()))[0] > _WORKER_SECONDS:
            del self._workers[next(iter(self._workers))]

    def leaves(self, worker: str) -> None:
        """Forget a worker that stops."""
        self._workers.pop(worker, None)

    def gave(self, tenants: Iterable[str], now: float) -> None:
        """Remember whom jobs were given to, and forget who has had none for a while."""
        for tenant in tenants:
            self._served.pop(tenant, None)
            self._served[tenant] = now
        while self._served and now - next(iter(self._served.values())) > _SERVED_SECONDS:
            del self._served[next(iter(self._served))]

    def caps(self) -> Mapping[int, int]:
        """Return the most leases of one tenant, by class."""
        most = self._most
        if len(self._served) > 1:
            slots = sum(slots for _, slots in self._workers.values())
            most = min(most, max(1, round(slots * self._contended_share)))
        return dict.fromkeys(map(int, QueueClass), most)

    def room(self, slots: int) -> Room:
        """Return a worker's slots with the share that is kept for the quiet: never all, never none of several."""
        reserve = min(slots - 1, max(1, round(slots * self._reserved_share))) if slots else 0
        return Room(slots, reserve if self._reserved_share > 0 else 0, self._quiet)
