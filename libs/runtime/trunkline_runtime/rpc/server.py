"""Starts, serves and drains a service's gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn, Self

import grpc
import grpc.aio
from google.longrunning import operations_pb2_grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from trunkline_runtime import addresses
from trunkline_runtime.api.validation import validator
from trunkline_runtime.config import CommonConfig, ConfigError, env_name
from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity import access
from trunkline_runtime.identity.access.rules import MOST_MESSAGE_BYTES, MOST_REQUEST_BYTES
from trunkline_runtime.identity.callers import Caller
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.observe import disks, exporting, logs
from trunkline_runtime.observe.endpoint import MetricsEndpoint, Ready
from trunkline_runtime.process import garbage, supervisor
from trunkline_runtime.process.signals import StoppedWaiting, stop_requested
from trunkline_runtime.rpc import operations
from trunkline_runtime.rpc.authenticator import (
    KEY_PREFIX,
    Authenticator,
    CachingAuthenticator,
    TenantServiceAuthenticator,
)
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.crowds import Crowds
from trunkline_runtime.rpc.health import Health, HealthServicer, health_server, is_on
from trunkline_runtime.rpc.interceptor import OPEN_SECONDS, ServerInterceptor, Translate
from trunkline_runtime.rpc.ports import bind
from trunkline_runtime.rpc.scans import Scans
from trunkline_runtime.rpc.tls import Tls

log = logs.get_logger(__name__)

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Server:
    """One service's gRPC server.

    `service` is its name (`tenant`), `authenticator` tells who holds a `tl_...` token (by default the tenant
    service at `config.tenant_address` is asked, and its answers are kept for 4 s), `interceptors` come after
    ours, `translate` turns a library's error into a domain error, `rules` is the access table, `open_seconds` is how
    long a stream of reflection lasts, `stream_seconds` how long the longest stream of its services may take: an old
    connection is not closed before.
    """

    def __init__(
        self,
        config: CommonConfig,
        *,
        service: str,
        signer: TokenSigner,
        authenticator: Authenticator | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        translate: Translate | None = None,
        rules: Mapping[str, access.Rule] = access.TABLE,
        open_seconds: float = OPEN_SECONDS,
        stream_seconds: float = 0.0,
    ) -> None:
        self._config = config
        self._service = service
        self._signer = signer
        self._tls = Tls.of(config, service)
        self._channels = Channels(signer, self._tls)
        self._authenticator = authenticator or CachingAuthenticator(
            TenantServiceAuthenticator(self._channels, config.tenant_address)
        )
        self._further = tuple(interceptors)
        self._translate = translate
        self._rules = rules
        self._open_seconds = open_seconds
        self._stream_seconds = stream_seconds
        self._foreign: set[str] = set()
        self._added: list[tuple[Callable[[Any, grpc.aio.Server], None], Any]] = []
        self._stack = AsyncExitStack()
        self._server: grpc.aio.Server | None = None
        self.health = Health()
        self.stopping = asyncio.Event()
        """Set when the drain begins: a stream that would go on for ever ends itself then."""
        self.ready: Ready = self.health.told
        """Whether the service serves, and why not: what /readyz of the metrics' address tells."""
        self.port = 0

    @property
    def address(self) -> str:
        """host:port as it was bound."""
        return f"{addresses.split(self._config.grpc_address, 'grpc_address')[0]}:{self.port}"

    def add(
        self,
        servicer_adder: Callable[[Any, grpc.aio.Server], None],
        servicer: Any,
        full_name: str,
        *,
        described: bool = True,
    ) -> None:
        """Serve a servicer: the generated adder, the servicer, the full name of its proto service.

        A service that is not `described` is another suite's: reflection does not show it.

        google.longrunning.Operations is served in any case: a server that adds none of its own has no operations.
        """
        _know(servicer_adder)
        self._added.append((servicer_adder, servicer))
        self.health.services.add(full_name)
        if not described:
            self._foreign.add(full_name)

    async def start(self) -> None:
        """Bind and serve; health turns SERVING once all it depends on is there. Raises ConfigError."""
        began = time.perf_counter()
        async with self._stack:
            self._stack.push_async_callback(self._channels.close)
            config = self._config
            self._stack.callback(
                exporting.configure(
                    self._service, config.otlp_endpoint, config.otlp_ratio, config.otlp_traces_per_second
                )
            )
            metrics = MetricsEndpoint(
                self._config.metrics_address,
                self._service,
                env_name(self._service, "metrics_address"),
                lambda: self.ready(),  # noqa: PLW0108 -- another one may be set
            )
            self._stack.callback(metrics.close)
            disks.show_store(self._config.store_url)
            server = self._build()
            credentials = None
            if self._tls is not None:
                credentials = self._tls.server_credentials()
                self.health.note("certificate", self._tls.problem)
            setting = env_name(self._service, "grpc_address")
            self.port = bind(server, self._config.grpc_address, setting, credentials)
            if is_on(self._config.probe_address):
                setting = env_name(self._service, "probe_address")
                probes, _ = await health_server(self.health, self._config.probe_address, setting)
                self._stack.push_async_callback(probes.stop, 0)
            await server.start()
            self._stack.push_async_callback(server.stop, 0)
            self._server = server
            self._stack.push_async_callback(self.health.close)
            self.health.start()
            # What is open stays open until stop(); before this line a failure has closed it again.
            self._stack = self._stack.pop_all()
        garbage.settle()
        supervisor.started()
        log.info("started", address=self.address, seconds=round(time.perf_counter() - began, 3))

    @asynccontextmanager
    async def running(self, *loops: Coroutine[Any, Any, None]) -> AsyncIterator[Self]:
        """Serve, with these loops beside it, while the block lasts; then drain. Raises ConfigError."""
        async with AsyncExitStack() as stack:
            for loop in loops:
                stack.callback(asyncio.create_task(loop).cancel)
            await self.start()
            stack.push_async_callback(self.stop)
            yield self

    async def serve_until_stopped(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        with stop_requested() as requested:
            await requested.wait()
            await self.stop()

    async def stop(self, grace: float | None = None) -> None:
        """Drain: health says NOT_SERVING, new calls are refused, those in flight get `grace` seconds."""
        if self._server is None:
            return
        grace = self._config.drain_seconds if grace is None else grace
        notice = min(self._config.drain_notice_seconds, grace)
        began = time.perf_counter()
        server, self._server = self._server, None
        async with self._stack:
            supervisor.stopping()
            await self.health.drain()
            self.stopping.set()
            log.info("draining", grace_seconds=grace)
            await asyncio.sleep(notice)
            await server.stop(grace - notice)
        log.info("stopped", seconds=round(time.perf_counter() - began, 3))

    def _build(self) -> grpc.aio.Server:
        if operations.SERVICE not in self.health.services:
            self.add(
                operations_pb2_grpc.add_OperationsServicer_to_server,
                operations.NoOperations(),
                operations.SERVICE,
            )
        # The first signature imports what signing needs; here it delays nobody's call.
        self._signer.service_token()
        ours = ServerInterceptor(
            identify=self._identify,
            rules=self._rules,
            validate=validator(),
            scans=Scans(self._config.lists_at_once, self._config.list_seconds),
            crowds=Crowds(self._config.grpc_calls_per_tenant, self._config.grpc_calls),
            translate=self._translate,
            keep=not self._further,
            open_seconds=self._open_seconds,
            peers=self._tls is not None,
        )
        server = grpc.aio.server(
            interceptors=[ours, *self._further],
            options=self._options(),
            maximum_concurrent_rpcs=self._config.grpc_calls,
        )
        for adder, servicer in self._added:
            adder(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self.health), server)
        names = sorted(self.health.services - self._foreign - {""})
        described = [*names, _HEALTH, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(described, server, pool=_Described(descriptor_pool.Default()))
        return server

    def _options(self) -> list[tuple[str, int]]:
        grace = max(self._config.max_connection_age_grace_seconds, self._stream_seconds)
        return [
            # Without this a second process binds the same port and gets half of the calls in silence.
            ("grpc.so_reuseport", 0),
            ("grpc.max_connection_age_ms", int(self._config.max_connection_age_seconds * 1000)),
            ("grpc.max_connection_age_grace_ms", int(grace * 1000)),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.max_concurrent_streams", self._config.grpc_streams),
            ("grpc.max_allowed_incoming_connections", self._config.grpc_connections),
            # A connection that does not begin to speak HTTP/2.
            ("grpc.server_handshake_timeout_ms", 10_000),
            ("grpc.max_metadata_size", 8_192),
            ("grpc.absolute_max_metadata_size", 16_384),
            ("grpc.max_receive_message_length", self._most_request_bytes()),
            ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
        ]

    def _most_request_bytes(self) -> int:
        """Return the largest request of all methods that are served here."""
        sizes = (
            rule.most_bytes
            for method, rule in self._rules.items()
            if method[1:].partition("/")[0] in self.health.services
        )
        return max(sizes, default=MOST_REQUEST_BYTES)

    async def _identify(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("the authorization must be: Bearer <token>", reason="CREDENTIALS_MALFORMED")
        if token.startswith(KEY_PREFIX):
            return await self._authenticator.authenticate(token)
        return self._signer.verify(token)


# What a process writes is for its own user: webhooks, recordings, keys.
PRIVATE = 0o077


class _Described:
    """A pool of descriptors as reflection asks it. It also finds a method, which the pool itself does not."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """Return the file. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            return found.methods_by_name[method].containing_service.file


def _know(servicer_adder: Callable[[Any, grpc.aio.Server], None]) -> None:
    """Import the descriptors of a service, which reflection describes it from.

    Its generated code imports those of its messages only, and they may all be of other files.
    """
    module = servicer_adder.__module__
    if module.endswith("_pb2_grpc"):
        importlib.import_module(module.removesuffix("_grpc"))


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a process's main coroutine, on uvloop where it is present; wrong settings end it with code 2."""

    async def runner() -> None:
        with contextlib.suppress(StoppedWaiting):
            await main()

    os.umask(PRIVATE)
    garbage.pace()
    try:
        try:
            import uvloop  # noqa: PLC0415 -- optional
        except ImportError:
            asyncio.run(runner())
        else:
            uvloop.run(runner())
    except ConfigError as error:
        tell(error)


def tell(error: ConfigError) -> NoReturn:
    """Say what is wrong with the settings, one line each, and end the process with code 2."""
    for problem in error.problems:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201 -- logs may not be configured yet
    sys.exit(2)
