"""A gRPC server that answers every method of given services, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import grpc_tools
import httpx
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from trunkline_gateway.api.credentials import Shown
from trunkline_gateway.api.transcode.bindings import bindings_of, router_of
from trunkline_gateway.api.transcode.transcoder import Transcoder
from trunkline_gateway.edge.front import HttpServer
from trunkline_gateway.edge.limits import EdgeLimits
from trunkline_runtime.errors import TrunklineError, to_status
from trunkline_runtime.errors.wire import to_trailers
from trunkline_runtime.identity.callers import OPERATOR

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
PACKAGE = "trunkline.echo.v1"
ECHO = f"/{PACKAGE}.EchoService/"


def compiled(proto: Path) -> bytes:
    """Compile a .proto with all that it imports into a FileDescriptorSet."""
    includes = [proto.parent, ROOT / "third_party" / "protos", Path(grpc_tools.__file__).parent / "_proto"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        command = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{path}" for path in includes)]
        command += ["--include_imports", f"--descriptor_set_out={out}", proto.name]
        subprocess.run(command, check=True)
        return out.read_bytes()


def pool_of(descriptors: bytes) -> descriptor_pool.DescriptorPool:
    """A pool of its own, so that a test's messages do not meet the suite's."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return pool


@functools.cache
def echo_descriptors() -> bytes:
    return compiled(HERE / "gateway_echo.proto")


@functools.cache
def echo_service() -> ServiceDescriptor:
    return pool_of(echo_descriptors()).FindServiceByName(f"{PACKAGE}.EchoService")


def stream_service() -> ServiceDescriptor:
    return echo_service().file.pool.FindServiceByName(f"{PACKAGE}.StreamService")


def http_body(data: bytes, content_type: str = "") -> Any:
    """A google.api.HttpBody of the echo package's pool."""
    body = echo_service().file.pool.FindMessageTypeByName("google.api.HttpBody")
    return GetMessageClass(body)(data=data, content_type=content_type)


def message(message_name: str, /, **fields: Any) -> Any:
    """A message of the echo package."""
    file = echo_service().file
    return GetMessageClass(file.message_types_by_name[message_name])(**fields)


@dataclass
class Backend:
    """`asked` is what came: method, request, metadata.

    `answers` by method: a message, an error, a function; of a stream a list of messages and errors, or a generator.
    """

    address: str
    asked: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    def last(self) -> tuple[str, Any]:
        """Forget what came, and return the one call."""
        ((method, request, _),) = self.asked
        self.asked.clear()
        return method, request


@asynccontextmanager
async def serving(services: Iterable[ServiceDescriptor]) -> AsyncIterator[Backend]:
    """Serve services on a free port."""
    server = grpc.aio.server()
    backend = Backend(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    for service in services:
        handlers = {method.name: _handler(backend, service, method) for method in service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    await server.start()
    try:
        yield backend
    finally:
        await server.stop(None)


def _handler(backend: Backend, service: ServiceDescriptor, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
    name = f"/{service.full_name}/{method.name}"
    response = GetMessageClass(method.output_type)

    async def said(answer: Any, context: Any) -> Any:
        if isinstance(answer, TrunklineError):
            await context.abort(answer.code, answer.message, to_trailers(to_status(answer, request_id="r")))
        return answer

    async def behave(request: Any, context: Any) -> Any:
        backend.asked.append((name, request, dict(context.invocation_metadata())))
        answer = await said(backend.answers.get(name, response()), context)
        return await answer(request, context) if callable(answer) else answer

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        backend.asked.append((name, request, dict(context.invocation_metadata())))
        answers = backend.answers.get(name, [])
        if callable(answers):
            async for answer in answers(request, context):
                yield answer
            return
        for answer in answers:
            yield await said(answer, context)

    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            stream,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=response.SerializeToString,
        )
    return grpc.unary_unary_rpc_method_handler(
        behave,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=response.SerializeToString,
    )


async def anybody(_header: bytes | None) -> Shown:
    """Let everybody in."""
    return Shown(OPERATOR, "Bearer tl_operator")


@asynccontextmanager
async def listening(app: Any, limits: EdgeLimits | None = None) -> AsyncIterator[HttpServer]:
    """Serve an application on a free port, as the gateway does."""
    server = HttpServer(app, "127.0.0.1:0", 1.0, limits, last_word_seconds=0.0)
    task = asyncio.create_task(server.run_until_stopped())
    await until(lambda: server.started)
    try:
        yield server
    finally:
        await server.stop(0, 0.5)
        await task


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def transcoding(
    services: Iterable[ServiceDescriptor],
    authenticate: Callable[..., Any] = anybody,
    **options: Any,
) -> AsyncIterator[tuple[httpx.AsyncClient, Backend]]:
    """A client of a transcoder in front of a backend."""
    services = list(services)
    async with serving(services) as backend, grpc.aio.insecure_channel(backend.address) as channel:
        options.setdefault("rules", {})
        app = Transcoder(router_of(bindings_of(services)), lambda _package: channel, authenticate, **options)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client, backend
