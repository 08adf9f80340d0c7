"""The edge's bounds, over sockets: what takes too much or too long is told so, counted, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest
from prometheus_client import REGISTRY
from trunkline_gateway.edge.answers import accepted
from trunkline_gateway.edge.answers import refused as refuse
from trunkline_gateway.edge.front import HttpServer
from trunkline_gateway.edge.limits import EdgeLimits, Register
from trunkline_gateway.edge.watch import Phase, Sight, Watch

POST = b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
LARGE = 8 << 20


async def app(scope, receive, send):
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    if message["type"] == "http.disconnect":
        return
    if scope["path"] == "/large":
        headers = [(b"content-length", str(LARGE).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(LARGE >> 16):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    await accepted(scope, send, "0" * 32)


@contextlib.asynccontextmanager
async def serving(keep_alive=5.0, **limits):
    server = HttpServer(app, "127.0.0.1:0", 1.0, EdgeLimits(**limits), last_word_seconds=0.0)
    server.config.timeout_keep_alive = keep_alive
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


def refused(reason):
    return REGISTRY.get_sample_value("trunkline_http_refused_total", {"reason": reason}) or 0.0


async def last_answer(reader, seconds=5):
    """The status and the error of the one answer with which a connection ends."""
    raw = await asyncio.wait_for(reader.read(), seconds)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"content-type: application/json" in head
    error = json.loads(body)["error"]
    status = int(head.split()[1])
    assert error["code"] == status
    return status, error["details"][0]["reason"]


@contextlib.asynccontextmanager
async def counted(reason):
    before = refused(reason.lower())
    yield
    assert refused(reason.lower()) == before + 1


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000 + b"\r\n\r\n", 431, "HEAD_TOO_LARGE"),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431, "HEAD_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\n" + b"x: a\r\n" * 101 + b"\r\n", 431, "TOO_MANY_FIELDS"),
        (b"GARBAGE\r\n\r\n", 400, "MALFORMED"),
        (POST + b"\r\n" * 20_000, 431, "HEAD_TOO_LARGE"),
    ],
)
async def test_a_head_that_is_too_large_is_refused(request_, status, reason):
    async with serving() as server, connected(server) as (reader, writer), counted(reason):
        if request_.startswith(b"POST"):
            writer.write(POST)
            await asyncio.wait_for(reader.readuntil(b'"}'), 5)
            request_ = request_.removeprefix(POST)
        writer.write(request_)
        assert await last_answer(reader) == (status, reason)


async def test_a_head_of_100_fields_and_nearly_32_kib_is_taken():
    fields = b"".join(b"x-%02d: %s\r\n" % (n, b"a" * 300) for n in range(98))
    async with serving() as server, connected(server) as (reader, writer):
        for _ in range(2):
            writer.write(b"POST /hook HTTP/1.1\r\n" + fields + b"content-length: 2\r\n\r\n{}")
            assert (await asyncio.wait_for(reader.readuntil(b'"}'), 5)).startswith(b"HTTP/1.1 202")


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nx: ",
        b"POST /hook HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: ",
        b"POST /hook HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;",
    ],
)
async def test_what_never_ends_is_not_taken_for_ever(begun):
    """48 MiB of one header field once cost two seconds and as much memory."""
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(begun)
        sent = 0
        began = time.thread_time()
        with contextlib.suppress(ConnectionError):
            while sent < 48 << 20 and not reader.at_eof():
                writer.write(b"a" * 65_536)
                sent += 65_536
                await asyncio.wait_for(writer.drain(), 5)
                await asyncio.sleep(0)
        assert time.thread_time() - began < 1.0
        (connection,) = server.server_state.connections or {None}
        assert connection is None or connection._over


async def test_a_half_sent_head_is_told_and_a_silent_connection_is_closed():
    async with serving(head_seconds=0.6) as server:
        async with connected(server) as (reader, writer), counted("HEAD_TOO_SLOW"):
            writer.write(b"POST /hook HTTP/1.1\r\nho")
            assert await last_answer(reader) == (408, "HEAD_TOO_SLOW")
        async with connected(server) as (reader, writer), counted("SILENT"):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        async with connected(server) as (reader, writer):  # the second request of a connection, drip by drip
            writer.write(POST)
            await asyncio.wait_for(reader.readuntil(b'"}'), 5)
            dripping = asyncio.create_task(
                drip(writer, b"POST /hook HTTP/1.1\r\nhost: xxxxxxxxxxxxxxxxxxxxxxxx")
            )
            assert await last_answer(reader) == (408, "HEAD_TOO_SLOW")
            dripping.cancel()


async def drip(writer, data):
    with contextlib.suppress(ConnectionError):
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "limits",
    [
        {"quiet_seconds": 0.6},
        {"grace_seconds": 0.3, "bytes_per_second": 1_000},
        {"body_seconds": 0.6},
    ],
)
async def test_a_body_that_stops_or_drips_is_told(limits):
    async with serving(**limits) as server, connected(server) as (reader, writer), counted("BODY_TOO_SLOW"):
        writer.write(b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        if "quiet_seconds" not in limits:
            dripping = asyncio.create_task(drip(writer, b"a" * 100))
        assert await last_answer(reader) == (408, "BODY_TOO_SLOW")
        if "quiet_seconds" not in limits:
            dripping.cancel()


async def test_a_body_that_comes_slowly_and_fast_enough_is_taken():
    limits = {"grace_seconds": 0.1, "bytes_per_second": 2, "quiet_seconds": 5.0}
    async with serving(**limits) as server, connected(server) as (reader, writer):
        writer.write(b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n")
        await drip(writer, b"a" * 15)
        assert (await asyncio.wait_for(reader.readuntil(b'"}'), 5)).startswith(b"HTTP/1.1 202")


async def test_an_answer_that_nobody_reads_is_given_up():
    async with (
        serving(quiet_seconds=0.6) as server,
        counted("ANSWER_TOO_SLOW"),
        connected(server) as (_, writer),
    ):
        writer.transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            while not server.server_state.connections:
                await asyncio.sleep(0.01)
            while server.server_state.connections:
                await asyncio.sleep(0.05)


async def test_connections_over_the_limit_are_told_and_others_are_served():
    async with serving(connections=3) as server, contextlib.AsyncExitStack() as stack:
        first = [await stack.enter_async_context(connected(server)) for _ in range(3)]
        for reader, writer in first:
            writer.write(POST)
            await asyncio.wait_for(reader.readuntil(b'"}'), 5)
        async with counted("TOO_MANY_CONNECTIONS"), connected(server) as (reader, writer):
            writer.write(POST)
            assert await last_answer(reader) == (503, "TOO_MANY_CONNECTIONS")
        reader, writer = first[0]
        writer.write(POST)
        assert (await asyncio.wait_for(reader.readuntil(b'"}'), 5)).startswith(b"HTTP/1.1 202")
        first[1][1].close()
        async with asyncio.timeout(5):
            while len(server.server_state.connections) > 2:
                await asyncio.sleep(0.05)
        async with connected(server) as (reader, writer):
            writer.write(POST)
            assert (await asyncio.wait_for(reader.readuntil(b'"}'), 5)).startswith(b"HTTP/1.1 202")


async def test_one_address_has_a_limit_of_its_own():
    async with serving(connections_per_address=1) as server, connected(server):
        await asyncio.sleep(0.1)
        async with counted("TOO_MANY_CONNECTIONS_OF_ADDRESS"), connected(server) as (reader, _):
            assert await last_answer(reader) == (503, "TOO_MANY_CONNECTIONS_OF_ADDRESS")


def test_an_ipv6_host_is_one_sender_with_all_its_addresses():
    register = Register(EdgeLimits(connections_per_address=1))
    assert not register.enter("2001:db8::1")
    assert register.enter("2001:db8::ffff:2") == "TOO_MANY_CONNECTIONS_OF_ADDRESS"
    assert not register.enter("2001:db8:0:1::1")
    register.leave("2001:db8::1")
    register.leave("2001:db8::ffff:2")
    assert not register.enter("2001:db8::3")


async def test_requests_sent_ahead_have_a_bound():
    async with (
        serving(requests_ahead=5) as server,
        connected(server) as (reader, writer),
        counted("TOO_MANY_AHEAD"),
    ):
        writer.write(POST * 20)
        await asyncio.wait_for(reader.read(), 5)


async def test_a_request_that_was_answered_is_not_answered_again():
    """A body that goes on behind its answer is only given up."""

    async def at_once(scope, receive, send):
        await accepted(scope, send, "0" * 32)

    server = HttpServer(at_once, "127.0.0.1:0", 1.0, EdgeLimits(quiet_seconds=0.5))
    task = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
    async with connected(server) as (reader, writer):
        writer.write(b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.count(b"HTTP/1.1") == 1
    await server.stop(0, 0.5)
    await task


def test_work_that_takes_long_is_nobodys_fault():
    watch = Watch(EdgeLimits())
    assert not any(watch.judge(Sight(Phase.WORK, 1, 10), now, 5.0) for now in range(0, 10_000, 100))


def test_a_body_that_is_passed_on_may_take_long_but_not_be_slow():
    limits = EdgeLimits()
    enough, slow = Watch(limits), Watch(limits)
    rate = limits.passed_bytes_per_second
    # Both go on at every look; one sends as much as is asked for, the other as much as is asked of other bodies.
    told = {
        (name, now): watch.judge(Sight(Phase.PASSED, 1, now * bytes_a_second), now, 5.0)
        for now in range(0, int(limits.passed_seconds) + 11, 10)
        for name, watch, bytes_a_second in (("enough", enough, rate), ("slow", slow, limits.bytes_per_second))
    }
    assert not any(told["enough", now] for now in range(0, int(limits.passed_seconds), 10))
    assert told["enough", int(limits.passed_seconds)] == "BODY_TOO_SLOW"
    assert told["slow", 20] == "BODY_TOO_SLOW"


@contextlib.asynccontextmanager
async def answering_when_told(**limits):
    """A server whose answers each wait for a turn, and the turns."""
    turns = asyncio.Semaphore(0)

    async def held(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await turns.acquire()
        await accepted(scope, send, "0" * 32)

    server = HttpServer(held, "127.0.0.1:0", 1.0, EdgeLimits(**limits))
    task = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server, turns
    finally:
        for _ in range(2_000):
            turns.release()
        await server.stop(0, 0.5)
        await task


def body_bytes():
    return REGISTRY.get_sample_value("trunkline_http_body_bytes")


def posted(size, fields=b""):
    return b"POST /hook HTTP/1.1\r\n%scontent-length: %d\r\n\r\n" % (fields, size) + b"a" * size


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_is_sent_ahead_is_read_only_as_fast_as_it_is_answered():
    """Once, each answer let as much be read as came, until 100 requests waited."""
    before = refused("too_many_ahead")
    async with answering_when_told() as (server, turns), connected(server) as (reader, writer):
        writer.write(posted(10_000) * 300)
        await until(lambda: server.server_state.connections)
        (connection,) = server.server_state.connections
        most = 0
        for _ in range(300):
            turns.release()
            await asyncio.wait_for(reader.readuntil(b'"}'), 5)
            most = max(most, len(connection.pipeline))
        assert 0 < most <= 30, "one read holds 256 KiB"
        await until(lambda: connection.cycle.response_complete)
    assert refused("too_many_ahead") == before


@pytest.mark.parametrize(
    ("ahead", "least"),
    [(posted(10_000) * 10, 90_000), (posted(0) * 50, 80_000), (posted(0, b"x:\r\n" * 90) * 20, 200_000)],
    ids=["bodies", "requests", "fields"],
)
async def test_complete_requests_that_wait_for_an_answer_are_counted_until_it_is_given(ahead, least):
    async with answering_when_told() as (server, turns), connected(server) as (reader, writer):
        before = body_bytes()
        writer.write(posted(2))
        await until(lambda: server.server_state.tasks)
        writer.write(ahead)
        await until(lambda: body_bytes() - before >= least)
        for _ in range(1 + ahead.count(b"POST")):
            turns.release()
            await asyncio.wait_for(reader.readuntil(b'"}'), 5)
        assert body_bytes() == before


async def test_requests_that_wait_have_a_bound_over_all_connections():
    limits = {"body_bytes_per_address": 400_000}
    async with answering_when_told(**limits) as (server, _), contextlib.AsyncExitStack() as stack:
        async with counted("TOO_MANY_BODIES_OF_ADDRESS"):
            for _ in range(4):
                _, writer = await stack.enter_async_context(connected(server))
                writer.write(posted(2))
                writer.write(posted(10_000) * 12)
            ended = "too_many_bodies_of_address"
            before = refused(ended)
            await until(lambda: refused(ended) > before)
        await until(lambda: body_bytes() <= limits["body_bytes_per_address"])
        reader, writer = await stack.enter_async_context(connected(server))
        writer.write(b"BAD\r\n\r\n")
        assert await last_answer(reader) == (400, "MALFORMED"), "others are still served"


async def test_an_answer_before_the_body_that_was_to_be_asked_for_ends_the_connection():
    """What follows may be the body or the next request: once, the next webhook was read as the body."""

    async def unread(scope, receive, send):
        await refuse(send, 404, "NO_SUCH_SOURCE", "there is no such source")

    server = HttpServer(unread, "127.0.0.1:0", 1.0, EdgeLimits())
    task = asyncio.create_task(server.run_until_stopped())
    while not server.started:
        await asyncio.sleep(0.01)
    async with connected(server) as (reader, writer):
        writer.write(b"POST /hook HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await last_answer(reader) == (404, "NO_SUCH_SOURCE")
    await server.stop(0, 0.5)
    await task


async def test_an_answer_after_the_body_that_was_asked_for_keeps_the_connection():
    async with serving() as server, connected(server) as (reader, writer):
        for _ in range(2):
            writer.write(b"POST /hook HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            assert b"100 Continue" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            writer.write(b"{}")
            answer = await asyncio.wait_for(reader.readuntil(b'"}'), 5)
            assert answer.startswith(b"HTTP/1.1 202")
            assert b"connection: close" not in answer
