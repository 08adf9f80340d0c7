"""The edge's protocol over sockets: whole answers, every other kind, and connections that idle."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
from trunkline_gateway.edge.answers import WEBHOOK, WHOLE, accepted
from trunkline_gateway.edge.front import HttpServer

BODY = b'{"ok":true}'
RECEIPT = "0123456789abcdef" * 2
POST = b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


async def app(scope, receive, send):
    if scope.pop(WEBHOOK, None) is not None:
        await accepted(scope, send, RECEIPT)
        return
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    if scope["path"].startswith("/hook"):
        if scope["path"] == "/hook/usual":
            del scope["extensions"]
        if scope["query_string"] == b"slowly":
            await asyncio.sleep(0.8)
        await accepted(scope, send, RECEIPT)
        return
    if scope["path"] == "/breaks":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        raise RuntimeError("after the head")
    headers = [(b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


@contextlib.asynccontextmanager
async def connected(keep_alive=5.0):
    server = HttpServer(app, "127.0.0.1:0", 1.0, last_word_seconds=0.0)
    server.config.timeout_keep_alive = keep_alive
    serving = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer, server
    finally:
        writer.close()
        await server.stop(0, 0.5)
        await serving


async def ask(reader, writer, request: bytes, ends: bytes) -> bytes:
    writer.write(request)
    return await asyncio.wait_for(reader.readuntil(ends), 5)


async def test_over_a_socket_every_kind_of_answer_arrives():
    async with connected() as (reader, writer, _):
        answer = await ask(reader, writer, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", BODY)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        answer = await ask(reader, writer, b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n\r\n")
        assert b"content-length: 11" in answer
        asked = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
        assert await ask(reader, writer, asked, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await ask(reader, writer, b"{}", BODY)).startswith(b"HTTP/1.1 200 OK\r\n")
        two = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 2
        writer.write(two)
        for _ in range(2):
            assert await asyncio.wait_for(reader.readuntil(BODY), 5)


@pytest.mark.filterwarnings("ignore")
async def test_an_application_that_breaks_after_the_head_leaves_no_answer_hanging():
    async with connected() as (reader, writer, _):
        writer.write(b"GET /breaks HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n")


async def test_a_whole_answer_is_the_same_bytes_as_the_usual_one():
    async with connected() as (reader, writer, _):
        end = RECEIPT.encode() + b'"}'
        whole = await ask(reader, writer, POST, end)
        assert whole == await ask(reader, writer, POST.replace(b"/hook", b"/hook/usual"), end)
        assert whole.startswith(b"HTTP/1.1 202 Accepted\r\n")


async def test_who_asks_for_an_end_of_the_connection_is_told_and_gets_it():
    async with connected() as (reader, writer, _):
        writer.write(POST.replace(b"host: x", b"host: x\r\nconnection: close"))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert b"connection: close\r\n" in answer
        assert answer.endswith(RECEIPT.encode() + b'"}')


async def test_while_the_server_stops_an_answer_says_that_it_is_the_last():
    async with connected() as (reader, writer, server):
        assert b"connection" not in await ask(reader, writer, POST, b'"}')
        stopping = asyncio.create_task(server.stop(0.5, 1.0))
        await asyncio.sleep(0)
        writer.write(POST)
        answer = await asyncio.wait_for(reader.read(), 5)
        await stopping
        assert b"connection: close\r\n" in answer


async def test_whole_answers_to_requests_sent_ahead_come_in_order():
    async with connected() as (reader, writer, _):
        writer.write(POST * 3 + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        for _ in range(3):
            assert (await asyncio.wait_for(reader.readuntil(b'"}'), 5)).startswith(b"HTTP/1.1 202 ")
        assert (await asyncio.wait_for(reader.readuntil(BODY), 5)).startswith(b"HTTP/1.1 200 ")


async def test_an_idle_connection_is_closed_and_one_in_use_is_not():
    keep_alive = 0.6
    clock = asyncio.get_running_loop().time
    async with connected(keep_alive) as (reader, writer, _):
        began = clock()
        while clock() - began < 1.5 * keep_alive:
            await ask(reader, writer, POST, b'"}')
            await asyncio.sleep(keep_alive / 6)
        assert await ask(reader, writer, POST.replace(b"/hook", b"/hook?slowly"), b'"}'), "work is no idling"
        last = clock()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert clock() - last > 0.9 * keep_alive


async def test_a_client_that_left_is_not_answered():
    closed = asyncio.Event()
    told = []

    async def late(scope, receive, send):
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        told.append(WHOLE in scope["extensions"])
        closed.set()

    server = HttpServer(late, "127.0.0.1:0", 1.0)
    serving = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(POST)
    await writer.drain()
    writer.close()
    await asyncio.wait_for(closed.wait(), 5)
    assert told == [False]
    await server.stop(0, 0.5)
    await serving


@pytest.mark.parametrize("path", [b"/hook", b"/hooks/s-1/e"])
async def test_requests_leave_nothing_to_the_garbage_collector(path):
    post = POST.replace(b"/hook", path)
    async with connected() as (reader, writer, _):
        await ask(reader, writer, post, b'"}')
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await ask(reader, writer, post, b'"}')
            assert gc.collect() < 50
        finally:
            gc.enable()


async def test_a_field_after_the_body_is_no_field_of_the_request():
    seen = []

    async def noting(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(0)
        seen.append(dict(scope["headers"]))
        await accepted(scope, send, RECEIPT)

    server = HttpServer(noting, "127.0.0.1:0", 1.0)
    serving = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = b"POST /hook HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    await ask(reader, writer, head + b"2\r\n{}\r\n0\r\nSignature: abc\r\n\r\n", RECEIPT.encode())
    assert seen == [{b"host": b"x", b"transfer-encoding": b"chunked"}]
    writer.close()
    await server.stop(0, 0.5)
    await serving


async def test_a_body_of_one_byte_chunks_is_refused_and_one_of_fair_chunks_is_not():
    head = b"POST /hook HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    async with connected() as (reader, writer, _):
        fair = b"40\r\n" + b"a" * 64 + b"\r\n"
        answer = await ask(reader, writer, head + fair * 3_000 + b"0\r\n\r\n", b"}")
        assert answer.startswith(b"HTTP/1.1 202 ")
        answer = await ask(reader, writer, head + b"1\r\na\r\n" * 3_000 + b"0\r\n\r\n", b"}")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"TOO_MANY_PIECES" in answer
