"""The HTTP server's end: whoever was let in is answered, and nobody can hold it up."""

from __future__ import annotations

import asyncio
import contextlib
import time

from trunkline_gateway.edge.answers import accepted
from trunkline_gateway.edge.front import Front, HttpServer

HEAD = b"POST /hooks/s-1/post_call HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n"


class Hooks:
    def __init__(self):
        self.begun = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope, receive, send):
        self.begun += 1
        while (await receive()).get("more_body"):
            pass
        await self.gate.wait()
        await accepted(scope, send, "0" * 32)


@contextlib.asynccontextmanager
async def serving(**more):
    hooks = Hooks()
    server = HttpServer(Front(hooks, hooks, lambda: (True, "ok")), "127.0.0.1:0", 8, **more)
    task = asyncio.create_task(server.run_until_stopped())
    try:
        yield server, hooks, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def connect(server):
    for _ in range(100):
        try:
            return await asyncio.open_connection("127.0.0.1", server.port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    raise AssertionError("it does not listen")


async def refused(server):
    """Return once no handshake is answered any more."""
    with contextlib.suppress(OSError, TimeoutError):
        while True:
            async with asyncio.timeout(0.05):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.close()


async def answer(reader):
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return head + await reader.readexactly(48)


async def begun(hooks, count):
    async with asyncio.timeout(5):
        while hooks.begun < count:
            await asyncio.sleep(0.005)


async def test_those_who_were_let_in_are_answered_and_their_connections_ended():
    async with serving() as (server, hooks, task):
        hooks.gate.clear()
        silent, idle, half, waiting = [await connect(server) for _ in range(4)]
        idle[1].write(HEAD + b"{}")
        half[1].write(HEAD + b"{")
        waiting[1].write(HEAD + b"{}")
        await begun(hooks, 3)
        stopping = asyncio.create_task(server.stop(0.1, 5))
        await asyncio.sleep(0.05)
        late = await connect(server)
        for _, writer in (silent, late):
            writer.write(HEAD + b"{}")
        half[1].write(b"}")
        await begun(hooks, 5)
        hooks.gate.set()
        for reader, writer in (silent, idle, half, waiting, late):
            told = await answer(reader)
            assert told.startswith(b"HTTP/1.1 202")
            assert b"connection: close" in told
            assert await reader.read() == b"", "and no more is to come"
            writer.close()
        await stopping
        await asyncio.wait_for(task, 5)


async def test_a_connection_that_is_silent_until_the_listener_is_closing_is_heard():
    async with serving(last_word_seconds=1.5) as (server, _, task):
        reader, writer = await connect(server)
        await server.stop(0, 5)
        await refused(server)  # what is connected has its last word
        writer.write(HEAD + b"{}")
        assert (await answer(reader)).startswith(b"HTTP/1.1 202")
        writer.close()
        await asyncio.wait_for(task, 5)


async def test_a_request_that_never_ends_holds_nothing_up():
    async with serving() as (server, hooks, task):
        _, writer = await connect(server)
        writer.write(HEAD + b"{")
        await begun(hooks, 1)
        began = time.monotonic()
        await server.stop(0.1, 1.2)
        await asyncio.wait_for(task, 5)
        assert time.monotonic() - began > 0.8
        writer.close()
