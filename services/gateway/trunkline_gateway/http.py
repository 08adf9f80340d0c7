"""The gateway's HTTP front: one raw ASGI callable that sends each path to its part, and the server under it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from trunkline_runtime.config import ConfigError

from trunkline_gateway.answers import Receive, Scope, Send, refused, text

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """Webhooks first: the hot path is one comparison away."""

    def __init__(self, hooks: AsgiApp, api: AsgiApp, ready: Callable[[], str]):
        """`ready` returns why the gateway is not ready, or an empty string."""
        self._hooks = hooks
        self._api = api
        self._ready = ready

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Send the request to its part; not a coroutine itself, which would be one more a webhook."""
        if scope["path"].startswith("/hooks/") and scope["type"] == "http":
            return self._hooks(scope, receive, send)
        return self._other(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path.startswith("/v1/"):
            await self._api(scope, receive, send)
        elif path == "/healthz":
            await text(send, 200, b"ok\n")
        elif path == "/readyz":
            reason = self._ready()
            await text(send, 503 if reason else 200, (reason or "ok").encode() + b"\n")
        elif path == "/metrics":
            await text(send, 200, generate_latest(), CONTENT_TYPE_LATEST.encode())
        else:
            await refused(
                send, 404, "NO_SUCH_PATH", "there are /hooks/, /v1/, /healthz, /readyz and /metrics"
            )


class HttpServer(uvicorn.Server):
    """Uvicorn without its own signal handling: the process has one way to stop, and it is not uvicorn's."""

    def __init__(self, app: AsgiApp, address: str, drain_seconds: float):
        """Bind at once, so that a port in use is said by name before anything else starts."""
        self.socket = bind(address)
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                loop="none",
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                date_header=False,
                backlog=2048,
                timeout_graceful_shutdown=int(drain_seconds),
            )
        )

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self.socket.getsockname()[1])

    async def run_until_stopped(self) -> None:
        """Serve until `should_exit` is set, then finish what is in flight."""
        await self.serve(sockets=[self.socket])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield


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
