"""Uvicorn's HTTP protocol, bounded, and with what a webhook need not pay for left out: writes, timers and messages."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools

from trunkline_gateway.edge.answers import PASSED_ON, WEBHOOK, WHOLE, last_words
from trunkline_gateway.edge.limits import FIELD_BYTES, FREE_BODY_BYTES, REFUSED, REQUEST_BYTES, Register
from trunkline_gateway.edge.one_read import BEGINNING, read_webhook
from trunkline_gateway.edge.one_write import OneWrite
from trunkline_gateway.edge.stock import (
    ASGI3Application,
    HttpToolsProtocol,
    OneReadAhead,
    RequestResponseCycle,
    new_cycle,
    new_parser,
)
from trunkline_gateway.edge.watch import Phase, Sight, Watch

_SAID = {
    "HEAD_TOO_LARGE": (431, "the request's head is larger than {0.head_bytes} bytes"),
    "TOO_MANY_FIELDS": (431, "the request has more than {0.head_fields} header fields"),
    "HEAD_TOO_SLOW": (408, "the request's head was not complete within {0.head_seconds:g} seconds"),
    "BODY_TOO_SLOW": (408, "the request's body arrived too slowly"),
    "TOO_MANY_PIECES": (400, "the body arrived in too many small chunks"),
    "MALFORMED": (400, "this is not an HTTP/1.1 request"),
    "TOO_MANY_AHEAD": (400, "more than {0.requests_ahead} requests were sent before their answers"),
    "TOO_MANY_BODIES": (503, "there are too many incomplete or waiting requests; try again"),
    "TOO_MANY_BODIES_OF_ADDRESS": (
        503,
        "there are too many incomplete or waiting requests from this address; try again",
    ),
    "CODED": (501, "the only Transfer-Encoding that is taken is chunked"),
    "TUNNEL": (501, "the method CONNECT isn't supported"),
    "TOO_MANY_CONNECTIONS": (503, "there are too many connections; try again"),
    "TOO_MANY_CONNECTIONS_OF_ADDRESS": (503, "there are too many connections from this address; try again"),
}  # reasons without an answer: SILENT, IDLE, OVER, ANSWER_TOO_SLOW

_SLICE = 32 * 1024
# So many pieces of a body may be of any size; of more, the mean is to be so many bytes.
_PIECES = 1_000
_PIECE_BYTES = 32


class EdgeProtocol(HttpToolsProtocol):
    """One connection.

    An answer leaves in one write (`OneWrite`). A request's scope has an extension, `answers.WHOLE`: a function
    that takes an answer of known bytes, head and body, and tells whether it could be sent like this. The server
    looks at every connection twice a second (`look`); a request sets no timer and reads no clock.
    """

    transport: OneWrite

    def __init__(self, *given: Any, register: Register, **named: Any) -> None:
        """Take what uvicorn gives, and the register that counts connections."""
        super().__init__(*given, **named)
        self._register = register
        self._limits = register.limits
        self._watch = Watch(register.limits)
        self._over = False  # refused: what still comes is not read
        self._requests = 0
        self._received = 0
        self._sent = 0
        # Bytes since the parser last gave something whole: a head that never ends grows here, as do trailers.
        self._unread = 0
        self._pieces = self._body_bytes = 0
        self._held = 0  # of bodies and waiting requests, as the register counts it
        self._ahead = 0  # bytes of the read that brought the requests that wait
        self._passed_on: RequestResponseCycle | None = None  # the request whose body is
        self._again = b""  # a head that asked for another protocol, without that

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection."""
        self._answering: RequestResponseCycle | None = None
        # The same for all requests of the connection: one of a request's own would be a circle, left to the collector.
        self._extensions: dict[str, dict[object, object]] = {
            WHOLE: {"send": self._answer},
            PASSED_ON: {"begin": self._pass_on},
        }
        super().connection_made(OneWrite(transport))  # type: ignore[arg-type]
        self.flow = OneReadAhead(self.transport, self.pipeline)
        self._host = self.client[0] if self.client else ""
        reason = self._register.enter(self._host)
        if reason:
            self._refuse(reason)
            if self._register.flooded:  # one more that waits for its end would be one too many
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a connection go."""
        self._over = True
        self._passed_on = None
        self.pipeline.clear()
        self._hold(0)
        self._register.leave(self._host)
        self._extensions.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._over:
            return
        self._received += len(data)
        if data.startswith(BEGINNING) and self._take_one_read(data):
            return
        try:
            # A piece at a time: the parser calls for every field, and 200 kB are as many as 60,000.
            for start in range(0, len(data), _SLICE):
                piece = data[start : start + _SLICE] if len(data) > _SLICE else data
                self._unread += len(piece)
                try:
                    self.parser.feed_data(piece)
                except httptools.HttpParserUpgrade as upgrade:
                    self._stay(piece, upgrade)
                if self._unread > self._limits.head_bytes:
                    self._refuse("HEAD_TOO_LARGE")
                    return
        except httptools.HttpParserError:
            if not self._over:
                self._refuse("MALFORMED")
        else:
            if self.pipeline:
                self._ahead += len(data)
                self._weigh()
            elif self._held or self._body_bytes > FREE_BODY_BYTES:
                self._weigh()

    def _take_one_read(self, data: bytes) -> bool:
        """Begin the webhook that these bytes are; False where the parser is to read them."""
        limits, cycle = self._limits, self.cycle
        if cycle is not None and (not cycle.response_complete or cycle.more_body):
            return False  # it came ahead, or is still the body of one that was answered early
        if self._in_head or len(data) > limits.head_bytes:  # more than a head may have: the parser counts it
            return False
        webhook = read_webhook(data)
        if webhook is None or len(webhook.headers) > limits.head_fields:
            return False
        self._requests += 1
        self._unread = self._pieces = self._body_bytes = 0
        scope: Any = {
            "type": "http",
            "method": "POST",
            "path": webhook.target,
            "extensions": self._extensions,
            WEBHOOK: webhook,
        }
        self.scope = scope
        self.cycle = self._answering = cycle = new_cycle(self, scope)
        super()._start_asgi_task(cycle, self.app)  # our own is for 100-continue, which is not read here
        return True

    def _stay(self, piece: bytes, upgrade: httptools.HttpParserUpgrade) -> None:
        """Read on after a head that asked for another protocol: the same head is read again without that.

        Left to itself the parser takes the body for the other protocol. None is spoken here, and a client that asks for
        one with its webhook (Java's asks for HTTP/2) is to be answered as if it had not. The parser is a new one: after
        a head that also ends its connection, the old one drops whatever it is given.
        """
        while True:
            piece = self._again + piece[upgrade.args[0] :]
            self._again = b""
            self.parser = new_parser(self)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as another:  # the next request, sent ahead
                upgrade = another
            else:
                return

    def _weigh(self) -> None:
        """Count what is held of the requests that wait for earlier answers, or else of a body that has not ended."""
        held = 0
        waiting: Any = self.pipeline
        if waiting:
            fields = sum(len(cycle.scope["headers"]) for cycle, _ in waiting)
            held = self._ahead + REQUEST_BYTES * len(waiting) + FIELD_BYTES * fields
        elif (cycle := self.cycle) is not None and cycle.more_body and not cycle.response_complete:
            held = self._body_bytes if cycle is not self._passed_on else 0
        reason = self._hold(max(0, held - FREE_BODY_BYTES))
        if reason:
            self._refuse(reason)

    def _pass_on(self) -> None:
        """Count nothing more of the body of the request that is answered now: its application holds none of it.

        What was not asked for yet is at most what uvicorn reads ahead, 64 KiB and one read.
        """
        self._passed_on = self._answering
        if self.cycle is self._answering:
            self._hold(0)

    def _hold(self, held: int) -> str:
        change, self._held = held - self._held, held
        return self._register.hold(self._host, change) if change else ""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            self._stop(
                "CODED"
            )  # nobody would decode it, and its signature would be looked for in other bytes
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin a request; its application runs only after this."""
        if self._unread > self._limits.head_bytes and self._head_bytes() > self._limits.head_bytes:
            self._stop("HEAD_TOO_LARGE")
        if len(self.headers) > self._limits.head_fields:
            self._stop("TOO_MANY_FIELDS")
        if self.pipeline and len(self.pipeline) >= self._limits.requests_ahead:
            self._stop("TOO_MANY_AHEAD")
        if self.parser.should_upgrade():
            self._again = self._head_as_usual()
            return
        self._requests += 1
        self._unread = self._pieces = self._body_bytes = 0
        super().on_headers_complete()
        self.headers = []  # what comes after the body is no field of the request's head: it is dropped
        self.scope["extensions"] = self._extensions

    def _head_as_usual(self) -> bytes:
        """Return the head that was read, without what asks for another protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._stop("TUNNEL")
        version = self.parser.get_http_version().encode()
        fields = (name + b": " + value for name, value in self.headers if name != b"upgrade")
        return b"\r\n".join([b"%s %s HTTP/%s" % (method, self.url, version), *fields, b"", b""])

    @property
    def _in_head(self) -> bool:
        return self.scope is not None and "extensions" not in self.scope

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body. Each costs a call, so that a body of one-byte chunks would hold up all others."""
        self._unread = 0
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > _PIECES and self._body_bytes < self._pieces * _PIECE_BYTES:
            self._stop("TOO_MANY_PIECES")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, but not one whose head is read again."""
        cycle = self.cycle
        if not self._again and not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        if cycle.waiting_for_100_continue:
            app = _last_unless_read(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _answer(self, answer: bytes) -> bool:
        """Send a whole answer; False, and nothing done, when it takes more than writing it."""
        cycle = self._answering
        if cycle is None or cycle.disconnected or cycle.response_started or self.transport.is_closing():
            return False
        if not cycle.keep_alive or cycle.default_headers or self.flow.write_paused:
            return False
        if cycle.waiting_for_100_continue:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        self._sent += len(answer)
        self.transport.write_whole(answer)
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        """End an answer: one to HEAD has no body to wait for. Then the next request, or waiting for one."""
        self.transport.flush()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if not self.pipeline:
                self._ahead = 0
                self._weigh()
        self.flow.resume_reading()

    def look(self, now: float) -> None:
        """See how the connection does, and end it when it holds what others need."""
        reason = self._watch.judge(self._sight(), now, self.timeout_keep_alive)
        if not reason:
            return
        if reason in ("OVER", "ANSWER_TOO_SLOW"):
            self._count(reason)
            self.transport.abort()  # what was written is not read: nothing to wait for
        elif reason in _SAID:
            self._refuse(reason)
        elif not self.transport.is_closing():
            self._count(reason)
            self.transport.close()

    def _sight(self) -> Sight:
        waiting = self.transport.get_write_buffer_size()
        if self._over or self.transport.is_closing():
            return Sight(Phase.OVER if not waiting else Phase.ANSWER, self._requests, -waiting)
        if waiting:
            return Sight(Phase.ANSWER, self._requests, self._sent + self.transport.written - waiting)
        return Sight(self._phase(), self._requests, self._received)

    def _phase(self) -> Phase:
        cycle = self.cycle
        if self.flow.read_paused:  # a body that nobody asks for yet
            return Phase.WORK
        if self._in_head:
            return Phase.HEAD
        if cycle is None:
            return Phase.NEW
        if cycle.more_body:
            return Phase.PASSED if cycle is self._passed_on else Phase.BODY
        return Phase.IDLE if cycle.response_complete else Phase.WORK

    def _stop(self, reason: str) -> None:
        """Refuse from within the parser, and leave it."""
        self._refuse(reason)
        raise httptools.HttpParserError(reason)

    def _refuse(self, reason: str) -> None:
        """End the connection, with an answer where none was begun.

        What the sender still writes is read and dropped until the next looks: closed at once, with bytes unread, the
        connection would be reset and the answer lost.
        """
        self._count(reason)
        self._over = True
        self._hold(0)
        may_answer = self._may_answer()
        for cycle in (self.cycle, self._answering):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        self.flow.resume_reading()
        if not may_answer or self.transport.is_closing():
            self.transport.close()
            return
        status, message = _SAID[reason]
        retry_after = 1.0 if status == 503 else None
        self.transport.end(last_words(status, reason, message.format(self._limits), retry_after))

    def _may_answer(self) -> bool:
        """Tell whether what is refused is what the next answer on the connection would be about."""
        cycle = self.cycle
        if cycle is None:
            return True
        if cycle is not self._answering:  # earlier ones are still to be answered
            return False
        if cycle.response_complete:
            return self._in_head or not cycle.more_body
        return cycle.more_body and not cycle.response_started and not self._in_head

    def shutdown(self) -> None:
        """Let the server stop."""
        if self._over:
            self.transport.close()
        else:
            super().shutdown()

    @staticmethod
    def _count(reason: str) -> None:
        if reason not in ("IDLE", "OVER"):
            REFUSED.labels(reason.lower()).inc()


def _last_unless_read(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """Return an application whose answer ends the connection if it comes before the sender was told to go on.

    Such a sender sends its body or doesn't, so what follows on the connection may be the body or the next request.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def last(message: Any) -> None:
            if cycle.waiting_for_100_continue:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, last)

    return answer
