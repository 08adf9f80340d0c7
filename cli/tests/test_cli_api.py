"""What a command asks of the gateway's API: it waits where it is told to, for as long as a person would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from trunkline_cli.api import Access, Api
from trunkline_cli.screen import Failure


class Gateway(ThreadingHTTPServer):
    """Refuses so many requests as above the rate, then answers."""

    refuse = 0
    retry_after = "0"
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        self.server.asked += 1
        busy = self.server.asked <= self.server.refuse
        body = b'{"error": {"message": "too many"}}' if busy else b'{"events": []}'
        self.send_response(429 if busy else 200)
        self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def api_of(gateway: Gateway) -> Api:
    return Api(Access(f"http://127.0.0.1:{gateway.server_port}", "tl_key"))


def test_a_command_waits_as_long_as_the_gateway_says(gateway: Gateway) -> None:
    gateway.refuse = 3
    assert api_of(gateway).get("tenants/acme/events") == {"events": []}
    assert gateway.asked == 4


@pytest.mark.parametrize(("retry_after", "asked"), [("0", 11), ("3600", 1)])
def test_a_command_gives_up_on_a_gateway_that_goes_on_refusing(
    gateway: Gateway, retry_after: str, asked: int
) -> None:
    gateway.refuse, gateway.retry_after = 1_000, retry_after
    with pytest.raises(Failure, match=r"too many \(HTTP 429\)"):
        api_of(gateway).get("tenants/acme/events")
    assert gateway.asked == asked
