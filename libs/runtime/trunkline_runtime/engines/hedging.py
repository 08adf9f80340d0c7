"""A second request where the first takes unusually long: the one that answers first counts, the other is cancelled."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from trunkline_runtime.observe import metrics

T = TypeVar("T")

_hedges = metrics.counter(
    "trunkline_engine_hedges_total",
    "Second requests, sent because the first took long, by which of the two answered (first, second, none)",
    ["engine", "answered"],
)
_REMEMBERED = 200
_LEAST_REMEMBERED = 20

Spare = Callable[[], AbstractAsyncContextManager[object] | None]
"""Returns what holds a place for one more request, None if there is none at once."""


class Hedge:
    """Asks an engine; with `on`, asks it once more when it takes longer than 95 of 100 requests did.

    After a failure, there are no second requests until one succeeds: an engine in trouble, and one whose breaker is
    half open, is asked once. What a request that is cancelled costs, its provider decides.
    """

    def __init__(self, engine: str, *, on: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._on = on
        self._now = now
        self._took: deque[float] = deque(maxlen=_REMEMBERED)
        self._well = True

    @property
    def after_seconds(self) -> float | None:
        """How long the first request is waited for; None while no second one would be sent."""
        if not self._on or not self._well or len(self._took) < _LEAST_REMEMBERED:
            return None
        return sorted(self._took)[int(len(self._took) * 0.95)]

    async def ask(self, once: Callable[[], Awaitable[T]], spare: Spare) -> T:
        """Return what `once` returns, run once or twice. Raises what it raises, when no run of it returns."""
        after = self.after_seconds
        if after is None:
            return await self._timed(once)
        begun = self._now()
        first = asyncio.ensure_future(self._timed(once))
        running = {first}
        try:
            await asyncio.wait(running, timeout=after)
            place = None if first.done() else spare()
            if place is None:
                return await first
            async with place:
                second = asyncio.ensure_future(self._timed(once))
                running.add(second)
                answered = await _first_answer(first, second)
                if answered is second and not first.done():
                    # It takes this long at least. Left out, what is usual would seem ever quicker.
                    self._took.append(self._now() - begun)
                which = "none" if answered is None else "second" if answered is second else "first"
                _hedges.labels(self._engine, which).inc()
                return (answered or first).result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _timed(self, once: Callable[[], Awaitable[T]]) -> T:
        begun = self._now()
        try:
            answer = await once()
        except Exception:
            self._well = False
            raise
        self._took.append(self._now() - begun)
        self._well = True
        return answer


async def _first_answer(*tasks: asyncio.Future[T]) -> asyncio.Future[T] | None:
    """Return the first to return, None when none does."""
    waiting = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and task.exception() is None:
                return task
    return None
