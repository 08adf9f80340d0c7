"""Answers of several messages: each is sent when it comes, and the next is taken from the service once it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from trunkline_runtime.errors import Unavailable

from trunkline_gateway.api.transcode.writer import Write, Written
from trunkline_gateway.edge.answers import Send
from trunkline_gateway.http_errors import Header

_LARGE_BYTES = 32 * 1024


async def aside(heavy: bool, work: Callable[..., Any], *args: Any) -> Any:
    """Do heavy work in a thread, so that a long transcript delays no webhook, and other work here."""
    return await asyncio.to_thread(work, *args) if heavy else work(*args)


async def written(write: Write, response: Any) -> Written:
    """Write one response."""
    answer: Written = await aside(response.ByteSize() >= _LARGE_BYTES, write, response)
    return answer


async def _parts(call: Any, write: Write) -> AsyncGenerator[Written, None]:
    """Yield what the messages of a call are written as; a call that nobody reads to its end is cancelled."""
    try:
        async for message in call:
            yield await written(write, message)
    finally:
        call.cancel()


@dataclass(frozen=True, slots=True)
class LastPart:
    """The end of an answer in parts: the status of what went wrong, 200 for nothing.

    `body` is what is still to be sent; None when nothing can tell that the answer is not whole but the end of its
    connection.
    """

    status: int
    body: bytes | None = b""


def stopping() -> Unavailable:
    """Return what a client is told whose stream ends because the process does."""
    return Unavailable("the gateway is stopping; ask again", reason="STOPPING", retry_after=1.0)


class Relay:
    """Sends one answer in parts.

    `empty` are the headers of one without any part, `more` those of every answer. `pay` is awaited after each part with
    its bytes, and may rest. `told` makes of an error the status and the line that are its last part; None where the
    parts are the bytes of a file. `status` is that of an answer that goes well.
    """

    def __init__(
        self,
        send: Send,
        *,
        empty: tuple[Header, ...],
        more: tuple[Header, ...],
        pay: Callable[[int], Awaitable[None]],
        told: Callable[[Exception], tuple[int, bytes | None]],
        status: int = 200,
    ) -> None:
        self._send = send
        self._empty = empty
        self._more = more
        self._pay = pay
        self._told = told
        self._status = status
        self._begun = False
        self._stopped = False
        self._call: Any = None

    def stop(self) -> None:
        """End the answer, as one that failed: the process is about to stop."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()

    async def pass_on(self, call: Any, write: Write) -> LastPart:
        """Send all but the last. Raises what goes wrong before the first part, when nothing was sent."""
        self._call = call
        if self._stopped:  # before this began
            call.cancel()
        try:
            return await self._pass_on(call, write)
        except asyncio.CancelledError:
            if not self._stopped:
                raise
        if not self._begun:
            raise stopping()
        return LastPart(*self._told(stopping()))

    async def _pass_on(self, call: Any, write: Write) -> LastPart:
        try:
            async with aclosing(_parts(call, write)) as parts:
                async for headers, body in parts:
                    await self._begin(headers)
                    await self._send({"type": "http.response.body", "body": body, "more_body": True})
                    await self._pay(len(body))
            await self._begin(self._empty)
        except Exception as error:
            if not self._begun:
                raise
            return LastPart(*self._told(error))
        return LastPart(self._status)

    async def _begin(self, headers: tuple[Header, ...]) -> None:
        if not self._begun:
            self._begun = True
            head = [*headers, *self._more]
            await self._send({"type": "http.response.start", "status": self._status, "headers": head})


class Streams:
    """The answers in parts that are being sent."""

    def __init__(self) -> None:
        self._open: set[Relay] = set()
        self._stopping = False

    def stop(self) -> None:
        """End them all, and refuse further ones: they would last as long as the process is let live."""
        self._stopping = True
        for relay in self._open:
            relay.stop()

    @contextmanager
    def entered(self, relay: Relay) -> Iterator[None]:
        """Count one while the block runs. Raises Unavailable once all are to end."""
        if self._stopping:
            raise stopping()
        self._open.add(relay)
        try:
            yield
        finally:
            self._open.discard(relay)
