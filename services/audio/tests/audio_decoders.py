"""Decoders that outlive the services which use them: to start one takes longer than most tests last."""

import asyncio
import atexit
import functools
import threading

from trunkline_audio.app import PREPARE
from trunkline_audio.workers.pool import WorkerPool


class Lent:
    """One process that decodes, on an event loop of its own; what of a WorkerPool a service asks."""

    size = 1

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="lent decoders", daemon=True).start()
        self._pool = WorkerPool(PREPARE, size=self.size, name="decoder")
        self._loop.call_soon_threadsafe(self._pool.start)
        self._there(self._pool.wait_ready()).result(60)

    def _there(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @property
    def ready(self):
        return self._pool.ready

    def start(self):
        """It has started."""

    async def run(self, request, *, seconds):
        return await asyncio.wrap_future(self._there(self._pool.run(request, seconds=seconds)))

    async def close(self):
        """The next service has it."""

    def end(self):
        self._there(self._pool.close()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)


@functools.cache
def lent():
    """The session's own."""
    made = Lent()
    atexit.register(made.end)
    return made
