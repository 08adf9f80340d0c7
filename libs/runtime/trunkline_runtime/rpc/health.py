"""grpc.health.v1: starts NOT_SERVING, follows what the service depends on, ends watches at the drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trunkline_runtime.errors import NotFound, to_status
from trunkline_runtime.errors.wire import to_trailers
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.rpc.ports import bind

log = get_logger(__name__)

Check = Callable[[], Awaitable[bool]]
Setter = Callable[[bool], None]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
LIVE = "live"
"""The service that a liveness probe asks for: a process that answers is alive, whatever it waits for."""
_CHECK_SECONDS = 3.0
_PROBES_AT_ONCE = 64


class Health:
    """The state of a service: SERVING while it is started, not draining, and all it depends on is there."""

    def __init__(self, *, retry_seconds: float = 0.25, recheck_seconds: float = 5.0) -> None:
        self._retry = retry_seconds
        self._recheck = recheck_seconds
        self._states: dict[str, bool] = {}
        self._notes: dict[str, Callable[[], str]] = {}
        self._checks: dict[str, Check] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False
        self._draining = False
        self._at_drain: list[Callable[[], None]] = []
        self._changed = asyncio.Condition()
        self._notices: set[asyncio.Task[None]] = set()
        self.services: set[str] = {""}

    def depend(
        self, name: str, check: Check | None = None, at_drain: Callable[[], None] | None = None
    ) -> Setter:
        """Add something without which the server cannot serve, not there until said otherwise.

        With `check` it is asked again and again (an exception counts as False); the setter that is returned says it
        from outside, in the loop's own thread. `at_drain` is called when the drain begins.
        """
        if at_drain is not None:
            self._at_drain.append(at_drain)
        self._states[name] = False
        if check is not None:
            self._checks[name] = check
            if self._started:
                self._tasks.append(asyncio.create_task(self._follow(name, check)))

        def set_state(there: bool) -> None:
            self._set(name, there)

        return set_state

    def note(self, name: str, problem: Callable[[], str]) -> None:
        """Show something in the detail that the server serves without: `problem` says what it lacks, empty if nothing.

        `problem` is called from the thread that shows it.
        """
        self._notes[name] = problem

    @property
    def serving(self) -> bool:
        """Whether the server serves now."""
        return self._started and not self._draining and not self.missing

    @property
    def missing(self) -> list[str]:
        """What the server needs and is not there, by name."""
        return sorted(name for name, there in self._states.items() if not there)

    def told(self) -> tuple[bool, str]:
        """Return whether the server serves, and lines that say what is missing, also what it serves without."""
        if self._draining:
            return False, "stopping"
        serving, missing = self.serving, ", ".join(self.missing)
        first = "ok" if serving else f"not ready: {missing or 'starting'}"
        return serving, "\n".join([first, *self.problems()])

    def problems(self) -> list[str]:
        """Return a line for each thing that the server serves without."""
        noted = [(name, problem()) for name, problem in sorted(self._notes.items())]
        return [f"{name}: {problem}" for name, problem in noted if problem]

    def start(self) -> None:
        """Begin to follow the checks; from here on the service may be SERVING."""
        self._started = True
        self._tasks.extend(asyncio.create_task(self._follow(n, c)) for n, c in self._checks.items())
        self._notify()

    async def drain(self) -> None:
        """Say NOT_SERVING for good; every watch hears it and ends. Again is harmless."""
        self._draining = True
        told, self._at_drain = self._at_drain, []
        for tell in told:
            tell()
        async with self._changed:
            self._changed.notify_all()

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_serving(self) -> None:
        """Return once the service serves."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.serving)

    async def watch(self) -> AsyncIterator[bool]:
        """Give whether the server serves: now and at each change; ends with the drain."""
        last: bool | None = None
        while True:
            now = self.serving
            if now != last:
                last = now
                yield now
            elif self._draining:
                return
            else:
                async with self._changed:
                    if self.serving == last and not self._draining:
                        await self._changed.wait()

    def _set(self, name: str, there: bool) -> None:
        if self._states.get(name) == there:
            return
        self._states[name] = there
        log.info("dependency_changed", dependency=name, there=there, serving=self.serving)
        self._notify()

    def _notify(self) -> None:
        if not self._started:
            return  # nobody waits yet, and there may be no loop

        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)

    async def _follow(self, name: str, check: Check) -> None:
        failure = ""
        while True:
            there = False
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    there = await check()
                failure = ""
            except Exception as error:
                if failure != str(error):
                    log.warning(
                        "dependency_check_failed",
                        dependency=name,
                        error=str(error),
                        kind=type(error).__name__,
                    )
                failure = str(error)
            self._set(name, there)
            await asyncio.sleep(self._recheck if there else self._retry)


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers grpc.health.v1, alike for the whole server (``) and each of its services by full name."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(self, request: Any, context: Any) -> Any:
        """Say how it stands now. NOT_FOUND for a service that is not here."""
        if request.service == LIVE:
            return health_pb2.HealthCheckResponse(status=SERVING)
        if request.service not in self._health.services:
            status = to_status(NotFound(request.service))
            await context.abort(grpc.StatusCode.NOT_FOUND, status.message, to_trailers(status))
        return health_pb2.HealthCheckResponse(status=SERVING if self._health.serving else NOT_SERVING)

    async def Watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        """Say how it stands, then every change."""
        if request.service == LIVE:
            yield health_pb2.HealthCheckResponse(status=SERVING)
            return
        if request.service not in self._health.services:
            yield health_pb2.HealthCheckResponse(status=UNKNOWN)
            return
        async for serving in self._health.watch():
            yield health_pb2.HealthCheckResponse(status=SERVING if serving else NOT_SERVING)


async def health_server(health: Health, address: str, setting: str) -> tuple[grpc.aio.Server, int]:
    """Serve nothing but health on an address (host:port), for probes; give server and port. Raises ConfigError."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=_PROBES_AT_ONCE)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(health), server)
    port = bind(server, address, setting, only_health=True)
    await server.start()
    return server, port


def is_on(address: str) -> bool:
    """Tell whether an address that may be turned off is not."""
    return bool(address) and not address.endswith(":0")


@asynccontextmanager
async def serving_health(health: Health, address: str, setting: str) -> AsyncIterator[int]:
    """Serve the health of a process that serves nothing else, while the block lasts; give the port.

    `address`: host:port; empty or port 0: nothing is served, and the port is 0. Raises ConfigError.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(health.close)
        port = 0
        if is_on(address):
            server, port = await health_server(health, address, setting)
            stack.push_async_callback(server.stop, 0)
        health.start()
        yield port
        await health.drain()
