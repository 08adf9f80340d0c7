"""Uvicorn's HTTP protocol with what a webhook need not pay for left out: writes, timers and messages."""

from __future__ import annotations

import asyncio

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from trunkline_gateway.answers import WHOLE
from trunkline_gateway.one_write import OneWrite


class EdgeProtocol(HttpToolsProtocol):
    """One connection.

    An answer leaves in one write (`OneWrite`). A request's scope has an extension, `answers.WHOLE`: a function
    that takes an answer of known bytes, head and body, and tells whether it could be sent like this. An idle
    connection's timer is armed once and looks for itself how long it has been idle, not once a request.
    """

    transport: OneWrite

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection."""
        self._idle_since: float | None = None
        self._answering: RequestResponseCycle | None = None
        # The same for all requests of the connection: one of a request's own would be a circle, left to the collector.
        self._extensions: dict[str, dict[object, object]] = {WHOLE: {"send": self._answer}}
        super().connection_made(OneWrite(transport))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a connection go."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        self._extensions.clear()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Begin a request; its application runs only after this."""
        super().on_headers_complete()
        self.scope["extensions"] = self._extensions

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _answer(self, answer: bytes) -> bool:
        """Send a whole answer; False, and nothing done, when it takes more than writing it."""
        cycle = self._answering
        if cycle is None or cycle.disconnected or cycle.response_started or self.transport.is_closing():
            return False
        if not cycle.keep_alive or cycle.default_headers or self.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        self.transport.write_whole(answer)
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        """End an answer: one to HEAD has no body to wait for. Then the next request, or waiting for one."""
        self.transport.flush()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection when it has been idle for long enough; else look again when it will have been."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:  # the end of the answer that is being made arms it again
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_again_in(left)
        else:
            super().timeout_keep_alive_handler()

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
