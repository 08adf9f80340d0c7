"""One run for many askers: concurrent requests for the same thing share one task."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flights(Generic[K, T]):
    """Runs work once a key. An asker that gives up does not stop it: its result is kept for the next try.

    One that asks with `stops` does stop it, unless others wait for it too.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}
        self._askers: Counter[K] = Counter()

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: K) -> bool:
        return key in self._tasks

    def __iter__(self) -> Iterator[K]:
        """Yield the keys of what runs."""
        return iter(tuple(self._tasks))

    async def run(self, key: K, work: Callable[[], Awaitable[T]], *, stops: bool = False) -> T:
        """Return what `work` gives; joins the run of this key that is under way, if there is one."""
        while (task := self._tasks.get(key)) is not None and task.cancelling():
            await asyncio.wait(
                (task,)
            )  # it is being stopped, or a timeout inside it is: that shows when it ended
            if not task.cancelled():
                return task.result()
        if task is None:
            task = asyncio.ensure_future(_as_coroutine(work))
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        self._askers[key] += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if stops and self._askers[key] == 1:
                task.cancel()
            raise
        finally:
            self._askers[key] -= 1
            if not self._askers[key]:
                del self._askers[key]

    def stop(self, key: K) -> None:
        """Cancel the run of this key, if there is one, whoever waits for it."""
        if (task := self._tasks.get(key)) is not None:
            task.cancel()

    async def close(self) -> None:
        """Cancel what still runs."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: K, task: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # retrieved: an asker that gave up leaves nobody to hear of it


async def _as_coroutine(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
