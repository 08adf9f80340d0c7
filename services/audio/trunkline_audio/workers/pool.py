"""A bounded pool of warm worker processes; one that dies costs its job and is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

from trunkline_runtime.resilience import Pauses

from trunkline_audio.workers import frames

DYING_SECONDS = 1.0
# The environment of the processes: what a program needs to run, and nothing that the service was entrusted with. A
# decoder reads bytes that a stranger sent, and it cannot tell what it does not have: keys, tokens, and addresses.
_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"),
        *("VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "GRPC_ENABLE_FORK_SUPPORT"),
        "TRUNKLINE_MODELS_FOLDER",
    }
)
_FAMILIES = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "COV_CORE_")
# One thread a process: there are as many processes as cores.
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class WorkerError(Exception):
    """A job had no result. `reason` is a constant; `transient` says whether trying again may help."""

    def __init__(self, reason: str, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.transient = transient


class _Worker:
    """One process, its pipes, and the jobs that wait for its answers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[frames.Message | None]] = {}
        self._reader: asyncio.Task[None] | None = None

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
        """Waits until it has loaded its handler; False when it ended before."""
        assert self._process.stdout is not None
        if (await frames.read_async(self._process.stdout) or {}).get("ready") is not True:
            return False
        self._reader = asyncio.create_task(self._read(self._process.stdout))
        return True

    async def call(self, request: frames.Message) -> frames.Message | None:
        """The reply, or None when the process died."""
        assert self._process.stdin is not None
        assert self._reader is not None
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(frames.encode({**request, "id": number}))
                await self._process.stdin.drain()
            return None if self._reader.done() else await answer
        finally:
            self._answers.pop(number, None)

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        try:
            while (reply := await frames.read_async(stdout)) is not None:
                answer = self._answers.get(reply.pop("id", -1))
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_result(None)

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
        if self._reader is not None:
            # Not waited for: a process that it forked may hold the pipe open.
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code


class WorkerPool:
    """`size` processes that run `python -m trunkline_audio.workers.child TARGET`, `lanes` jobs at once in each.

    Processes start in the background: `run` waits for one that has a free lane. A process that was killed,
    that ran into a limit or that outlived a job's time is replaced, with a growing pause while starts fail; the
    other jobs that ran in it fail with it. `settings` are the handler's keyword arguments.
    """

    def __init__(
        self,
        target: str,
        *,
        size: int,
        name: str,
        lanes: int = 1,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.size = size
        self.lanes = lanes
        self.name = name
        self._arguments = (target, str(lanes), json.dumps(dict(settings or {})))
        self._env = cleaned(env or {})
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        """Each process once a free lane."""
        self._alive: set[_Worker] = set()
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
        return [worker.pid for worker in self._alive]

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
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        try:
            async with asyncio.timeout_at(until):
                worker = await self._take()
                job = loop.create_task(worker.call(request))
                reply = await asyncio.shield(job)
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
            if worker is not None and self.lanes == 1:
                await asyncio.shield(self._replace(worker))
            elif worker is not None:
                # What runs beside it goes on: the lane is free once the answer that nobody wants is there.
                self._background(self._outlive(worker, job, until))
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
        while self._alive:
            await self._alive.pop().end()

    async def _take(self) -> _Worker:
        while True:
            worker = await self._idle.get()
            # A process that died while idle is found here, not by the job that would have had it.
            if worker in self._alive and not worker.exited:
                return worker
            await self._replace(worker)

    async def _outlive(self, worker: _Worker, job: asyncio.Task[frames.Message | None], until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                reply = await job
        except TimeoutError:
            reply = None
        if reply is None:
            await self._replace(worker)
        else:
            self._idle.put_nowait(worker)

    async def _replace(self, worker: _Worker, *, dying: bool = False) -> int:
        """Ends a process and starts another; its exit code. Whoever else notices finds it done."""
        mine = worker in self._alive
        self._alive.discard(worker)
        ending = asyncio.get_running_loop().create_task(worker.end(dying=dying))
        if mine:
            # In the background: an asker that gives up here must not leave the pool without a process.
            self._background(self._succeed(ending))
        return await asyncio.shield(ending)

    async def _succeed(self, ending: asyncio.Task[int]) -> None:
        await asyncio.shield(ending)
        if not self._closed:
            await self._spawn()

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _spawn_all(self) -> None:
        await self._spawn()
        for _ in range(self.size - 1):
            self._background(self._spawn())

    async def _spawn(self) -> None:
        pauses = Pauses(0.1, 10.0)
        while not self._closed:
            with contextlib.suppress(OSError):  # no memory or no process to be had: later perhaps
                worker = await self._start_one()
                if worker is not None:
                    self._start_failed = False
                    self._alive.add(worker)
                    for _ in range(self.lanes):
                        self._idle.put_nowait(worker)
                    self._changed.set()
                    return
            self._start_failed = True
            await pauses.rest()

    async def _start_one(self) -> _Worker | None:
        worker = _Worker(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "trunkline_audio.workers.child",
                *self._arguments,
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


def cleaned(also: Mapping[str, str], env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what a worker is started with: the harmless part of `env`, one thread, and `also` over both."""
    handed = {name: value for name, value in env.items() if name in _NAMES or name.startswith(_FAMILIES)}
    return handed | _THREADS | dict(also)
