"""Answers leave in one write, and those without a body leave too."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from trunkline_gateway.http import HttpServer
from trunkline_gateway.one_write import OneWrite

BODY = b'{"ok":true}'


class Wire(asyncio.Transport):
    """Keeps what was written, write by write."""

    def __init__(self):
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data):
        self.writes.append(bytes(data))

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    pause_reading = resume_reading = abort = lambda self: None

    def set_protocol(self, protocol):
        pass


@pytest.fixture
def wire():
    return Wire()


def test_head_and_body_are_one_write(wire):
    out = OneWrite(wire)
    out.write(b"HTTP/1.1 202 Accepted\r\n\r\n")
    assert wire.writes == []
    out.write(BODY)
    assert wire.writes == [b"HTTP/1.1 202 Accepted\r\n\r\n" + BODY]


def test_what_comes_after_the_first_of_a_body_does_not_wait(wire):
    out = OneWrite(wire)
    out.write(b"HTTP/1.1 200 OK\r\n\r\n")
    out.writelines([b"5\r\n", b"first\r\n"])
    out.write(b"6\r\nsecond\r\n")
    assert wire.writes[1:] == [b"6\r\nsecond\r\n"]


def test_an_interim_answer_does_not_wait(wire):
    OneWrite(wire).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


@pytest.mark.parametrize("end", ["flush", "close"])
def test_a_head_alone_goes_when_the_answer_ends(wire, end):
    out = OneWrite(wire)
    out.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    getattr(out, end)()
    getattr(out, end)()
    assert wire.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]
    assert wire.closed == (end == "close")


async def app(scope, receive, send):
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    if scope["path"] == "/breaks":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        raise RuntimeError("after the head")
    headers = [(b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


@contextlib.asynccontextmanager
async def connected():
    server = HttpServer(app, "127.0.0.1:0", 1.0)
    serving = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await server.stop(0, 0.5)
        await serving


async def ask(reader, writer, request: bytes, ends: bytes) -> bytes:
    writer.write(request)
    return await asyncio.wait_for(reader.readuntil(ends), 5)


async def test_over_a_socket_every_kind_of_answer_arrives():
    async with connected() as (reader, writer):
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
    async with connected() as (reader, writer):
        writer.write(b"GET /breaks HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n")
