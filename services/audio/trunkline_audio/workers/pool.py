"""A bounded pool of warm worker processes; one that dies costs its job and is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine, Mapping

from trunkline_audio.workers import frames
from trunkline_audio.workers.environment import cleaned

DYING_SECONDS = 1.0


class WorkerError(Exception):
    """A job had no result. `reason` is a constant; `transient` says whether trying again may help."""

    def __init__(self, reason: str, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.transient = transient


class _Worker:
    """One process and its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exited(self) -> bool:
        """Whether it is gone: the system may know a moment before the event loop is told."""
        if self._process.returncode is not None:
            return True
        try:
            os.kill(self._process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    async def ready(self) -> bool:
        assert self._process.stdout is not None
        return (await frames.read_async(self._process.stdout) or {}).get("ready") is True

    async def call(self, request: frames.Message) -> frames.Message | None:
        """The reply, or None when the process died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(frames.encode(request))
            await self._process.stdin.drain()
        return await frames.read_async(self._process.stdout)

    async def end(self, *, dying: bool = False) -> int:
        """Kills the process unless it ends by itself; its exit code, negative for a signal.

        A `dying` process gets a moment: killing one that is dead but not yet reaped loses its exit code.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DYING_SECONDS if dying else 0):
                await self._process.wait()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        code = await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code


class WorkerPool:
    """`size` processes that run `python -m trunkline_audio.workers.child TARGET`.

    Processes start in the background: `run` waits for one that is idle. A process that was killed, that ran
    into a limit or that outlived its job's time is replaced, with a growing pause while starts fail.
    """

    def __init__(self, target: str, *, size: int, name: str, env: Mapping[str, str] | None = None) -> None:
        self.size = size
        self.name = name
        self._target = target
        self._env = cleaned(env or {})
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        self._alive: dict[int, _Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._changed = asyncio.Event()
        self._start_failed = True  # until start() is called there is nothing to wait for

    def start(self) -> None:
        """Begins to start the processes; returns at once. One comes first, so that it is warm the sooner."""
        self._start_failed = False
        self._background(self._spawn_all())

    @property
    def ready(self) -> bool:
        """Whether jobs are answered: a process is warm, or one warms up and no start has failed before it."""
        return bool(self._alive) or not self._start_failed

    @property
    def pids(self) -> list[int]:
        """The warm processes, for metrics and tests."""
        return list(self._alive)

    async def wait_ready(self, count: int = 1) -> None:
        """Waits until `count` processes are warm."""
        while len(self._alive) < count:
            self._changed.clear()
            await self._changed.wait()

    async def run(self, request: frames.Message, *, seconds: float) -> frames.Message:
        """Runs one job on an idle process within `seconds`, waiting for it included.

        Raises WorkerError: the job's own reason, or WORKER_TIMEOUT, WORKER_DIED.
        """
        worker: _Worker | None = None
        try:
            async with asyncio.timeout(seconds):
                worker = await self._take()
                reply = await worker.call(request)
        except TimeoutError:
            if worker is None:
                raise WorkerError(
                    "WORKER_TIMEOUT", f"no {self.name} process became free in {seconds:g} s", transient=True
                ) from None
            await self._replace(worker)
            raise WorkerError(
                "WORKER_TIMEOUT", f"the {self.name} process took more than {seconds:g} s", transient=True
            ) from None
        except BaseException:
            if worker is not None:
                await asyncio.shield(self._replace(worker))
            raise
        if reply is None:
            code = await self._replace(worker, dying=True)
            raise WorkerError("WORKER_DIED", f"the {self.name} process died ({_cause(code)})", transient=True)
        self._idle.put_nowait(worker)
        if (error := reply.get("error")) is not None:
            reason = str(error["reason"])
            raise WorkerError(reason, str(error["message"]), transient=reason in _TRANSIENT)
        return dict(reply["ok"])

    async def close(self) -> None:
        """Ends all processes; jobs that still run fail."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in list(self._alive.values()):
            self._alive.pop(worker.pid, None)
            await worker.end()

    async def _take(self) -> _Worker:
        while True:
            worker = await self._idle.get()
            # A process that died while idle is found here, not by the job that would have had it.
            if worker.pid in self._alive and not worker.exited:
                return worker
            await self._replace(worker)

    async def _replace(self, worker: _Worker, *, dying: bool = False) -> int:
        self._alive.pop(worker.pid, None)
        code = await worker.end(dying=dying)
        if not self._closed:
            self._background(self._spawn())
        return code

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _spawn_all(self) -> None:
        await self._spawn()
        for _ in range(self.size - 1):
            self._background(self._spawn())

    async def _spawn(self) -> None:
        pause = 0.1
        while not self._closed:
            with contextlib.suppress(OSError):  # no memory or no process to be had: later perhaps
                worker = await self._start_one()
                if worker is not None:
                    self._start_failed = False
                    self._alive[worker.pid] = worker
                    self._idle.put_nowait(worker)
                    self._changed.set()
                    return
            self._start_failed = True
            await asyncio.sleep(pause)
            pause = min(10.0, pause * 2)

    async def _start_one(self) -> _Worker | None:
        worker = _Worker(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "trunkline_audio.workers.child",
                self._target,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self._env,
            )
        )
        ready = False
        try:
            ready = await worker.ready()
        finally:
            if not ready:
                await asyncio.shield(worker.end())
        return worker if ready else None


_TRANSIENT = frozenset({"WORKER_FAILED", "WORKER_KILLED", "WORKER_TIMEOUT"})


def _cause(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
