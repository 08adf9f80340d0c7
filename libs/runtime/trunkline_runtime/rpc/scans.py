"""How many lists and counts of one tenant run at once, how many wait for that, and how long a list takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trunkline_runtime.errors import DeadlineExceeded, ResourceExhausted
from trunkline_runtime.identity.callers import Caller, CallerKind

# A page of panels that are loaded together finds its turns within this; a flood is refused at once.
_WAIT_SECONDS = 1.0
_MOST_WAITING = 16


class _Turns:
    """The turns of one owner. `asked` counts those that have one or wait."""

    def __init__(self, at_once: int) -> None:
        self.free = asyncio.Semaphore(at_once)
        self.asked = 0


class Scans:
    """Gives each tenant's callers `at_once` turns, and each operator as many for each tenant; services need none.

    A further one waits for a second, up to 16 at once. A list ends after `seconds`.
    """

    def __init__(self, at_once: int, seconds: float) -> None:
        self._at_once = at_once
        self._seconds = seconds
        self._owners: dict[tuple[str, str | None], _Turns] = {}

    @asynccontextmanager
    async def turn(self, caller: Caller, tenant: str | None, *, is_list: bool) -> AsyncIterator[None]:
        """Run the block in a turn. Raises ResourceExhausted; DeadlineExceeded for a list that took too long."""
        if caller.kind is CallerKind.SERVICE:
            yield
            return
        owner = ("", caller.tenant) if caller.tenant else (str(caller), tenant)
        turns = self._owners.setdefault(owner, _Turns(self._at_once))
        if turns.asked >= self._at_once + _MOST_WAITING:
            raise self._too_many(owner)
        turns.asked += 1
        try:
            await self._wait(turns, owner)
            try:
                async with _ending(self._seconds if is_list else None):
                    yield
            finally:
                turns.free.release()
        finally:
            turns.asked -= 1
            if not turns.asked:
                del self._owners[owner]

    async def _wait(self, turns: _Turns, owner: tuple[str, str | None]) -> None:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await turns.free.acquire()
        except TimeoutError:
            raise self._too_many(owner) from None

    def _too_many(self, owner: tuple[str, str | None]) -> ResourceExhausted:
        return ResourceExhausted(
            f"a tenant can read {self._at_once} lists at once; try again in a moment",
            reason="LISTS_AT_ONCE",
            subject=f"tenants/{owner[1] or '-'}",
            retry_after=1.0,
        )


@asynccontextmanager
async def _ending(seconds: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds) as timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise DeadlineExceeded(
            f"the list took longer than {seconds:g} s; narrow `filter`, for example to a shorter time",
            reason="LIST_TOO_SLOW",
        ) from None
