"""Waits for what a service cannot begin without, its store: the process stays up, NOT_SERVING, and says why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Generic, NoReturn, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from trunkline_runtime.config import CommonConfig, ConfigError, env_name
from trunkline_runtime.errors import Unavailable, to_status
from trunkline_runtime.errors.wire import to_trailers
from trunkline_runtime.identity import access
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import logs
from trunkline_runtime.process.signals import StoppedWaiting, stop_requested
from trunkline_runtime.rpc.health import HealthServicer
from trunkline_runtime.rpc.server import Server

log = logs.get_logger(__name__)

T = TypeVar("T")
Why = Callable[[], str]
Meanwhile = Callable[[Why], AbstractAsyncContextManager[Any]]


async def opened(
    attempt: Callable[[], Awaitable[T]],
    passing: tuple[type[Exception], ...],
    config: CommonConfig,
    *,
    service: str,
    signer: TokenSigner,
    refused: tuple[type[Exception], ...] = (),
    meanwhile: Meanwhile | None = None,
    retry_seconds: float = 3.0,
    patience_seconds: float = 5.0,
) -> T:
    """Return what `attempt` opens; while it raises one of `passing`, try again every so often.

    From the first failure on, or when the first attempt takes longer than `patience_seconds`, the service's
    address answers: health NOT_SERVING, every other call UNAVAILABLE. `meanwhile` is entered for as long, with a
    function that tells the reason; what it gives tells /readyz more than the reason. One of `refused` is
    a ConfigError of the store's setting; what else `attempt` raises comes back. Raises StoppedWaiting at a signal.
    """
    trying = _Trying(attempt, passing, retry_seconds)
    opening = asyncio.create_task(trying.run())
    failed = asyncio.create_task(trying.failed.wait())
    try:
        await asyncio.wait({opening, failed}, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            await _held(opening, config, service, signer, meanwhile, trying)
        return await opening
    except refused as error:
        raise ConfigError(f"{env_name(service, 'store_url')}: {error}") from error
    finally:
        failed.cancel()
        opening.cancel()


async def _held(
    opening: asyncio.Task[T],
    config: CommonConfig,
    service: str,
    signer: TokenSigner,
    meanwhile: Meanwhile | None,
    trying: _Trying[T],
) -> None:
    """Keep the addresses until it is open, or raise StoppedWaiting."""
    async with AsyncExitStack() as stack:
        requested = stack.enter_context(stop_requested())
        server = _HeldServer(config, service=service, signer=signer)
        server.ready = lambda: (False, f"not ready: {trying.reason}")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        if meanwhile is not None:
            ready = await stack.enter_async_context(meanwhile(lambda: trying.reason))
            server.ready = ready or server.ready
        stopping = asyncio.create_task(requested.wait())
        stack.callback(stopping.cancel)
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            raise StoppedWaiting


class _Trying(Generic[T]):
    """Attempts until one succeeds; a reason is logged when it changes."""

    def __init__(
        self, attempt: Callable[[], Awaitable[T]], passing: tuple[type[Exception], ...], seconds: float
    ) -> None:
        self._attempt = attempt
        self._passing = passing
        self._seconds = seconds
        self.failed = asyncio.Event()
        self.reason = "store: it is still being opened"

    async def run(self) -> T:
        """Return what was opened."""
        began = time.monotonic()
        while True:
            try:
                value = await self._attempt()
            except self._passing as error:
                self._because(error)
            else:
                if self.failed.is_set():
                    log.info("store_opened", waited_seconds=round(time.monotonic() - began, 1))
                return value
            await asyncio.sleep(self._seconds)

    def _because(self, error: Exception) -> None:
        reason = f"store: {error}"
        if reason != self.reason:
            self.reason = reason
            log.warning("not_serving", reason=reason, kind=type(error).__name__, retry_seconds=self._seconds)
        self.failed.set()


class _HeldServer(Server):
    """A server that answers health, and UNAVAILABLE to everything else."""

    def _build(self) -> grpc.aio.Server:
        self.health.depend("store")
        package = f"trunkline.{self._service}."
        self.health.services |= {
            method.split("/")[1] for method in access.TABLE if method[1:].startswith(package)
        }
        server = grpc.aio.server(options=self._options())
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self.health), server)
        server.add_generic_rpc_handlers((_Unready(),))
        return server


class _Unready(grpc.GenericRpcHandler):
    """Any method of any kind: its caller should come again."""

    def service(self, _call: Any) -> Any:
        """Give the one answer there is."""
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(_requests: Any, context: Any) -> NoReturn:
    status = to_status(
        Unavailable("the service is waiting for its store", reason="STORE_NOT_READY", retry_after=3)
    )
    await context.abort(grpc.StatusCode.UNAVAILABLE, status.message, to_trailers(status))
    raise AssertionError("abort raises")
