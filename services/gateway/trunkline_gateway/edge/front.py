"""The gateway's HTTP front: one raw ASGI callable that sends each path to its part, and the server under it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import cast

from trunkline_runtime.config import ConfigError
from trunkline_runtime.observe.tallies import tally

from trunkline_gateway.edge.answers import Receive, Scope, Send, refused, text
from trunkline_gateway.edge.limits import EdgeLimits, Register
from trunkline_gateway.edge.listener import refuse_handshakes, room_for
from trunkline_gateway.edge.protocol import EdgeProtocol
from trunkline_gateway.edge.stock import STOP_SECONDS, TICKS_PER_SECOND, StockServer

_LAST_WORD_SECONDS = 0.3
_LOOK_TICKS = TICKS_PER_SECOND // 2

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUESTS = tally(
    "trunkline_http_requests_total", "HTTP requests that began, without those for health.", ["to"]
)


class Front:
    """Webhooks first: the hot path is one comparison away."""

    def __init__(self, hooks: AsgiApp, api: AsgiApp, ready: Callable[[], tuple[bool, str]]):
        """`ready` says whether webhooks may be sent here, and what only an operator should know."""
        self._hooks = hooks
        self._api = api
        self._ready = ready
        self._webhooks, self._calls = REQUESTS.labels("hooks"), REQUESTS.labels("v1")

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Send the request to its part; not a coroutine itself, which would be one more a webhook."""
        if scope["path"].startswith("/hooks/") and scope["type"] == "http":
            self._webhooks.count += 1
            return self._hooks(scope, receive, send)
        return self._other(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path.startswith("/v1/"):
            self._calls.count += 1
            await self._api(scope, receive, send)
        elif path == "/healthz":
            await text(send, 200, b"ok\n")
        elif path == "/readyz":
            # Why is said on the metrics' address: names, paths and amounts are nothing for strangers.
            ready = self._ready()[0]
            await text(send, 200 if ready else 503, b"ok\n" if ready else b"not ready\n")
        else:
            await refused(send, 404, "NO_SUCH_PATH", "the paths are /hooks/, /v1/, /healthz, and /readyz")


class HttpServer(StockServer):
    """The server of one address: bound at once, its connections looked at, and stopped without losing a request."""

    def __init__(
        self,
        app: AsgiApp,
        address: str,
        drain_seconds: float,
        limits: EdgeLimits | None = None,
        protocol: type[asyncio.Protocol] | None = None,
        *,
        last_word_seconds: float = _LAST_WORD_SECONDS,
    ):
        """Bind at once, so that a port in use is said by name before anything else starts.

        `limits` are those of the connections; the echo of the benches brings a `protocol` without any. For
        `last_word_seconds` a connection without a request is kept once no new ones are taken.
        """
        self.socket = bind(address)
        self._last_word_seconds = last_word_seconds
        limits = limits or EdgeLimits()
        limits = replace(limits, connections=min(limits.connections, room_for(limits.connections)))
        if protocol is None:
            protocol = cast(type[asyncio.Protocol], partial(EdgeProtocol, register=Register(limits)))
        super().__init__(app, protocol, drain_seconds)

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self.socket.getsockname()[1])

    async def run_until_stopped(self) -> None:
        """Serve until `stop` is called, then finish what is in flight."""
        await self.serve(sockets=[self.socket])

    async def on_tick(self, counter: int) -> bool:
        """Look at every connection, twice a second: the one timer of all of them."""
        if counter % _LOOK_TICKS == 0:
            now = time.monotonic()
            for connection in self.connections:
                if isinstance(connection, EdgeProtocol):
                    connection.look(now)
        return await super().on_tick(counter)

    async def stop(self, notice_seconds: float, seconds: float) -> None:
        """Begin to stop: `run_until_stopped` ends within `seconds`, of which the first ones serve as before.

        In those, whoever asks for readiness sends new connections elsewhere, and every answer ends its connection.
        """
        began = time.monotonic()
        self.end_connections_with_answers()
        await asyncio.sleep(notice_seconds)
        left = seconds - (time.monotonic() - began) - self._last_word_seconds - STOP_SECONDS
        self.begin_shutdown(left)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, hear those out that were taken, and only then close the idle ones."""
        refuse_handshakes(self.socket)
        # Who stands in the queue is let in, and a request may be on its way over a connection without any yet.
        await asyncio.sleep(self._last_word_seconds)
        await super().shutdown(sockets)


def bind(address: str) -> socket.socket:
    """Return a listening socket. Raises ConfigError that names the address and the setting."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except OSError as error:
        listener.close()
        message = (
            f"cannot listen on {address}: {error.strerror}; set TRUNKLINE_GATEWAY_HTTP_ADDRESS to move it"
        )
        raise ConfigError(message) from error
    return listener
