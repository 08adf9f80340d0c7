"""A running server, and channels to it as different callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import empty_pb2
from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.config import CommonConfig
from trunkline_runtime.errors import Unauthenticated
from trunkline_runtime.identity.access import Rule
from trunkline_runtime.identity.callers import OPERATOR, Caller, CallerKind, Role
from trunkline_runtime.identity.tokens import TokenSigner
from trunkline_runtime.rpc.channels import Channels
from trunkline_runtime.rpc.server import Server
from trunkline_runtime.testing import KEY_FOLDER

SERVICE = "trunkline.test.v1.EchoService"
KEYS = {
    "tl_viewer": Caller(CallerKind.API_KEY, tenant="acme", role=Role.VIEWER, subject="k1"),
    "tl_admin": Caller(CallerKind.API_KEY, tenant="acme", role=Role.ADMIN, subject="k2"),
    "tl_other": Caller(CallerKind.API_KEY, tenant="other", role=Role.ADMIN, subject="k3"),
    "tl_viewing": Caller(CallerKind.USER, tenant="acme", role=Role.VIEWER, subject="u1"),
    "tl_administering": Caller(CallerKind.USER, tenant="acme", role=Role.ADMIN, subject="u2"),
    "tl_operator": OPERATOR,
}


class KnownKeys:
    """An authenticator that knows the keys above."""

    async def authenticate(self, token: str) -> Caller:
        if token not in KEYS:
            raise Unauthenticated("the credentials are not valid", reason="CREDENTIALS_INVALID")
        return KEYS[token]


@dataclass
class Suite:
    """A server with an echo service whose handlers a test may set, and ways to call it."""

    server: Server
    handlers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    channels: Channels | None = None

    def signer(self, service: str = "gateway") -> TokenSigner:
        return TokenSigner(KEY_FOLDER, service)

    def channel(self) -> grpc.aio.Channel:
        """The channel of the service `gateway`."""
        if self.channels is None:
            self.channels = Channels(self.signer())
        return self.channels.get(self.server.address)

    async def call(self, method: str = "One", name: str = "tenants/acme/calls/abc", **kwargs: Any) -> Any:
        """Call a unary method with one request, as the gateway."""
        return await self.method(method)(call_service_pb2.GetCallRequest(name=name), **kwargs)

    def method(self, method: str, channel: grpc.aio.Channel | None = None) -> Any:
        """A multicallable of the echo service."""
        channel = channel or self.channel()
        kind = {
            "Many": "unary_stream",
            "Written": "unary_stream",
            "Gather": "stream_unary",
            "Chat": "stream_stream",
        }
        make = getattr(channel, kind.get(method, "unary_unary"))
        return make(
            f"/{SERVICE}/{method}",
            request_serializer=call_service_pb2.GetCallRequest.SerializeToString,
            response_deserializer=call_pb2.Call.FromString,
        )


async def one(request: Any, _context: Any) -> Any:
    return call_pb2.Call(name=request.name)


async def many(request: Any, _context: Any) -> AsyncIterator[Any]:
    for i in range(3):
        yield call_pb2.Call(name=f"{request.name}-{i}")


async def written(request: Any, context: Any) -> None:
    for i in range(3):
        await context.write(call_pb2.Call(name=f"{request.name}-{i}"))


async def gather(requests: AsyncIterator[Any], _context: Any) -> Any:
    return call_pb2.Call(name=",".join([r.name async for r in requests]))


async def chat(requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield call_pb2.Call(name=request.name)


def add_echo(suite: Suite) -> Callable[[Any, grpc.aio.Server], None]:
    """Register the echo service; handlers are looked up when called, so that a test can set them at any time."""
    defaults = {"One": one, "Many": many, "Written": written, "Gather": gather, "Chat": chat, "Admin": one}
    defaults |= {"Internal": one, "Unlisted": one}

    def call(name: str) -> Any:
        def behaviour(request: Any, context: Any) -> Any:
            return suite.handlers.get(name, defaults[name])(request, context)

        return behaviour

    codec = {
        "request_deserializer": call_service_pb2.GetCallRequest.FromString,
        "response_serializer": lambda m: (m or empty_pb2.Empty()).SerializeToString(),
    }
    kinds = {
        "Many": grpc.unary_stream_rpc_method_handler,
        "Written": grpc.unary_stream_rpc_method_handler,
        "Gather": grpc.stream_unary_rpc_method_handler,
        "Chat": grpc.stream_stream_rpc_method_handler,
    }
    methods = {n: kinds.get(n, grpc.unary_unary_rpc_method_handler)(call(n), **codec) for n in defaults}

    def add(_servicer: Any, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    return add


RULES = {
    f"/{SERVICE}/{n}": Rule(Role.VIEWER, resource="name")
    for n in ("One", "Many", "Written", "Gather", "Chat")
} | {
    f"/{SERVICE}/Admin": Rule(Role.ADMIN, resource="name"),
    f"/{SERVICE}/Internal": Rule(None, operators=False),
}


@pytest.fixture
async def start_suite() -> AsyncIterator[Callable[..., Awaitable[Suite]]]:
    """Start servers with settings of a test's own; they are stopped after it."""
    started: list[Suite] = []

    async def start(**settings: Any) -> Suite:
        server_arguments = settings.pop("server", {})
        defaults = {"grpc_address": "127.0.0.1:0", "drain_notice_seconds": 0.0, "drain_seconds": 1.0}
        config = CommonConfig(**{"keys": KEY_FOLDER, **defaults, **settings})
        arguments = {"authenticator": KnownKeys(), "rules": RULES, **server_arguments}
        server = Server(config, service="tenant", signer=TokenSigner(config.keys, "tenant"), **arguments)
        suite = Suite(server)
        server.add(add_echo(suite), None, SERVICE)
        await server.start()
        started.append(suite)
        return suite

    yield start
    for suite in started:
        if suite.channels is not None:
            await suite.channels.close()
        await suite.server.stop(0)


@pytest.fixture
async def suite(start_suite: Callable[..., Awaitable[Suite]]) -> Suite:
    """A running server."""
    return await start_suite()
