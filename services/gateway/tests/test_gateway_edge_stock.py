"""What the edge uses of uvicorn's insides is still there: names, signatures, and the habit that `OneWrite` mends."""

from __future__ import annotations

import ast
import asyncio
import inspect

import pytest
import uvicorn
from trunkline_gateway.edge import front, protocol, stock
from trunkline_gateway.edge.stock import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []

    def write(self, data) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def set_protocol(self, protocol) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def app(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def served() -> tuple[HttpToolsProtocol, Wire, ServerState]:
    """A stock connection that has answered a request."""
    server = stock.StockServer(app, HttpToolsProtocol, 1.0)
    server.config.load()
    connection = HttpToolsProtocol(server.config, server.server_state, {})
    wire = Wire()
    connection.connection_made(wire)
    connection.data_received(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
    await asyncio.gather(*server.server_state.tasks)
    if connection.timeout_keep_alive_task is not None:
        connection.timeout_keep_alive_task.cancel()
    return connection, wire, server.server_state


def attributes(module, *owner: str) -> set[str]:
    """The names that a module reads or sets on `owner`, such as `cycle`, or `self.server_state`."""
    tree = ast.parse(inspect.getsource(module))
    return {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) in owner}


async def test_every_name_that_is_used_is_there():
    connection, _, state = await served()
    tree = ast.parse(inspect.getsource(protocol.EdgeProtocol))
    of_ours = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    of_ours |= {
        n.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and n.attr.startswith("_") and not isinstance(n.ctx, ast.Load)
    }
    used = attributes(protocol, "self") - of_ours
    assert {"cycle", "flow", "pipeline", "scope", "server_state"} <= used, "the test looks where nothing is"
    assert [name for name in sorted(used) if not hasattr(connection, name)] == []
    overridden = {"connection_made", "connection_lost", "data_received", "on_header", "on_headers_complete"}
    overridden |= {"on_body", "on_message_complete", "on_response_complete", "_start_asgi_task", "shutdown"}
    for name in overridden:
        assert name in vars(HttpToolsProtocol), name
        ours, theirs = getattr(protocol.EdgeProtocol, name), getattr(HttpToolsProtocol, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
    of_cycle = attributes(protocol, "cycle") | attributes(stock, "cycle")
    assert [name for name in sorted(of_cycle) if not hasattr(connection.cycle, name)] == []
    assert isinstance(connection.cycle, RequestResponseCycle)
    for owner, there in (("self.server_state", state), ("self.flow", connection.flow)):
        names = attributes(protocol, owner) | attributes(stock, owner)
        assert names
        assert [name for name in sorted(names) if not hasattr(there, name)] == []


async def test_the_server_stops_by_the_names_that_it_is_stopped_by():
    server = stock.StockServer(app, HttpToolsProtocol, 1.0)
    server.config.load()
    assert [n for n in attributes(stock, "self.config") if not hasattr(server.config, n)] == []
    assert server.should_exit is False
    for name in ("on_tick", "shutdown"):
        ours, theirs = getattr(front.HttpServer, name), getattr(uvicorn.Server, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
    assert "capture_signals" in vars(uvicorn.Server)
    server.end_connections_with_answers()
    server.begin_shutdown(0.25)
    assert (server.config.timeout_graceful_shutdown, server.should_exit) == (0.25, True)
    assert (b"connection", b"close") in server.server_state.default_headers


async def test_an_answer_leaves_stock_uvicorn_in_two_writes_which_is_why_ours_are_held():
    connection, wire, state = await served()
    assert len(wire.writes) == 2, "uvicorn writes an answer at once now: OneWrite may go"
    assert wire.writes[0].startswith(b"HTTP/1.1 202 ")
    assert wire.writes[1] == b"ok"
    assert (state.total_requests, connection.cycle.response_complete) == (1, True)
    assert not state.tasks


def test_no_other_module_of_the_gateway_imports_uvicorn(request: pytest.FixtureRequest):
    package = request.path.parent.parent / "trunkline_gateway"
    importing = [
        path.name
        for path in package.rglob("*.py")
        if "import uvicorn" in path.read_text() or "from uvicorn" in path.read_text()
    ]
    assert importing == ["stock.py"]


async def test_a_cycle_is_made_of_what_a_connection_has() -> None:
    connection, _, _ = await served()
    for name in attributes(stock, "protocol"):
        assert hasattr(connection, name), name
    cycle = stock.new_cycle(connection, {"method": "POST"})
    assert (cycle.more_body, cycle.keep_alive, cycle.response_complete, bytes(cycle.body)) == (
        False,
        True,
        False,
        b"",
    )
