"""Deadlines of futures: what is not done in time is given up, with one timer for all of them.

A timer for each webhook would cost more than the webhook's own handling. Here it is one append to a list; ten
times in the given span the lists move on by one, and what is not done when its list falls off the end gets an
error. Time is counted in turns of the event loop's own timer, so a loop that stood still gives everybody the
longer wait instead of giving everybody up at once.
"""

from __future__ import annotations

import asyncio
from collections import deque

from trunkline_store.errors import StoreUnavailable

_TICKS = 10


class NotConfirmed(StoreUnavailable):
    """The store did not say in time that the row is durable. It may become so all the same."""

    reason = "STORE_NOT_CONFIRMED"


class Deadlines:
    """Watches futures; whoever owns it calls `tick` every `tick_seconds`."""

    def __init__(self, seconds: float):
        """Give up after `seconds`, or up to a tenth later."""
        self.tick_seconds = seconds / _TICKS
        self._seconds = seconds
        self._new: list[asyncio.Future[None]] = []
        self._aging: deque[list[asyncio.Future[None]]] = deque([[] for _ in range(_TICKS)])

    def watch(self, future: asyncio.Future[None]) -> None:
        """Give this one up, with NotConfirmed, if it is not done in time."""
        self._new.append(future)

    @property
    def waiting(self) -> bool:
        """Whether any future that came before the last tick is not done."""
        return any(not future.done() for futures in self._aging for future in futures)

    def tick(self) -> None:
        """Let a tenth of the time pass."""
        # What is done is let go of at once: under load that is nearly all.
        self._aging.appendleft([future for future in self._new if not future.done()])
        self._new = []
        for future in self._aging.pop():
            if not future.done():
                future.set_exception(NotConfirmed(f"not confirmed within {self._seconds:g} s"))
