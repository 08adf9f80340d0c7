"""Prometheus metrics: declared once, counted on by every RPC, shown by an HTTP endpoint."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    make_wsgi_app,
)
from prometheus_client.metrics import MetricWrapperBase

from trunkline_runtime.addresses import split
from trunkline_runtime.config import ConfigError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

M = TypeVar("M", bound=MetricWrapperBase)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MOST_ASKED = 16
"""Connections to the metrics' address at once."""
QUIET_SECONDS = 5.0
"""For how long such a connection may say nothing."""
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")
_made: dict[str, MetricWrapperBase] = {}
# The moment at which each counter was made would be a series more of each, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


def counter(name: str, doc: str, labels: Sequence[str] = ()) -> Counter:
    """Return the counter of this name, made at the first call; names begin with `trunkline_`."""
    return _once(name, lambda: Counter(name, doc, labels))


def gauge(name: str, doc: str, labels: Sequence[str] = ()) -> Gauge:
    """Return the gauge of this name, made at the first call."""
    return _once(name, lambda: Gauge(name, doc, labels))


def histogram(
    name: str, doc: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
) -> Histogram:
    """Return the histogram of this name, made at the first call; durations are in seconds."""
    return _once(name, lambda: Histogram(name, doc, labels, buckets=buckets))


def _once(name: str, make: Callable[[], M]) -> M:
    if name not in _made:
        _made[name] = make()
    return _made[name]  # type: ignore[return-value]


class RpcMetrics:
    """Counts calls by method and code, and measures how long they take. `side` is `server` or `client`."""

    def __init__(self, side: str) -> None:
        self._calls = counter(
            f"trunkline_rpc_{side}_calls_total", f"RPCs that ended ({side})", ["method", "code"]
        )
        self._seconds = histogram(
            f"trunkline_rpc_{side}_seconds", f"Seconds an RPC took ({side})", ["method"]
        )
        self._in_flight = gauge(f"trunkline_rpc_{side}_in_flight", f"RPCs that run ({side})", ["method"])
        # Looking a child up by its labels costs more than counting on it.
        self._ended: dict[tuple[str, str], Counter] = {}
        self._took: dict[str, tuple[Histogram, Gauge]] = {}

    def began(self, method: str) -> None:
        """Count a call that begins; `method` must be one that exists, so that labels stay bounded."""
        self._of(method)[1].inc()

    def ended(self, method: str, code: str, seconds: float, exemplar: dict[str, str] | None = None) -> None:
        """Count a call that ended; `exemplar` is tracing.exemplar() of it."""
        seconds_of, in_flight = self._of(method)
        in_flight.dec()
        seconds_of.observe(seconds, exemplar)
        key = (method, code)
        if key not in self._ended:
            self._ended[key] = self._calls.labels(method, code)
        self._ended[key].inc()

    def _of(self, method: str) -> tuple[Histogram, Gauge]:
        known = self._took.get(method)
        if known is None:
            known = self._took[method] = (self._seconds.labels(method), self._in_flight.labels(method))
        return known


Ready = Callable[[], tuple[bool, str]]


class MetricsEndpoint:
    """Serves `/metrics` and, in full, `/readyz` from a thread of its own: what operators see and strangers do not.

    Metrics are in OpenMetrics for whoever accepts that, with exemplars: ids of traces that were exported.
    `address`: `host:port`; empty or port 0: none. `ready` says whether the process serves, and why not. A
    connection that says nothing for `quiet_seconds` is closed.
    """

    def __init__(
        self,
        address: str,
        setting: str,
        ready: Ready | None = None,
        registry: CollectorRegistry = REGISTRY,
        *,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self._stop: Callable[[], None] | None = None
        self.port = 0
        if not address or address.endswith(":0"):
            return
        host, port = split(address, setting)
        try:
            family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            server = _Server(family, where, _app(registry, ready), quiet_seconds)
        except OSError as error:
            raise ConfigError(
                f"cannot serve metrics on {address}: {error.strerror or error}; set {setting} to move it"
            ) from error
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join(timeout=5)

        self._stop = stop

    def close(self) -> None:
        """Stop serving."""
        if self._stop is not None:
            self._stop()
            self._stop = None


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

    def __init__(self, family: int, where: Any, app: WSGIApplication, quiet_seconds: float) -> None:
        self.address_family = family
        self._quiet_seconds = quiet_seconds
        self._places = threading.BoundedSemaphore(MOST_ASKED)
        super().__init__(where, _Quiet)
        self.set_app(app)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, of which there are only so many: one more is hung up on."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer who asks in time."""
        request.settimeout(self._quiet_seconds)
        super().finish_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and free the place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of who hangs up, or asks nothing in time."""


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line a scrape helps nobody."""
