"""Shares a few lanes among many recordings: whose turn it is, by class, tenant, and recording."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MOST_PASSED_OVER = 7
"""How many turns in a row go to other classes while one waits: a lower class gets an eighth of the turns at least."""


@dataclass(eq=False)
class _Waiter:
    """Somebody who wants a lane, in the order of asking."""

    tenant: str
    recording: str
    priority: int
    number: int
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class FairLanes:
    """`lanes` at once. A free one goes to the highest class, its tenant that holds fewest, then its recording likewise.

    A class is a number, 0 the highest. One that was passed over `MOST_PASSED_OVER` times in a row is next. Among
    equals whoever was served longest ago is next, then whoever asked first: an hour of sound beside a short call, or
    a hundred recordings of one tenant beside one of another, do not make the other wait for all of them.
    """

    def __init__(self, lanes: int) -> None:
        self._free = lanes
        self._numbers = itertools.count()
        self._waiting: list[_Waiter] = []
        self._held: Counter[str] = Counter()
        self._passed_over: Counter[int] = Counter()
        """How many turns in a row each class that waits did not get."""
        self._served: dict[str, int] = {}
        """When each tenant or recording that waits or holds was last given a lane."""

    @asynccontextmanager
    async def lane(self, tenant: str, recording: str, priority: int = 0) -> AsyncIterator[None]:
        """Holds a lane while the block lasts; waits for it."""
        keys = (tenant, f"{tenant}/{recording}")
        waiter = _Waiter(*keys, priority, next(self._numbers))
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
            if not waiting:
                return
            priority = self._next_class({waiter.priority for waiter in waiting})
            chosen = min((waiter for waiter in waiting if waiter.priority == priority), key=self._order)
            self._waiting.remove(chosen)
            self._free -= 1
            turn = next(self._numbers)
            for key in (chosen.tenant, chosen.recording):
                self._held[key] += 1
                self._served[key] = turn
            chosen.granted.set_result(None)

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
            self._held[waiter.recording],
            self._served.get(waiter.recording, -1),
            waiter.number,
        )

    def _release(self, waiter: _Waiter) -> None:
        self._free += 1
        self._held.subtract((waiter.tenant, waiter.recording))
        self._grant()
        self._forget()

    def _forget(self) -> None:
        """Keeps nothing of those who neither wait nor hold."""
        here = {key for waiter in self._waiting for key in (waiter.tenant, waiter.recording)}
        here |= {key for key, held in self._held.items() if held}
        self._held = Counter({key: self._held[key] for key in here})
        self._served = {key: turn for key, turn in self._served.items() if key in here}
