"""The metrics' address: an HTTP endpoint that shows metrics and readiness to operators.

A process serves without it while another program has the port, since webhooks must not be lost over their own metrics
(docs/decisions/0108-metrics-port-in-use.md).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from trunkline_runtime.addresses import split
from trunkline_runtime.config import ConfigError
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.metrics import gauge

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = get_logger(__name__)

MOST_ASKED = 16
"""Connections to the metrics' address at once."""
QUIET_SECONDS = 5.0
"""For how long such a connection may say nothing."""
MOST_SECONDS = 15.0
"""For how long it may last: one that says a byte now and then would keep its place for ever. Prometheus waits 10."""
RETRY_SECONDS = 3.0
"""How often a port in use is tried again."""
_TELL_SECONDS = 600.0
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")

# Whoever else has the port may serve metrics too: Prometheus itself does. An alert compares the name with the target.
PROCESS = gauge("trunkline_process_info", "1; the label says which process shows these metrics.", ["name"])

Ready = Callable[[], tuple[bool, str]]


class MetricsEndpoint:
    """Serves `/metrics` and, in full, `/readyz` from a thread of its own: what operators see and strangers do not.

    Metrics are in OpenMetrics for whoever accepts that, with exemplars: ids of traces that were exported.
    `address`: `host:port`; empty or port 0: none. `process` names the process that shows them, `setting` is where the
    address is set. `ready` says whether the process serves, and why not. A connection that says nothing for
    `quiet_seconds`, or lasts longer than `most_seconds`, is closed. A port in use is logged, and tried again every
    `retry_seconds`; every other reason why the address cannot be served lasts, and is a ConfigError.
    """

    def __init__(
        self,
        address: str,
        process: str,
        setting: str,
        ready: Ready | None = None,
        registry: CollectorRegistry = REGISTRY,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        most_seconds: float = MOST_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._address, self._setting = address, setting
        self._retry_seconds = retry_seconds
        self._changing = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._server: _Server | None = None
        if not address or address.endswith(":0"):
            return
        PROCESS.labels(process).set(1)
        host, port = split(address, setting)
        app = _app(registry, ready)
        self._bind = partial(_Server, host, port, app, quiet_seconds, most_seconds)
        try:
            self._server = self._bind()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"cannot serve metrics on {address}: {error.strerror or error}; set {setting} to move it"
                ) from error
            self._tell(error)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is served, 0 while there is none."""
        return self._server.server_port if self._server is not None else 0

    def close(self) -> None:
        """Stop serving."""
        with self._changing:
            self._closed.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._server = self._thread = None

    def _run(self) -> None:
        if self._server is None:
            self._wait()
        if self._server is not None:
            self._server.serve_forever()

    def _wait(self) -> None:
        """Bind once the port is free, unless it is closed before."""
        began = told = time.monotonic()
        while not self._closed.wait(self._retry_seconds):
            try:
                with self._changing:
                    if self._closed.is_set():
                        return
                    self._server = self._bind()
            except OSError as error:
                if time.monotonic() - told >= _TELL_SECONDS:
                    told = time.monotonic()
                    self._tell(error)
            else:
                waited = round(time.monotonic() - began, 1)
                log.info("metrics_served", address=self._address, waited_seconds=waited)
                return

    def _tell(self, error: OSError) -> None:
        log.error(
            "metrics_not_served",
            address=self._address,
            setting=self._setting,
            reason=error.strerror or str(error),
            retry_seconds=self._retry_seconds,
        )


def _app(registry: CollectorRegistry, ready: Ready | None) -> WSGIApplication:
    metrics = make_wsgi_app(registry)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            shown: Iterable[bytes] = metrics(environ, start_response)
            return shown
        if path != "/readyz" or ready is None:
            start_response("404 Not Found", [_PLAIN])
            return [b"the paths are /metrics and /readyz\n"]
        serving, told = ready()
        status = "200 OK" if serving else "503 Service Unavailable"
        start_response(status, [_PLAIN])
        return [told.encode() + b"\n"]

    return app


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(
        self, host: str, port: int, app: WSGIApplication, quiet_seconds: float, most_seconds: float
    ) -> None:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self._quiet_seconds, self._most_seconds = quiet_seconds, most_seconds
        self._began: dict[Any, float] = {}
        self._places = threading.BoundedSemaphore(MOST_ASKED)
        super().__init__(where, _Quiet)  # type: ignore[arg-type]
        self.set_app(app)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, of which there are only so many: one more is hung up on."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Hang up on who takes too long; called twice a second."""
        too_early = time.monotonic() - self._most_seconds
        for request, began in self._began.copy().items():
            if began < too_early:
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    request.shutdown(socket.SHUT_RDWR)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer who asks in time."""
        request.settimeout(self._quiet_seconds)
        super().finish_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and free the place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._began.pop(request, None)
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of who hangs up, or asks nothing in time."""


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line a scrape helps nobody."""
