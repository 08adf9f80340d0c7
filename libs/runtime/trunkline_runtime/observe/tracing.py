"""Traces: the W3C context goes through every call; spans are exported only where an OTLP endpoint is set.

Without an exporter (exporting.py) a call costs two short strings.
"""

from __future__ import annotations

import contextvars
import os
import random
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_random = random.Random(random.SystemRandom().getrandbits(64))  # noqa: S311 -- ids of traces are no secrets
os.register_at_fork(after_in_child=_random.seed)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where in a trace this task is: ids in hex, flags `01` when sampled."""

    trace_id: str
    span_id: str
    flags: str

    @property
    def traceparent(self) -> str:
        """The W3C header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


class Span(Protocol):
    """What an exporting span lets its owner do."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Add a fact."""

    def failed(self, code: str) -> None:
        """Say that it failed, with the name of the status code."""


class Exporter(Protocol):
    """What the module `otel` implements."""

    def span(self, name: str, kind: str, parent: TraceContext | None, attributes: Mapping[str, Any]) -> Any:
        """Open a span: a context manager that gives a Span."""

    def shutdown(self) -> None:
        """Send what is left."""


_current: contextvars.ContextVar[TraceContext | None] = contextvars.ContextVar(
    "trunkline_trace", default=None
)
_exporter: list[Exporter] = []


def export(exporter: Exporter) -> Callable[[], None]:
    """Export spans through `exporter` from now on; return what ends it."""
    _exporter[:] = [exporter]

    def end() -> None:
        _exporter.clear()
        exporter.shutdown()

    return end


def current() -> TraceContext | None:
    """Return where in a trace this task is."""
    return _current.get()


def enter(context: TraceContext) -> contextvars.Token[TraceContext | None]:
    """Make this the place in the trace for the rest of the task."""
    return _current.set(context)


def leave(token: contextvars.Token[TraceContext | None]) -> None:
    """Go back to the place before `enter`."""
    _current.reset(token)


def trace_id() -> str:
    """Return the id of the trace that this task is in, empty outside of one."""
    place = _current.get()
    return place.trace_id if place is not None else ""


def incoming(traceparent: str | None) -> TraceContext | None:
    """Return the place that a caller's header says, None when it says none that is valid."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    if found is None or found[1] == "0" * 32 or found[2] == "0" * 16:
        return None
    return TraceContext(found[1], found[2], found[3])


def new_trace() -> TraceContext:
    """Return the place at the beginning of a new trace; sampled, so that who exports further down does so."""
    return TraceContext(f"{_random.getrandbits(128) or 1:032x}", new_span_id(), "01")


def new_span_id() -> str:
    """Return a random span id."""
    return f"{_random.getrandbits(64) or 1:016x}"


def server_span(method: str, traceparent: str | None) -> AbstractContextManager[Span | None]:
    """Open the span of a call that is served, in the caller's trace or a new one."""
    parent = incoming(traceparent)
    if not _exporter:
        enter(parent or new_trace())
        return _NO_SPAN
    return _open(method.lstrip("/"), "server", parent, _rpc(method))


def client_span(method: str) -> AbstractContextManager[Span | None]:
    """Open the span of a call that is made."""
    if not _exporter:
        return _NO_SPAN
    return _open(method.lstrip("/"), "client", _current.get(), _rpc(method))


def span(name: str, **attributes: Any) -> AbstractContextManager[Span | None]:
    """Open a span of our own work, such as `with span("stage.transcribe", attempt=2):`; no content."""
    if not _exporter:
        return _NO_SPAN
    return _open(name, "internal", _current.get(), attributes)


def _open(
    name: str, kind: str, parent: TraceContext | None, attributes: Mapping[str, Any]
) -> AbstractContextManager[Span | None]:
    opened: AbstractContextManager[Span | None] = _exporter[0].span(name, kind, parent, attributes)
    return opened


def _rpc(method: str) -> dict[str, str]:
    _, service, name = method.split("/", 2)
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


_NO_SPAN: AbstractContextManager[None] = nullcontext()
