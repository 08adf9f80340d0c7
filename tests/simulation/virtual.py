"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting, so that runs repeat exactly."""

import asyncio
import contextlib
import selectors
from datetime import UTC, datetime, timedelta

BEGINNING = datetime(2026, 3, 1, tzinfo=UTC)


class Stuck(Exception):
    """Everybody waits for something that nobody will ever do."""


class _NoSelector(selectors.DefaultSelector):
    """Reports no event; waiting is done by moving the loop's clock."""

    def __init__(self):
        super().__init__()
        self.loop = None

    def select(self, timeout=None):
        if timeout is None:
            raise Stuck("no timer is set and nothing is ready")
        self.loop.elapsed += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """One schedule's event loop."""

    def __init__(self):
        self.elapsed = 0.0
        selector = _NoSelector()
        super().__init__(selector)
        selector.loop = self
        self._clock_resolution = 1e-9
        self.offset = 0.0  # what the wall clock has jumped by

    def time(self):
        return self.elapsed

    def wall(self):
        """The machines' wall clock."""
        return BEGINNING + timedelta(seconds=round(self.elapsed + self.offset, 6))

    def run_in_executor(self, executor, func, *args):
        """Threads would not repeat: work is done at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def finish(self):
        """End every task and close."""
        for _ in range(100):
            tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            with contextlib.suppress(Stuck):
                self.run_until_complete(asyncio.wait(tasks, timeout=60))
        self.close()


class LoopTime:
    """Stands in for the module `time` where production code reads it: the running loop's virtual time."""

    def __init__(self, real):
        self._real = real

    def time(self):
        return asyncio.get_running_loop().wall().timestamp()

    def monotonic(self):
        return asyncio.get_running_loop().time()

    def __getattr__(self, name):
        return getattr(self._real, name)


class LoopClock:
    """The stores' clock."""

    def now(self):
        return asyncio.get_running_loop().wall()
