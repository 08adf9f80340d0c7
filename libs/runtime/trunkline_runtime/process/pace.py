"""Time as a parameter: what a loop asks instead of the machine, so that a test may be faster than the clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pace:
    """How a process counts time and spends it. The default is the machine's own pace.

    `clock` returns seconds that only grow. `sleep` waits for as many seconds. `intervals` holds, by name, the
    intervals that differ from what their users state: `interval` is asked for each.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    intervals: Mapping[str, float] = field(default_factory=dict)

    def interval(self, name: str, seconds: float) -> float:
        """Return the seconds of the interval `name`, which takes `seconds` unless this pace says otherwise."""
        return self.intervals.get(name, seconds)


MACHINE = Pace()
"""The machine's own pace."""


async def wait_until(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for so many seconds at most.

    Not asyncio.wait_for: until Python 3.12 it swallows a cancellation that comes together with the event.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def first_of(events: Iterable[asyncio.Event], seconds: float) -> None:
    """Return when one of the events is set, or after so many seconds."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
