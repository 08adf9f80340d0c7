"""Shares a few lanes among many pieces of work: whose turn it is, by class, tenant, and piece."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from trunkline.common.v1 import priority_pb2

MOST_PASSED_OVER = 7
"""How many turns in a row go to other classes while one waits: a lower class gets an eighth of the turns at least."""


def queue_class(priority: int) -> int:
    """Return the class of a request's Priority: 0 (realtime), 1 (batch), 2 (background)."""
    return max(0, priority - priority_pb2.PRIORITY_REALTIME)


class Gate(Protocol):
    """Says when a tenant may go, beside there being a lane."""

    def wait(self, tenant: str) -> float:
        """Return in how many seconds the tenant may go, as far as is known; 0 for now."""

    def take(self, tenant: str, size: int) -> None:
        """Take note that the tenant goes, with work of that size."""


@dataclass(eq=False)
class _Waiter:
    """Somebody who wants a lane, in the order of asking."""

    tenant: str
    piece: str
    priority: int
    number: int
    size: int
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class FairLanes:
    """`lanes` at once. A free one goes to the highest class, its tenant that holds fewest, then its piece likewise.

    Only those go whom the gate, if there is one, lets go: the others of a tenant at its limit wait beside the queue.
    A class is a number, 0 the highest. One that was passed over `MOST_PASSED_OVER` times in a row is next. Among
    equals whoever was served longest ago is next, then whoever asked first: an hour of sound beside a short call, or
    a hundred recordings of one tenant beside one of another, do not make the other wait for all of them.
    """

    def __init__(self, lanes: int, gate: Gate | None = None) -> None:
        self._free = lanes
        self._gate = gate
        self._timer: asyncio.TimerHandle | None = None
        """Set while the gate holds back all who wait."""
        self._numbers = itertools.count()
        self._waiting: list[_Waiter] = []
        self._held: Counter[str] = Counter()
        self._passed_over: Counter[int] = Counter()
        """How many turns in a row each class that waits did not get."""
        self._served: dict[str, int] = {}
        """When each tenant or piece that waits or holds was last given a lane."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def free(self, tenant: str) -> bool:
        """Whether a lane would be had now, with nobody passed over who waits."""
        return bool(self._free) and not self._waiting and not self._held_back(tenant)

    @asynccontextmanager
    async def lane(
        self, tenant: str, piece: str = "", priority: int = 0, *, size: int = 0
    ) -> AsyncIterator[None]:
        """Hold a lane while the block lasts; waits for it. `size` is for the gate."""
        keys = (tenant, f"{tenant}/{piece}")
        waiter = _Waiter(*keys, priority, next(self._numbers), size)
        self._waiting.append(waiter)
        self._grant()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._forget()
            else:  # it was given the lane in the same moment
                self._release(waiter)
            raise
        try:
            yield
        finally:
            self._release(waiter)

    def _grant(self) -> None:
        while self._free:
            # Whoever gave up is still here for a moment.
            waiting = [waiter for waiter in self._waiting if not waiter.granted.done()]
            if self._gate is not None and waiting:
                waits = {tenant: self._gate.wait(tenant) for tenant in {one.tenant for one in waiting}}
                waiting = [waiter for waiter in waiting if waits[waiter.tenant] <= 0]
                if not waiting:
                    self._look_again(min(waits.values()))
            if not waiting:
                return
            priority = self._next_class({waiter.priority for waiter in waiting})
            chosen = min((waiter for waiter in waiting if waiter.priority == priority), key=self._order)
            self._waiting.remove(chosen)
            self._free -= 1
            turn = next(self._numbers)
            for key in (chosen.tenant, chosen.piece):
                self._held[key] += 1
                self._served[key] = turn
            if self._gate is not None:
                self._gate.take(chosen.tenant, chosen.size)
            chosen.granted.set_result(None)

    def _held_back(self, tenant: str) -> bool:
        return self._gate is not None and self._gate.wait(tenant) > 0

    def _look_again(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._grant)

    def _next_class(self, classes: set[int]) -> int:
        """Return the class whose turn it is, and count the turn for the others that wait."""
        overdue = [one for one in classes if self._passed_over[one] >= MOST_PASSED_OVER]
        chosen = min(overdue or classes)
        self._passed_over = Counter({one: self._passed_over[one] + 1 for one in classes if one != chosen})
        return chosen

    def _order(self, waiter: _Waiter) -> tuple[int, ...]:
        return (
            self._held[waiter.tenant],
            self._served.get(waiter.tenant, -1),
            self._held[waiter.piece],
            self._served.get(waiter.piece, -1),
            waiter.number,
        )

    def _release(self, waiter: _Waiter) -> None:
        self._free += 1
        self._held.subtract((waiter.tenant, waiter.piece))
        self._grant()
        self._forget()

    def _forget(self) -> None:
        """Keeps nothing of those who neither wait nor hold."""
        here = {key for waiter in self._waiting for key in (waiter.tenant, waiter.piece)}
        here |= {key for key, held in self._held.items() if held}
        self._held = Counter({key: self._held[key] for key in here})
        self._served = {key: turn for key, turn in self._served.items() if key in here}
