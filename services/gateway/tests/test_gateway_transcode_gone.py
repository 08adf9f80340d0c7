"""A client that hangs up, over a socket: its RPC is cancelled, and one that stays is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gateway_echo as echo
import grpc.aio
import pytest
import structlog
from trunkline_gateway.api.transcode.bindings import bindings_of, router_of
from trunkline_gateway.api.transcode.transcoder import Transcoder
from trunkline_gateway.edge.front import HttpServer
from trunkline_runtime.errors import Unauthenticated

GET = b"GET /v1/things/a HTTP/1.1\r\nhost: x\r\n\r\n"


class Slow:
    """A method that answers when the gate opens, and counts how its calls end."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = self.answered = self.cancelled = 0

    async def __call__(self, _request: Any, _context: Any) -> Any:
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.answered += 1
        return echo.message("Thing", name="things/a")


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Slow, HttpServer]]:
    services = [echo.echo_service()]
    async with echo.serving(services) as backend, grpc.aio.insecure_channel(backend.address) as channel:
        slow = backend.answers[echo.ECHO + "GetThing"] = Slow()
        app = Transcoder(router_of(bindings_of(services)), lambda _: channel, echo.anybody, rules={})
        async with echo.listening(app) as server:
            yield slow, server


async def test_the_call_of_a_client_that_hung_up_is_cancelled(slow: tuple[Slow, HttpServer]) -> None:
    method, server = slow
    open_ones = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(21)]
    for _, writer in open_ones:
        writer.write(GET)
    await echo.until(lambda: method.begun == 21)
    for _, writer in open_ones[1:]:
        writer.close()
    await echo.until(lambda: method.cancelled == 20)
    method.gate.set()
    reader, writer = open_ones[0]
    for _ in range(2):  # and the connection goes on
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(GET)
    writer.close()
    assert method.cancelled == 20


async def test_a_flood_of_refusals_is_a_few_lines_and_their_count() -> None:
    async def nobody(_header: bytes | None) -> Any:
        raise Unauthenticated("the credentials are not valid", reason="CREDENTIALS_INVALID")

    with structlog.testing.capture_logs() as lines:
        async with echo.transcoding([echo.echo_service()], nobody) as (client, _):
            for _ in range(200):
                assert (await client.get("/v1/things/a")).status_code == 401
            await echo.until(lambda: sum(line.get("count", 1) for line in lines) >= 200)
    refused = [line for line in lines if line["event"] == "api_refused"]
    assert sum(line.get("count", 1) for line in refused) == 200
    assert len(refused) < 20
    assert refused[0]["reason"] == refused[-1]["reason"] == "CREDENTIALS_INVALID"
