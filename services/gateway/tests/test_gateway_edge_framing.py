"""Where a request ends: heads that ask for another protocol, bodies in other codings, bodies that do not end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import REGISTRY
from test_gateway_edge_limits import counted, last_answer
from trunkline_gateway.edge.front import HttpServer
from trunkline_gateway.edge.limits import FREE_BODY_BYTES, EdgeLimits, Register

UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
SECOND = b"POST /second HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n2"


async def echo(scope, receive, send):
    """Answer with the path and the body; what is posted to /missing is answered before it is read."""
    body, message = b"", {"more_body": True}
    if scope["path"] == "/missing":
        message = {}
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
    names = b",".join(sorted(name for name, _ in scope["headers"]))
    answer = b"<%s %s %s>" % (scope["path"].encode(), body[:20], names)
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@contextlib.asynccontextmanager
async def serving(**limits):
    server = HttpServer(echo, "127.0.0.1:0", 1.0, EdgeLimits(**limits), last_word_seconds=0.0)
    task = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        await server.stop(0, 0.5)
        await task


@contextlib.asynccontextmanager
async def connected(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def told(reader):
    return (await asyncio.wait_for(reader.readuntil(b">"), 5)).partition(b"<")[2]


@pytest.mark.parametrize(
    "framed",
    [
        b"content-length: 5\r\n\r\nhello",
        b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("cut", [0, 3, 60, 140, 170])
async def test_a_post_that_asks_for_another_protocol_is_answered_as_if_it_had_not(framed, cut):
    first = b"POST /first HTTP/1.1\r\nhost: x\r\n" + UPGRADE + framed
    async with serving() as server, connected(server) as (reader, writer):
        sent = first + SECOND
        writer.write(sent[:cut])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(sent[cut:])
        assert (await told(reader)).startswith(b"/first hello ")
        assert (await told(reader)).startswith(b"/second 2 ")
        writer.write(SECOND)
        assert (await told(reader)).startswith(b"/second 2 "), "the connection goes on"


@pytest.mark.parametrize(
    ("version", "connection"),
    [
        (b"1.1", b"close, Upgrade"),
        (b"1.1", b"Upgrade\r\nconnection: close"),
        (b"1.0", b"Upgrade"),
        (b"1.0", b"close, Upgrade"),
    ],
)
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
async def test_a_request_that_also_ends_the_connection_is_answered_and_the_connection_ends(
    version, connection, split
):
    head = b"POST /first HTTP/" + version + b"\r\nhost: x\r\nupgrade: h2c\r\nconnection: " + connection
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(head + b"\r\ncontent-length: 5\r\n\r\n")
        if split:
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(b"hello" + SECOND)
        assert (await told(reader)).startswith(b"/first hello ")
        assert await asyncio.wait_for(reader.read(), 5) == b"", (
            "what came after the last request is not answered"
        )


async def test_several_that_ask_for_another_protocol_ahead_are_answered_in_order():
    one = b"POST /a HTTP/1.1\r\nhost: x\r\n" + UPGRADE + b"content-length: 1\r\n\r\n"
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(one + b"1" + one + b"2" + b"GET /b HTTP/1.1\r\nhost: x\r\n" + UPGRADE + b"\r\n" + SECOND)
        names = b"connection,content-length,host,http2-settings>"
        assert await told(reader) == b"/a 1 " + names
        assert await told(reader) == b"/a 2 " + names
        assert (await told(reader)).startswith(b"/b  ")
        assert (await told(reader)).startswith(b"/second 2 ")


@pytest.mark.parametrize(
    ("coding", "status", "reason"),
    [
        (b"transfer-encoding: gzip, chunked", 501, "CODED"),
        (b"Transfer-Encoding: GZIP,chunked", 501, "CODED"),
        (b"transfer-encoding: gzip\r\ntransfer-encoding: chunked", 501, "CODED"),
        (b"transfer-encoding: gzip", 501, "CODED"),
        (b"transfer-encoding: identity", 501, "CODED"),
        (b"transfer-encoding: chunked\r\ncontent-length: 2", 400, "MALFORMED"),
        (b"content-length: 2\r\ntransfer-encoding: chunked", 400, "MALFORMED"),
        (b"transfer-encoding: chunked\r\ntransfer-encoding: chunked", 400, "MALFORMED"),
    ],
)
async def test_a_body_in_another_transfer_coding_is_refused_and_nothing_behind_it_is_a_request(
    coding, status, reason
):
    async with serving() as server, connected(server) as (reader, writer), counted(reason):
        head = b"POST /first HTTP/1.1\r\nhost: x\r\n" + coding + b"\r\n\r\n"
        writer.write(head + b"2\r\n{}\r\n0\r\n\r\n" + SECOND)
        assert await last_answer(reader) == (status, reason)


async def test_what_a_client_would_take_as_coding_of_the_answer_is_none_of_its_body():
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(SECOND.replace(b"host: x", b"host: x\r\nte: gzip, chunked"))
        assert (await told(reader)).startswith(b"/second 2 ")


async def test_connect_is_refused():
    async with serving() as server, connected(server) as (reader, writer), counted("TUNNEL"):
        writer.write(b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n" + SECOND)
        assert await last_answer(reader) == (501, "TUNNEL")


def head(size):
    return b"POST /first HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size


def held():
    return REGISTRY.get_sample_value("trunkline_http_body_bytes")


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("body_bytes", "TOO_MANY_BODIES"), ("body_bytes_per_address", "TOO_MANY_BODIES_OF_ADDRESS")],
)
async def test_bodies_that_do_not_end_have_a_budget_and_ordinary_webhooks_do_not_need_it(limit, reason):
    size = FREE_BODY_BYTES + 30_000
    async with serving(**{limit: 100_000}) as server, contextlib.AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(connected(server)) for _ in range(3)]
        for _, writer in waiting:
            writer.write(head(size + 1) + b"a" * size)
        await until(lambda: held() == 90_000)
        async with connected(server) as (reader, writer), counted(reason):
            writer.write(head(size + 1) + b"a" * size)
            assert await last_answer(reader) == (503, reason)
        assert held() == 90_000
        async with connected(server) as (reader, writer):
            for _ in range(2):
                writer.write(head(10_000) + b"b" * 5_000)
                await asyncio.sleep(0.02)
                writer.write(b"b" * 5_000)
                assert (await told(reader)).startswith(b"/first bbb")
        waiting[0][1].write(b"a")
        assert (await told(waiting[0][0])).startswith(b"/first aaa")
        waiting[1][1].close()
        await until(lambda: held() == 30_000)
    await until(lambda: held() == 0)


async def test_a_body_that_was_answered_already_is_read_over_and_not_held():
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(head(300_000).replace(b"/first", b"/missing") + b"a" * 100_000)
        assert (await told(reader)).startswith(b"/missing")
        writer.write(b"a" * 100_000)
        await asyncio.sleep(0.05)
        assert held() == 0
        writer.write(b"a" * 100_000 + SECOND)
        assert (await told(reader)).startswith(b"/second 2 ")


def test_bodies_are_counted_by_address():
    register = Register(EdgeLimits(body_bytes_per_address=100, body_bytes=150))
    assert register.hold("10.0.0.1", 100) == ""
    assert register.hold("10.0.0.1", 1) == "TOO_MANY_BODIES_OF_ADDRESS"
    register.hold("10.0.0.1", -1)
    assert register.hold("10.0.0.2", 50) == ""
    assert register.hold("10.0.0.3", 1) == "TOO_MANY_BODIES"
