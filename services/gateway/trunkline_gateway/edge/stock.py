"""The one door to uvicorn: nothing else of the suite imports it, and its insides are named here.

`test_gateway_edge_stock.py` fails when a release of uvicorn moves a name, a signature, or a habit that the edge uses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sized
from typing import Any, cast

import httptools
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = [
    "ASGI3Application",
    "HttpToolsProtocol",
    "OneReadAhead",
    "RequestResponseCycle",
    "StockServer",
    "new_cycle",
    "new_parser",
]


# Uvicorn ticks every tenth of a second.
TICKS_PER_SECOND = 10
# What it takes to see that it is to stop, and to look whether it may.
STOP_SECONDS = 0.3
_CLOSE = (b"connection", b"close")


def new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """Return a parser like the one that a connection of uvicorn's begins with."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def new_cycle(protocol: HttpToolsProtocol, scope: Any) -> RequestResponseCycle:
    """Return the cycle of a request that is complete and keeps its connection, as uvicorn makes it.

    The cycle has no body: the application takes it from the scope.
    """
    cycle = RequestResponseCycle(
        scope=scope,
        transport=protocol.transport,
        flow=protocol.flow,
        logger=protocol.logger,
        access_logger=protocol.access_logger,
        access_log=protocol.access_log,
        default_headers=protocol.server_state.default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=protocol.on_response_complete,
    )
    cycle.more_body = False
    cycle.message_event.set()
    return cycle


class OneReadAhead(FlowControl):
    """Flow control that reads on only when no request waits: uvicorn reads on with every answer and every body."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        """Control `transport`, on which the requests in `waiting` came before earlier ones were answered."""
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless a request waits."""
        if self.read_paused and not self._waiting:
            super().resume_reading()


class StockServer(uvicorn.Server):
    """Uvicorn without its own signal handling: the process has one way to stop, and it is not uvicorn's."""

    def __init__(self, app: Any, protocol: Any, drain_seconds: float) -> None:
        """Serve `app` with connections that `protocol` makes; nothing is bound."""
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                loop="none",
                http=protocol,
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
    def connections(self) -> list[Any]:
        """The connections that are open, each one a protocol."""
        return list(self.server_state.connections)

    def end_connections_with_answers(self) -> None:
        """Let every answer from now on end its connection, also those that are being made."""
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        for connection in self.connections:
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                connection.shutdown()  # not at once: this answer ends it

    def begin_shutdown(self, seconds: float) -> None:
        """Let `serve` end, within `seconds` of it beginning to."""
        # Whole seconds are too coarse here.
        self.config.timeout_graceful_shutdown = cast(int, max(0.0, seconds))
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield
